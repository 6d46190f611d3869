r"""Prepare IWSLT14 German-English for ``translation.py`` from the official archive, as the literature does.

    python recipes/prepare_iwslt14.py --archive de-en.tgz --output_dir data/iwslt14

The archive is that of the 2014 evaluation campaign (WIT3, 2014-01/texts/de/en/de-en.tgz; TED talks, CC BY-NC-ND).
``--archive`` also takes a folder with its files. The sentences are tokenized as by Moses and lower-cased, one a line:

    train.de valid.de test.de    and the same for en: 160,239, 7,283 and 6,750 pairs from the complete archive
    tokenizer/                   joint BPE of 10,000 merges, learned on train, as a tokenizer of transformers
    preparation.json             the source and the sizes

The tokens are those of Moses' own scripts, so the test split equals that of fairseq's prepare-iwslt14.sh line for
line. The ``tokenizers`` library learns the merges, in seconds; among equally frequent pairs it may choose in another
order than subword-nmt. ``--bpe_codes`` takes the merges of an earlier preparation to get exactly its pieces.
recipes/configs/iwslt14_de_en.yaml has the command that trains on the result.

The script may be run again: it replaces a finished preparation in ``--output_dir``. An interrupted run leaves nothing
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
    """Read the archive, prepare the splits, learn the pieces and write the results."""
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
        raise UsageError(
            f"--archive {arguments.archive}: no pair of train has a length that is trained on; is the archive damaged?"
        )
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
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Prepare IWSLT14 German-English as the literature does.")
    parser.add_argument("--archive", type=Path, required=True, help="de-en.tgz, or the folder with its files")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the prepared files")
    parser.add_argument(
        "--bpe_merges", type=int, default=10_000, help="number of merges of the BPE (default: %(default)s)"
    )
    parser.add_argument("--bpe_codes", type=Path, help="file of merges of subword-nmt to use; none are learned")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    arguments = parser.parse_args(argv)
    if arguments.bpe_merges < 1:
        raise UsageError(f"--bpe_merges {arguments.bpe_merges} must be at least 1; the literature uses 10000")
    return arguments


def check_output(output: Path) -> None:
    """Raise ``UsageError`` if the folder holds anything but an earlier preparation."""
    if output.is_file():
        raise UsageError(f"--output_dir {output} is a file; give a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / SUMMARY_NAME).is_file():
        raise UsageError(f"--output_dir {output} holds other files, which would be replaced; give a new folder")


def read_codes(path: Path) -> list[tuple[str, str]]:
    """Return the merges in a file of subword-nmt."""
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
    """Return the tokenizer of both languages with the given merges, or with as many learned from train."""
    sentences = [side for pair in splits["train"] for side in pair]
    if codes is not None:
        return token_tokenizer(codes, set("".join(sentences)) - {" "})
    return train_token_tokenizer(sentences, merges=merges)


def count_merges(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the number of merges of a tokenizer, which a small text may limit."""
    return len(json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"])


def write_all(output: Path, splits: Splits, tokenizer: PreTrainedTokenizerFast, summary: dict[str, Any]) -> None:
    """Write everything beside the output folder and move it there when it is complete."""
    unfinished = output.with_name(f".{output.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"--output_dir {output} cannot be written ({error.strerror}); give another folder") from error
    for split, pairs in splits.items():
        for language, side in zip(LANGUAGES, zip(*pairs, strict=True) if pairs else ((), ()), strict=True):
            write_whole(unfinished / f"{split}.{language}", "".join(f"{sentence}\n" for sentence in side))
    tokenizer.save_pretrained(unfinished / "tokenizer")
    write_whole(unfinished / SUMMARY_NAME, json.dumps(summary, indent=2) + "\n")
    if output.exists():
        shutil.rmtree(output)
    unfinished.rename(output)


def show_progress(name: str, sentences: Sequence[str], *, quiet: bool) -> Iterable[str]:
    """Yield the sentences under a progress bar."""
    bar: Iterable[str] = tqdm(sentences, desc=name, unit=" sentences", disable=quiet)
    return bar


def report(output: Path, summary: dict[str, Any]) -> None:
    """Print the sizes, and where they differ from those of the literature."""
    for split, count in summary["pairs"].items():
        expected = STANDARD_PAIRS[split]
        remark = "" if count == expected else f", not the {expected:,} of the standard preparation"
        print(f"{split}: {count:,} pairs{remark}")
    if not summary["standard"]:
        print("warning: scores on this data cannot be compared with the literature's; is the archive complete?")
    print(f"BPE: {summary['bpe']['merges']:,} merges, vocabulary of {summary['bpe']['vocabulary']:,} pieces")
    print(f"the prepared data is in {output}")


if __name__ == "__main__":
    sys.exit(run_command(main))
