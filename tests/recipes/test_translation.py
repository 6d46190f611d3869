"""The translation recipe from the data to the pipeline, with small models and data."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sacrebleu
import translation
from huggingface_hub import ModelCard
from recipe_runs import DEMO_CONFIG, PAIRS, ROOT, TINY, read_card, run_script, write_json_lines, write_sides
from recipes.launching import read_json

from machine_translation.arguments import DataArguments
from machine_translation.corpus import load_corpus

CONFIGS = ROOT / "recipes" / "configs"
ARTEFACTS = {
    "all_results.json",
    "bleu.png",
    "config.json",
    "generated_predictions.txt",
    "generation_config.json",
    "loss.png",
    "model.safetensors",
    "predict_results.json",
    "record.json",
    "step_size.png",
    "tokenizer.json",
    "tokenizer_config.json",
    "train_results.json",
    "trainer_state.json",
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a small model was trained as runs/momo_adam."""
    folder = tmp_path_factory.mktemp("workplace")
    steps = ["--max_steps", "6", "--eval_steps", "3", "--warmup_steps", "2"]
    done = run_script(
        "translation.py", "--config", DEMO_CONFIG, *TINY, *steps, "--output_dir", "runs/momo_adam", cwd=folder
    )
    (folder / "stdout.txt").write_text(done.stdout)
    yield folder


@pytest.mark.parametrize("loss_only", [False, True])
def test_multi30k_at_smoke_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss_only: bool) -> None:
    stems = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
    files = [f"--{split}_file={write_sides(tmp_path, stem, '.gz')}" for split, stem in stems.items()]
    smoke = ["--max_steps", "6", "--warmup_steps", "2", "--use_cpu", "--disable_tqdm", "true"]
    arguments = [
        "--config",
        str(CONFIGS / "multi30k.yaml"),
        *files,
        *TINY,
        *smoke,
        *(["--prediction_loss_only", "true"] if loss_only else []),
        "--output_dir",
        str(tmp_path / "run"),
    ]
    monkeypatch.setattr(sys, "argv", ["recipes/translation.py", *arguments])
    translation.main()
    record = read_json(tmp_path / "run" / "record.json")
    assert (record["steps"], record["model"]["type"]) == (6, "m2m_100")
    assert record["metrics"]["test"]["loss"] > 0.0
    assert loss_only or record["metrics"]["test"]["bleu"] >= 0.0
    assert ("bleu" in record["metrics"]["test"]) is not loss_only


def test_what_a_run_leaves(workplace: Path) -> None:
    run = workplace / "runs" / "momo_adam"
    assert {path.name for path in run.iterdir()} >= ARTEFACTS
    assert not list(run.glob(".*"))
    assert read_card(run).data.model_name == "momo_adam"
    assert {path.name for path in workplace.iterdir()} == {"runs", "stdout.txt"}


