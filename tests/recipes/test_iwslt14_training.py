"""The IWSLT14 configuration at the size of a smoke test: prepared data, both scores, the mean of the checkpoints."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import prepare_iwslt14
import pytest
import sacrebleu
import torch
import translation
from recipe_runs import ROOT
from recipes.iwslt14_archive import TEST, write_folder
from safetensors.torch import load_file

from hf_momo.utils.errors import UsageError
from machine_translation.moses import MosesText, lowercase

CONFIG = ROOT / "recipes" / "configs" / "iwslt14_de_en.yaml"
SMOKE = [
    *("--d_model", "32", "--encoder_layers", "1", "--decoder_layers", "1", "--encoder_ffn_dim", "32"),
    *("--decoder_ffn_dim", "32", "--max_tokens_per_batch", "400", "--max_target_length", "24", "--num_beams", "2"),
    *("--num_train_epochs", "3", "--warmup_steps", "2", "--learning_rate", "1e-2", "--logging_steps", "2"),
    *("--average_checkpoints", "2", "--use_cpu", "--disable_tqdm", "true"),
]
# The step of a checkpoint that another training left in the folder.
OTHER_STEP = 8


def run(monkeypatch: pytest.MonkeyPatch, data: Path, output: Path, *more: str) -> None:
    files = [
        f"--{name}_file={data / file}.de"
        for name, file in {"train": "train", "validation": "valid", "test": "test"}.items()
    ]
    arguments = ["--config", str(CONFIG), *files, *SMOKE, "--output_dir", str(output), *more]
    monkeypatch.setattr(sys, "argv", ["recipes/translation.py", *arguments])
    translation.main()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with prepared data and a finished run, whose folder held a checkpoint of another run."""
    folder = tmp_path_factory.mktemp("iwslt14")
    source = write_folder(folder / "source")
    prepare_iwslt14.main(["--archive", str(source), "--output_dir", str(folder / "data"), "--quiet"])
    other = folder / "run" / f"checkpoint-{OTHER_STEP}"
    other.mkdir(parents=True)
    (other / "trainer_state.json").write_text(json.dumps({"log_history": [{"loss": 1.0, "step": 2}]}))
    (other / "model.safetensors").write_bytes(b"never read")
    with pytest.MonkeyPatch.context() as patch:
        run(patch, folder / "data", folder / "run", "--tokenizer_name", str(folder / "data" / "tokenizer"))
    return folder


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_the_model_is_the_mean_of_the_last_checkpoints_of_its_own_training(workplace: Path) -> None:
    record = read_json(workplace / "run" / "record.json")
    per_epoch = record["steps"] // 3
    assert per_epoch * 3 == record["steps"] > 6
    # The other run's checkpoint lies between the two.
    assert 2 * per_epoch < OTHER_STEP < record["steps"]
    assert record["averaged_checkpoints"] == [2 * per_epoch, 3 * per_epoch]
    last = [load_file(workplace / "run" / f"checkpoint-{per_epoch * epoch}" / "model.safetensors") for epoch in (2, 3)]
    saved = load_file(workplace / "run" / "model.safetensors")
    assert saved.keys() == last[0].keys()
    for name, weight in saved.items():
        torch.testing.assert_close(weight, (last[0][name] + last[1][name]) / 2)
    assert any(not torch.equal(saved[name], last[1][name]) for name in saved)


