"""The language modelling recipe as a user runs it, at the size of a smoke test, and the text that it is trained on."""

from __future__ import annotations

import gzip
import json
import math
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets.config
import huggingface_hub.constants
import language_modeling
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from datasets import Dataset
from real_data import real_data
from recipe_runs import read_card
from recipes.damage import corrupt
from recipes.launching import ROOT, curve, read_json
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from hf_momo.utils.errors import UsageError
from language_models.arguments import DataArguments
from language_models.corpus import cut_into_blocks, load_texts
from language_models.model import train_tokenizer

CONFIG = ROOT / "recipes" / "configs" / "tiny_lm.yaml"
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
# The size of a smoke test.
TINY = [
    *("--model_config", json.dumps(SIZES), "--vocab_size", "280", "--block_size", "32", "--max_new_tokens", "8"),
    *(
        "--max_steps",
        "8",
        "--warmup_steps",
        "2",
        "--logging_steps",
        "1",
        "--eval_steps",
        "4",
        "--disable_tqdm",
        "true",
    ),
    *("--per_device_train_batch_size", "4", "--learning_rate", "1e-2", "--draw_pictures", "false", "--use_cpu"),
]


def made_up_lines(number: int) -> list[str]:
    """Return lines of words, each of which is followed by one of two others."""
    draw = random.Random(0)
    words = ["hark", "thou", "art", "my", "lord", "and", "noble", "friend", "süß"]
    lines = []
    for _ in range(number):
        place, line = draw.randrange(len(words)), []
        for _ in range(8):
            line.append(words[place])
            place = (place + draw.choice((1, 3))) % len(words)
        lines.append(" ".join(line) + "\n")
    return lines


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "verses.txt"
    path.write_text("".join(made_up_lines(300)), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def fresh_and_offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reset the state that accelerate keeps for a process, here that of another run."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    yield
    reset_accelerate()


def reset_accelerate() -> None:
    GradientState._reset_state()
    AcceleratorState._reset_state(reset_partial_state=True)


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    """Run the recipe in this process, with its configuration at the size of a smoke test."""
    reset_accelerate()
    monkeypatch.setattr(sys, "argv", ["recipes/language_modeling.py", *map(str, ["--config", CONFIG, *TINY, *words])])
    language_modeling.main()


def test_a_run_and_what_it_leaves(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    run(monkeypatch, "--train_file", text, "--output_dir", folder, "--draw_pictures", "true", "--max_steps", "40")
    names = {"all_results.json", "record.json", "trainer_state.json", "model.safetensors", "tokenizer.json"}
    assert {path.name for path in folder.iterdir()} >= names | {"loss.png", "step_size.png", "config.json"}
    scores = {result.metric_type: result.metric_value for result in read_card(folder).data.eval_results}
    record, results = read_json(folder / "record.json"), read_json(folder / "all_results.json")
    assert scores["perplexity"] == round(results["eval_perplexity"], 2)
    assert (record["steps"], record["seed"], record["optimizer"]["name"]) == (40, 42, "MomoAdam")
    # The learning rates of the steps: 2 steps of warm-up, then a cosine that is 0 after the last step.
    rates = [entry["learning_rate"] for entry in record["curve"]]
    assert rates[:3] == pytest.approx([0.0, 5e-3, 1e-2])
    assert rates[2:] == pytest.approx([1e-2 * (0.5 + 0.5 * math.cos(math.pi * step / 38)) for step in range(38)])
    assert [entry["step"] for entry in record["evaluations"]] == list(range(4, 41, 4))
    assert str(tmp_path) not in (folder / "record.json").read_text()
    # It learns: at first all 280 tokens are equally likely.
    assert record["curve"][0]["loss"] == pytest.approx(math.log(280), abs=0.3)
    assert results["eval_loss"] < math.log(280) - 1.5
    assert results["eval_perplexity"] == pytest.approx(math.exp(results["eval_loss"]))
    assert results["eval_loss"] == pytest.approx(record["evaluations"][-1]["eval_loss"], rel=1e-5)
    check_against_the_saved_model(folder, text, record)


def check_against_the_saved_model(folder: Path, text: Path, record: dict[str, Any]) -> None:
    """Loss, bits and sample equal those of the saved model, loaded as users do."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    held_out = "".join(load_texts(DataArguments(train_file=str(text)))["validation"]["text"])
    ids = torch.tensor([token for line in held_out.splitlines(True) for token in tokenizer(line)["input_ids"]])
    blocks = ids[: len(ids) // 32 * 32].reshape(-1, 32)
    with torch.no_grad():
        loss = model(input_ids=blocks, labels=blocks).loss.item()
    metrics = record["metrics"]["validation"]
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)
    bits = loss / math.log(2) * len(ids) / len(held_out.encode())
    assert metrics["bits_per_byte"] == pytest.approx(bits, rel=1e-4)
    (sample,) = record["samples"]
    assert sample["prompt"] == held_out.splitlines()[0]
    generator = pipeline("text-generation", model=str(folder), device="cpu")
    written = generator(sample["prompt"], max_new_tokens=4, do_sample=False)[0]["generated_text"]
    assert written.startswith(sample["prompt"])


def test_with_its_adaptation_switched_off_momo_adam_is_adamw(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--train_file", text, "--gradient_accumulation_steps", "2", "--max_new_tokens", "0"]
    off = ["--optim_args", "lower_bound=-1e12"]
    run(monkeypatch, *words, *off, "--output_dir", tmp_path / "momo_adam")
    run(monkeypatch, *words, "--optim", "adamw_torch", "--output_dir", tmp_path / "adamw")
    assert curve(tmp_path / "momo_adam", "loss") == pytest.approx(curve(tmp_path / "adamw", "loss"), rel=1e-4)
    # The first step of the warm-up has a cap of 0 and does not count as capped.
    assert curve(tmp_path / "momo_adam", "step_capped")[1:] == [1.0] * 7
    assert read_json(tmp_path / "momo_adam" / "record.json")["samples"] == []


def test_a_checkpoint_is_tuned_on_documents(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, tuned = tmp_path / "first", tmp_path / "tuned"
    run(monkeypatch, "--train_file", text, "--output_dir", first)
    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(json.dumps({"body": line * 3}) + "\n" for line in made_up_lines(60)))
    data = ["--train_file", documents, "--validation_file", documents, "--text_column_name", "body"]
    data += ["--model_name_or_path", first, "--output_dir", tuned]
    run(monkeypatch, *data, "--optim", "momo", "--prompt", "hark")
    record = read_json(tuned / "record.json")
    assert record["optimizer"]["name"] == "Momo"
    assert record["samples"][0]["prompt"] == "hark"
    # It starts where the first run ended, not at the entropy of 280 tokens.
    assert record["curve"][0]["loss"] == pytest.approx(read_json(first / "all_results.json")["eval_loss"], abs=0.5)
    with pytest.raises(UsageError, match="holds a finished run; give another, or --overwrite"):
        run(monkeypatch, *data)


REFUSALS = {
    "no text": ([], "give one of --train_file and --dataset_name"),
    "no such file": (["--train_file", "no.txt"], "no.txt does not exist"),
    "another format": (["--train_file", "text.pdf"], "its name must end in .txt, .json, .jsonl, .csv"),
    "a block that is too long": (["--block_size", "5000"], "less than --block_size 5000"),
    "a block of one": (["--block_size", "1"], "--block_size 1: must be 2 or more"),
    "too small a vocabulary": (["--vocab_size", "256"], "--vocab_size 256: must be 257 (bytes alone) or more"),
    "no such model": (["--model_type", "lama"], "the model cannot be created or loaded"),
    "no such setting": (
        ["--model_config", '{"hidden_sise": 8}'],
        "no setting hidden_sise (did you mean hidden_size",
    ),
    "a list of settings": (["--model_config", "[8]"], "must be a JSON object"),
    "too few positions": (["--model_config", '{"max_position_embeddings": 31}'], "the model takes at most 31 tokens"),
    "no such tokenizer": (["--tokenizer_name", "./nowhere"], "no tokenizer can be loaded from ./nowhere"),
    "all held out": (
        ["--validation_split_percentage", "100"],
        "--validation_split_percentage 100.0: must be between 0 and 100",
    ),
    "nothing to do": (["--do_train", "false", "--do_eval", "false", "--eval_strategy", "no"], "nothing to do"),
    "no model": (["--do_train", "false"], "to evaluate a trained one give --model_name_or_path"),
    "an unknown option": (["--optim_args", "bound=1"], "momo_adam has no option 'bound'"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_settings_are_refused_before_training(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    words, message = REFUSALS[name]
    monkeypatch.chdir(tmp_path)
    given = [] if name == "no text" or "--train_file" in words else ["--train_file", text]
    with pytest.raises(UsageError, match=re.escape(message)):
        run(monkeypatch, *given, "--output_dir", "run", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv"])
def test_text_is_read_from_its_format_and_its_end_held_out(tmp_path: Path, name: str) -> None:
    lines = [line.strip() for line in made_up_lines(40)]
    content = {
        "a.jsonl": "".join(json.dumps({"text": line, "n": 1}) + "\n" for line in lines),
        "a.csv": "n,text\n" + "".join(f'1,"{line}"\n' for line in lines),
    }.get(name, "".join(f"{line}\n" for line in lines))
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    texts = load_texts(DataArguments(train_file=str(path), validation_split_percentage=10))
    is_text = ".txt" in name
    assert [*texts["train"]["text"], *texts["validation"]["text"]] == [line + "\n" * is_text for line in lines]
    assert len(texts["validation"]) == 4
    assert set(texts["train"]["is_document"]) == {not is_text}


LINES = "".join(made_up_lines(200)).encode()
UNREADABLE: dict[str, tuple[bytes | None, str]] = {
    "corrupt.txt.gz": (corrupt(gzip.compress(LINES)), "cannot be read"),
    "cut.txt.gz": (gzip.compress(LINES)[:-30], "cannot be read"),
    "plain.txt.gz": (LINES, "cannot be read (Not a gzipped file"),
    "folder.txt": (None, "cannot be read"),
    "latin1.txt": (LINES + b"s\xfc\xdf\n", ", line 201: not UTF-8"),
    "blank.txt": (b"\n \n" * 50, "the text for train is empty or blank"),
    "empty.txt": (b"", "the text for train is empty or blank"),
    "short.txt": (b"one line\n", "none can be held out; give --validation_file"),
    "ragged.csv": (b"text,n\na,1\nb,2,3\n", ", row 2: has not as many fields as the first line"),
    "quote.csv": (b'text\n"a" b\n', ", line 2: not CSV"),
    "cut.jsonl": (b'{"text": "a"}\n{"text": ', ", row 2: not JSON"),
    "number.jsonl": (b'{"text": "a"}\n\n{"text": 5}\n', ", row 2: column text does not hold text, but 5"),
    "missing.jsonl": (b'{"text": "a"}\n{"n": 5}\n', ", row 2: column text does not hold text, but null"),
    "strings.json": (b'["a", "b"]', ', row 1: must be a JSON object, not "a"'),
    "other.json": (b'[{"body": "a"}]', "has no column text; give --text_column_name, one of body"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_are_refused_with_their_row(tmp_path: Path, name: str) -> None:
    """Blank lines ended in StopIteration after training; damaged files in messages of a cache that named no row."""
    content, message = UNREADABLE[name]
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(message)) as raised:
        load_texts(DataArguments(train_file=str(path)))
    assert name in str(raised.value) or "the text for train" in str(raised.value) or "held out" in str(raised.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_is_read_from_any_folder_without_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A folder named ``a[b]`` was taken for a pattern, and a read-only cache stopped the reading of a local file."""
    (tmp_path / "cache").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache" / "none")
    folder = tmp_path / "texts [old]"
    folder.mkdir()
    (folder / "a.txt").write_bytes(LINES.replace(b"\n", end.encode()))
    texts = load_texts(DataArguments(train_file=str(folder / "a.txt")))
    assert "".join([*texts["train"]["text"], *texts["validation"]["text"]]) == LINES.decode()


@pytest.mark.parametrize("value", ["007", "1e5", "true", "None", "NA", "2020-01-01", "x" * 200_000])
def test_text_that_looks_like_another_type_stays_text(tmp_path: Path, value: str) -> None:
    """Columns of digits, booleans or dates became numbers, booleans or dates, and ``None`` was refused."""
    (tmp_path / "a.csv").write_text("text\n" + f"{value}\n" * 30)
    (tmp_path / "a.jsonl").write_text((json.dumps({"text": value}) + "\n") * 30)
    for name in ("a.csv", "a.jsonl"):
        texts = load_texts(DataArguments(train_file=str(tmp_path / name)))
        assert set(texts["train"]["text"]) == {value}


def test_blocks_are_the_text_and_documents_have_an_end() -> None:
    tokenizer = train_tokenizer(made_up_lines(50), 300)
    end = tokenizer.eos_token_id
    rows = {"text": ["hark thou\n", "art\n", "my lord"], "is_document": [False, False, True]}
    ids = [*tokenizer("hark thou\n")["input_ids"], *tokenizer("art\n")["input_ids"]]
    ids += [*tokenizer("my lord")["input_ids"], end]
    blocks = cut_into_blocks(Dataset.from_dict(rows), tokenizer, 3, None, "train")
    assert [each for block in blocks.dataset["input_ids"] for each in block] == ids[: len(ids) // 3 * 3]
    assert blocks.dataset["labels"] == blocks.dataset["input_ids"]
    assert (blocks.num_tokens, blocks.num_bytes) == (len(ids), len("hark thou\nart\nmy lord"))
    assert len(cut_into_blocks(Dataset.from_dict(rows), tokenizer, 3, 1, "train").dataset) == 1


@pytest.mark.parametrize("vocab_size", [257, 280])
def test_the_learned_tokenizer_gives_back_any_text(vocab_size: int) -> None:
    tokenizer = train_tokenizer(made_up_lines(50), vocab_size)
    assert len(tokenizer) == vocab_size
    for written in (" leading, trailing \n\n", "süß 你好 \t é", "", "don 't , do n't"):
        assert tokenizer.decode(tokenizer(written)["input_ids"]) == written


def test_real_text() -> None:
    path = real_data("lm/tinyshakespeare.txt")
    texts = load_texts(DataArguments(train_file=str(path)))
    assert "".join([*texts["train"]["text"], *texts["validation"]["text"]]) == path.read_text()
    assert len("".join(texts["validation"]["text"])) / path.stat().st_size == pytest.approx(0.05, abs=1e-3)