def test_predictions_and_scores_agree(workplace: Path) -> None:
    run = workplace / "runs" / "momo_adam"
    record, results = read_json(run / "record.json"), read_json(run / "all_results.json")
    data = DataArguments(source_lang="de", target_lang="en", dataset_name="embedded", max_predict_samples=12)
    references = [pair["en"] for pair in load_corpus(data, ["test"])["test"]["translation"]]
    predictions = (run / "generated_predictions.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(predictions) == len(references) == 12
    test = record["metrics"]["test"]
    assert test["bleu"] == pytest.approx(sacrebleu.corpus_bleu(predictions, [references]).score, abs=1e-9)
    assert test["chrf"] == pytest.approx(sacrebleu.corpus_chrf(predictions, [references]).score, abs=1e-9)
    assert test["bleu"] == pytest.approx(results["predict_bleu"])
    assert test["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert len(record["samples"]) == 5
    assert all(sample["translation"] in predictions for sample in record["samples"])
    stdout = (workplace / "stdout.txt").read_text()
    assert test["signature"] in stdout
    assert record["samples"][0]["source"] in stdout


def test_record_holds_the_run_and_no_path_of_the_machine(workplace: Path) -> None:
    text = (workplace / "runs" / "momo_adam" / "record.json").read_text(encoding="utf-8")
    assert str(workplace) not in text
    assert str(ROOT) not in text
    record = json.loads(text)
    assert record["command"].startswith("python recipes/translation.py --config configs/demo.yaml --d_model 32 ")
    assert (record["steps"], record["seed"], record["model"]["type"]) == (6, 42, "m2m_100")
    assert record["settings"]["training"]["optim"] == "momo_adam"
    assert record["settings"]["data"]["max_train_samples"] == record["data"]["pairs"]["train"] == 400
    assert record["optimizer"] | {"name": "MomoAdam", "betas": [0.9, 0.98], "lower_bound": 0.0} == record["optimizer"]
    assert {"torch", "transformers", "accelerate", "hf_momo", "python"} <= set(record["versions"])
    assert [entry["step"] for entry in record["curve"]] == [2, 4, 6]
    assert all({"loss", "step_size", "lower_bound", "step_capped"} <= set(entry) for entry in record["curve"])
    assert [entry["step"] for entry in record["evaluations"]] == [3, 6]
    assert all("eval_bleu" in entry for entry in record["evaluations"])


def test_saved_model_translates_in_a_fresh_process(workplace: Path, tmp_path: Path) -> None:
    script = """
import sys
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline
folder, sentences = sys.argv[1], sys.argv[2:]
translate = pipeline("translation", model=folder, trust_remote_code=True)
tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
for sentence, result in zip(sentences, translate(sentences), strict=True):
    output = model.generate(**tokenizer(sentence, return_tensors="pt"))
    assert result == {"translation_text": tokenizer.decode(output[0], skip_special_tokens=True)}, result
    assert translate(sentence) == [result]
assert len(translate(sentences[0], num_beams=3, num_return_sequences=3)) == 3
assert [len(each) for each in translate(sentences, num_beams=2, num_return_sequences=2, batch_size=2)] == [2, 2]
print("translated", model.generation_config.num_beams)
"""
    folder = workplace / "runs" / "momo_adam"
    command = [sys.executable, "-c", script, str(folder), "Der Hund schläft.", "Die Frau liest ein Buch."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("translated 2")


def test_fine_tuning_with_token_batches_smoothing_and_momo(workplace: Path) -> None:
    file = write_json_lines(workplace, "pairs.jsonl")
    data = ["--train_file", file, "--test_file", file, "--source_lang", "de", "--target_lang", "en"]
    training = ["--optim", "momo", "--label_smoothing_factor", "0.1", "--optim_args", "lower_bound=auto"]
    batches = [
        "--max_tokens_per_batch",
        "60",
        "--num_train_epochs",
        "2",
        "--logging_steps",
        "1",
        "--max_grad_norm",
        "0",
    ]
    model = ["--model_name_or_path", "runs/momo_adam", "--max_target_length", "12", "--output_dir", "runs/tuned"]
    done = run_script(
        "translation.py", *data, *training, *batches, *model, "--do_train", "--do_predict", "--use_cpu", cwd=workplace
    )
    record = read_json(workplace / "runs" / "tuned" / "record.json")
    assert record["optimizer"]["name"] == "Momo"
    assert record["optimizer"]["lr"] == 1.0
    # The entropy of a smoothed target with 400 classes.
    assert record["curve"][0]["lower_bound"] == pytest.approx(0.1 * 5.99 + 0.325, abs=0.01)
    assert record["steps"] > len(PAIRS) / 2
    assert record["data"]["files"] == {"train": "pairs.jsonl", "test": "pairs.jsonl"}
    assert "test: BLEU" in done.stdout


def test_early_stopping_keeps_the_best_checkpoint(workplace: Path) -> None:
    # At this rate nothing changes, so the first evaluation stays the best and the second is the last.
    steps = ["--max_steps", "20", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2"]
    best = ["--load_best_model_at_end", "--metric_for_best_model", "bleu", "--early_stopping_patience", "1"]
    optimizer = ["--optim", "adamw_torch", "--learning_rate", "1e-12"]
    arguments = ["--config", DEMO_CONFIG, *TINY, *steps, *best, *optimizer, "--output_dir", "runs/stopped"]
    run_script("translation.py", *arguments, cwd=workplace)
    state = read_json(workplace / "runs" / "stopped" / "trainer_state.json")
    assert state["global_step"] == 4
    assert state["best_global_step"] == 2


def test_runs_are_compared_and_described(workplace: Path) -> None:
    other = workplace / "runs" / "adamw_torch"
    shutil.copytree(workplace / "runs" / "momo_adam", other)
    record = read_json(other / "record.json")
    record["settings"]["training"]["optim"] = "adamw_torch"
    record["metrics"]["test"]["bleu"] = 12.34
    (other / "record.json").write_text(json.dumps(record))
    done = run_script("compare_runs.py", "runs/momo_adam", "runs/adamw_torch", cwd=workplace)
    lines = done.stdout.splitlines()
    assert sum(line.startswith("source ") for line in lines) == 5
    assert sum(line.startswith("adamw_torch ") for line in lines) == 5 + 1
    assert "12.34" in next(line for line in reversed(lines) if line.startswith("adamw_torch "))
    assert "  runs/comparison.png" in lines
    assert (workplace / "runs" / "comparison.png").stat().st_size > 5000
    # As in a sweep, whose runs are told apart by the folders above: `make demo` compares those.
    for name in ("momo_adam", "adamw_torch"):
        shutil.copytree(workplace / "runs" / name, workplace / "rates" / name / "output")
    done = run_script("compare_runs.py", "rates/momo_adam/output", "rates/adamw_torch/output", cwd=workplace)
    assert sum(line.startswith("adamw_torch 0.003 ") for line in done.stdout.splitlines()) == 5 + 1
    assert "  rates/comparison.png" in done.stdout.splitlines()
    done = run_script("compare_runs.py", *["rates/momo_adam/output"] * 2, cwd=workplace, check=False)
    assert done.returncode == 2 and "RUN: two runs have the same folder's name, optimizer" in done.stderr
    card = ["runs/momo_adam", "--compare", "runs/adamw_torch", "--output", "cards/de-en"]
    run_script("make_model_card.py", *card, cwd=workplace)
    folder = workplace / "cards" / "de-en"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "record.json",
        "loss.png",
        "bleu.png",
        "step_size.png",
    }
    readme = ModelCard((folder / "README.md").read_text(encoding="utf-8"))
    assert readme.data.model_name == "de-en"
    assert "12.34" in readme.text