def test_both_scores_are_what_they_say(workplace: Path) -> None:
    scores = read_json(workplace / "run" / "record.json")["metrics"]["test"]
    references = [english for _, english in TEST]
    tokenized = lines_of(workplace / "run" / "generated_predictions.tokenized.txt")
    text = lines_of(workplace / "run" / "generated_predictions.txt")
    moses = MosesText("en")
    assert text == [moses.detokenize(line) for line in tokenized]
    plain = sacrebleu.corpus_bleu(text, [[moses.detokenize(line) for line in references]])
    assert scores["bleu"] == pytest.approx(plain.score)
    assert "|case:mixed|eff:no|tok:13a|" in scores["signature"]
    literature = sacrebleu.corpus_bleu(tokenized, [references], tokenize="none", lowercase=True, force=True)
    assert scores["bleu_tokenized_lowercased"] == pytest.approx(literature.score)
    assert "|case:lc|eff:no|tok:none|" in scores["bleu_tokenized_lowercased_signature"]
    # Each validation during training has both, too.
    evaluations = read_json(workplace / "run" / "record.json")["evaluations"]
    assert len(evaluations) == 3
    assert all({"eval_bleu", "eval_bleu_tokenized_lowercased"} <= set(entry) for entry in evaluations)


def test_the_bound_is_that_of_smoothed_targets_and_the_vocabulary_the_prepared_one(workplace: Path) -> None:
    record = read_json(workplace / "run" / "record.json")
    vocabulary = read_json(workplace / "data" / "preparation.json")["bpe"]["vocabulary"]
    assert read_json(workplace / "run" / "config.json")["vocab_size"] == vocabulary
    share = 0.1 / vocabulary
    target = torch.full((vocabulary,), share).double()
    target[0] += 0.9
    entropy = -(target * target.log()).sum().item()
    assert all(entry["lower_bound"] == pytest.approx(entropy, abs=1e-3) for entry in record["curve"])


def test_detokenizing_gives_text_that_tokenizes_to_the_same() -> None:
    for language, side in (("de", 0), ("en", 1)):
        moses = MosesText(language)
        for pair in TEST:
            assert lowercase(moses.tokenize(moses.detokenize(pair[side]))) == pair[side]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--average_checkpoints", "0"], "--average_checkpoints 0 must be at least 1"),
        (["--save_strategy", "no"], "--average_checkpoints 2 needs checkpoints"),
        (["--save_total_limit", "1"], "--save_total_limit 1 keeps"),
        (["--load_best_model_at_end"], "choose one"),
        (["--tokenizer_name", "nowhere"], "--tokenizer_name nowhere could not be loaded"),
    ],
)
def test_what_could_not_be_averaged_or_read_is_refused_before_training(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=message):
        run(monkeypatch, workplace / "data", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_fewer_checkpoints_than_asked_for_are_all_averaged(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a tokenizer the recipe learns one of the given size."""
    short = ["--max_steps", "2", "--vocab_size", "120", "--average_checkpoints", "9", "--eval_strategy", "no"]
    run(monkeypatch, workplace / "data", tmp_path / "out", *short, "--do_eval", "false")
    assert read_json(tmp_path / "out" / "record.json")["averaged_checkpoints"] == [2]
    assert read_json(tmp_path / "out" / "config.json")["vocab_size"] == 120


def test_a_run_resumed_within_an_epoch_ends_as_an_unbroken_one(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches by tokens and dropout resume exactly; the checkpoints of both halves are averaged."""
    steps = ["--save_strategy", "steps", "--save_steps", "2", "--max_steps", "6", "--average_checkpoints", "3"]
    only = [*steps, "--eval_strategy", "no", "--do_eval", "false", "--do_predict", "false"]
    prepared = ["--tokenizer_name", str(workplace / "data" / "tokenizer")]
    run(monkeypatch, workplace / "data", tmp_path / "unbroken", *only, *prepared)
    shutil.copytree(tmp_path / "unbroken" / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    run(monkeypatch, workplace / "data", tmp_path / "resumed", *only, *prepared, "--resume_from_checkpoint", "true")
    records = [read_json(tmp_path / name / "record.json") for name in ("unbroken", "resumed")]
    # Step 2 is inside an epoch.
    assert records[0]["steps"] == 3 * records[0]["epochs"]
    assert [record["averaged_checkpoints"] for record in records] == [[2, 4, 6]] * 2
    assert records[0]["curve"] == records[1]["curve"]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "resumed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
