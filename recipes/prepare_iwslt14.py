r"""Prepare IWSLT14 German-English for `translation.py` as the literature does, from the official archive.

    python recipes/prepare_iwslt14.py --archive de-en.tgz --output_dir data/iwslt14

The archive is that of the 2014 evaluation campaign (WIT3, 2014-01/texts/de/en/de-en.tgz; TED talks, CC BY-NC-ND);
`--archive` takes the folder with its files too. It leaves, one sentence a line, Moses-tokenized and lower-cased:

    train.de valid.de test.de    and the same for en: 160,239, 7,283 and 6,750 pairs from the complete archive
    tokenizer/                   joint BPE of 10,000 merges, learned on train, as a tokenizer of transformers
    preparation.json             what was made of what

The tokens are those of Moses' own scripts, so the test split is line for line that of fairseq's prepare-iwslt14.sh.
The merges are learned by the `tokenizers` library, in seconds; of two pairs that are equally frequent it may take the
other one first than subword-nmt does. To have exactly the pieces of an earlier preparation give its file of merges as
`--bpe_codes`. The command for what follows stands in recipes/configs/iwslt14_de_en.yaml.

It may be run again: a finished preparation in `--output_dir` is replaced, and one that was cut off leaves nothing
there.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from hf_momo.utils.errors import UsageError, run_command
from hf_momo.utils.files import write_whole
from machine_translation.iwslt14 import (
    LANGUAGES,
    STANDARD_PAIRS,
    Splits,
    prepare_test,
    prepare_training,
    read_files,
    training_file,
    xml_files,
)
from machine_translation.tokenizer import token_tokenizer, train_token_tokenizer

SUMMARY_NAME = "preparation.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Read, prepare, learn the pieces, write."""
    arguments = parse(argv)
    output: Path = arguments.output_dir
    check_output(output)
    names = [name for language in LANGUAGES for name in (training_file(language), *xml_files(language))]
    files = read_files(arguments.archive, names)
    codes = None if arguments.bpe_codes is None else read_codes(arguments.bpe_codes)
    progress = partial(show_progress, quiet=arguments.quiet)
    splits = prepare_training(files, progress)
    splits["test"] = prepare_test(files, progress)
    if not splits["train"]:
        raise UsageError(f"--archive {arguments.archive}: no pair of train has a length to train on")
    tokenizer = make_tokenizer(splits, arguments.bpe_merges, codes)
    pairs = {split: len(each) for split, each in splits.items()}
    summary = {
        "source": arguments.archive.name,
        "pairs": pairs,
        "standard": pairs == STANDARD_PAIRS,
        "bpe": {"merges": count_merges(tokenizer), "vocabulary": len(tokenizer)},
    }
    write_all(output, splits, tokenizer, summary)
    report(output, summary)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Prepare IWSLT14 German-English as the literature does.")
    parser.add_argument("--archive", type=Path, required=True, help="de-en.tgz, or the folder with its files")
    parser.add_argument("--output_dir", type=Path, required=True, help="where the prepared files go")
    parser.add_argument("--bpe_merges", type=int, default=10_000, help="merges of the BPE (default: %(default)s)")
    parser.add_argument("--bpe_codes", type=Path, help="take these merges (a file of subword-nmt) and learn none")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    arguments = parser.parse_args(argv)
    if arguments.bpe_merges < 1:
        raise UsageError(f"--bpe_merges {arguments.bpe_merges} must be at least 1; the literature takes 10000")
    return arguments


def check_output(output: Path) -> None:
    """Refuse a place that holds something else than an earlier preparation."""
    if output.is_file():
        raise UsageError(f"--output_dir {output} is a file; give a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / SUMMARY_NAME).is_file():
        raise UsageError(f"--output_dir {output} holds other files, which would be replaced; give a new folder")


def read_codes(path: Path) -> list[tuple[str, str]]:
    """The merges in a file of subword-nmt."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--bpe_codes {path} cannot be read: {error}; give a text file of merges") from error
    if lines[0].strip() != "#version: 0.2":
        raise UsageError(f"--bpe_codes {path} must begin with `#version: 0.2`, as subword-nmt writes it")
    merges = [tuple(line.split(" ")) for line in lines[1:] if line]
    if bad := [merge for merge in merges if len(merge) != 2]:
        raise UsageError(f"--bpe_codes {path}: {' '.join(bad[0])!r} is not a pair of pieces")
    return [(first, second) for first, second in merges]


def make_tokenizer(splits: Splits, merges: int, codes: Sequence[tuple[str, str]] | None) -> PreTrainedTokenizerFast:
    """The joint vocabulary of both languages: of given merges, or of as many learned from train."""
    sentences = [side for pair in splits["train"] for side in pair]
    if codes is not None:
        return token_tokenizer(codes, set("".join(sentences)) - {" "})
    return train_token_tokenizer(sentences, merges=merges)


def count_merges(tokenizer: PreTrainedTokenizerFast) -> int:
    """How many merges a tokenizer has; a small text has no more pairs to merge than it has."""
    return len(json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"])


def write_all(output: Path, splits: Splits, tokenizer: PreTrainedTokenizerFast, summary: dict[str, Any]) -> None:
    """Write everything beside the output folder, and put it there when it is complete."""
    unfinished = output.with_name(f".{output.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for split, pairs in splits.items():
        for language, side in zip(LANGUAGES, zip(*pairs, strict=True) if pairs else ((), ()), strict=True):
            write_whole(unfinished / f"{split}.{language}", "".join(f"{sentence}\n" for sentence in side))
    tokenizer.save_pretrained(unfinished / "tokenizer")
    write_whole(unfinished / SUMMARY_NAME, json.dumps(summary, indent=2) + "\n")
    if output.exists():
        shutil.rmtree(output)
    unfinished.rename(output)


def show_progress(name: str, sentences: Sequence[str], *, quiet: bool) -> Iterable[str]:
    """A bar over the sentences."""
    bar: Iterable[str] = tqdm(sentences, desc=name, unit=" sentences", disable=quiet)
    return bar


def report(output: Path, summary: dict[str, Any]) -> None:
    """Say what was made, and where it is not what the literature has."""
    for split, count in summary["pairs"].items():
        expected = STANDARD_PAIRS[split]
        remark = "" if count == expected else f", and not the {expected:,} of the standard preparation"
        print(f"{split}: {count:,} pairs{remark}")
    if not summary["standard"]:
        print("warning: scores on this data cannot be set beside the literature's; is the archive complete?")
    print(f"BPE: {summary['bpe']['merges']:,} merges, vocabulary of {summary['bpe']['vocabulary']:,} pieces")
    print(f"prepared data is in {output}")


if __name__ == "__main__":
    sys.exit(run_command(main))
