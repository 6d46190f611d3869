"""The image classification recipe, run in this process with small models and data."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import image_classification
import make_model_card
import numpy as np
import pytest
import torch
from PIL import Image
from recipe_runs import ROOT, read_card
from recipes.image_data import images, write_mnist, write_npz
from recipes.launching import curve, launch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from hf_momo.utils.errors import UsageError

CONFIGS = ROOT / "recipes" / "configs"
MNIST = ["--config", CONFIGS / "mnist_mlp.yaml", "--per_device_train_batch_size", "8", "--logging_steps", "1"]
FEW = ["--draw_pictures", "false", "--disable_tqdm", "true"]
RESNET = [
    *("--config", CONFIGS / "cifar10_resnet20.yaml", "--model_config", '{"widths": [4, 8], "depths": [1, 1]}'),
    *("--per_device_train_batch_size", "4", "--logging_steps", "1", *FEW),
]

Recipe = Callable[..., dict[str, Any]]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def losses_of(folder: str) -> list[float]:
    history = read_json(Path(folder, "trainer_state.json"))["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recipe:
    """A function that runs the recipe in ``tmp_path`` and returns its results."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: Any, output: str = "out") -> dict[str, Any]:
        words = [*map(str, arguments), "--output_dir", output]
        monkeypatch.setattr(sys, "argv", ["recipes/image_classification.py", *words])
        image_classification.main()
        results: dict[str, Any] = read_json(Path(output, "all_results.json"))
        return results

    return run


def test_mnist_from_files_to_the_record(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "digits")
    run = [*MNIST, "--data_dir", "digits", "--num_train_epochs", "10", "--per_device_eval_batch_size", "4"]
    results = recipe(*run, "--disable_tqdm", "true")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("accuracy.png", "loss.png", "step_size.png"),
        *("all_results.json", "train_results.json", "eval_results.json", "trainer_state.json", "record.json"),
        *("config.json", "mlp.py", "model.safetensors", "preprocessor_config.json", "training_args.bin"),
        "README.md",
    }
    # Grey levels of 0, 100 and 200 are easy to classify. Incomplete batches are dropped in training only.
    model = AutoModelForImageClassification.from_pretrained("out").eval()
    processor = AutoImageProcessor.from_pretrained("out")
    pixels, labels = images(9, size=28, channels=1, seed=1)
    batch = processor(list(pixels), input_data_format="channels_last", return_tensors="pt")
    with torch.no_grad():
        output = model(batch["pixel_values"], labels=torch.from_numpy(labels))
    assert results["eval_loss"] == pytest.approx(output.loss.item(), rel=1e-4)
    assert results["eval_accuracy"] == (output.logits.argmax(1).numpy() == labels).mean()
    assert results["eval_accuracy"] > 0.5
    record = read_json(tmp_path / "out" / "record.json")
    assert record["task"] == "image-classification"
    (score,) = read_card(tmp_path / "out").data.eval_results
    assert (score.metric_type, score.metric_value) == ("accuracy", round(results["eval_accuracy"], 4))
    assert record["metrics"]["test"] == {"accuracy": results["eval_accuracy"], "loss": results["eval_loss"]}
    assert record["data"] == {
        "name": "digits",
        "splits": {"train": 24, "test": 9},
        "image": [28, 28, 1],
        "classes": 3,
    }
    assert (record["steps"], len(record["curve"]), len(record["evaluations"])) == (30, 30, 10)
    assert record["optimizer"] | {"name": "Momo", "lr": 1.0, "beta": 0.9, "lower_bound": 0.0} == record["optimizer"]
    assert str(tmp_path) not in json.dumps(record)
    words = ["make_model_card.py", "out", "--compare", "out", "--note", "Toy data", "--output", "card"]
    monkeypatch.setattr(sys, "argv", words)
    make_model_card.main()
    assert "- Toy data.\n" in read_card(tmp_path / "card").text
    assert {path.name for path in (tmp_path / "card").iterdir()} == {
        *("README.md", "record.json", "accuracy.png", "loss.png", "step_size.png"),
    }
    with pytest.raises(UsageError, match="--output_dir out holds a finished run; give another, or --overwrite"):
        recipe(*run)
    assert "model, scores and record are in out" in capsys.readouterr().out


def test_sgd_averages_its_gradients_as_momo_does(recipe: Recipe, tmp_path: Path) -> None:
    """With a lower bound that its model never reaches, Momo is SGD with equal momentum and dampening."""
    run = [*MNIST, *FEW, "--data_dir", write_mnist(tmp_path / "digits"), "--num_train_epochs", "2"]
    recipe(*run, "--optim", "momo", "--optim_args", "lower_bound=-1e12", "--learning_rate", "0.1", output="momo")
    recipe(*run, "--optim", "sgd", "--learning_rate", "0.1", output="sgd")
    recipe(*run, "--optim", "sgd", "--learning_rate", "0.1", "--sgd_dampening", "0", output="other")
    momo, sgd, other = (load_file(Path(name, "model.safetensors")) for name in ("momo", "sgd", "other"))
    for name, weight in momo.items():
        torch.testing.assert_close(sgd[name], weight, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(other["classifier.bias"], momo["classifier.bias"], atol=1e-3)
    settings = read_json(Path("sgd", "record.json"))["optimizer"]
    assert (settings["name"], settings["momentum"], settings["dampening"]) == ("SGD", 0.9, 0.9)


def test_a_diverging_run_ends_with_a_result(recipe: Recipe, tmp_path: Path) -> None:
    run = [*MNIST, *FEW, "--data_dir", write_mnist(tmp_path / "digits"), "--num_train_epochs", "20"]
    results = recipe(*run, "--optim", "sgd", "--learning_rate", "1e6")
    # All images are classified as class 0, and a third of them are.
    assert results["eval_accuracy"] == pytest.approx(1 / 3) and math.isnan(results["eval_loss"])
    history = read_json(Path("out", "trainer_state.json"))["log_history"]
    assert math.isnan([entry for entry in history if "loss" in entry][-1]["loss"])


def test_a_resumed_run_ends_as_an_unbroken_one(recipe: Recipe, tmp_path: Path) -> None:
    """A run with random crops and mirrored images is resumed in the middle of an epoch."""
    run = [*RESNET, "--data_dir", write_npz(tmp_path / "a.npz"), "--num_train_epochs", "3"]
    saving = ["--save_strategy", "steps", "--save_steps", "4", "--save_total_limit", "9"]
    recipe(*run, *saving, output="unbroken")
    recipe(*run, *saving, "--resume_from_checkpoint", Path("unbroken", "checkpoint-8"), output="resumed")
    unbroken, resumed = (load_file(Path(name, "model.safetensors")) for name in ("unbroken", "resumed"))
    assert all(torch.equal(resumed[name], weight) for name, weight in unbroken.items())
    losses = [losses_of(name) for name in ("unbroken", "resumed")]
    assert len(losses[0]) == 18 and losses[0] == losses[1]
    recipe(*run, "--save_strategy", "no", "--crop_padding", "0", "--horizontal_flip", "false", output="plain")
    plain = load_file(Path("plain", "model.safetensors"))
    assert not torch.equal(plain["classifier.bias"], unbroken["classifier.bias"])


def test_true_resumes_from_the_last_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    """``--resume_from_checkpoint true`` was taken for a path, and the run ended with a traceback."""
    run = [
        *MNIST,
        *FEW,
        "--data_dir",
        write_mnist(tmp_path / "digits"),
        "--save_strategy",
        "steps",
        "--save_steps",
        "2",
    ]
    recipe(*run, "--max_steps", "6")
    whole = losses_of("out")
    shutil.rmtree(tmp_path / "out" / "checkpoint-6")
    for resumed in ("true", "True"):
        recipe(*run, "--max_steps", "6", "--overwrite", "--resume_from_checkpoint", resumed)
        assert losses_of("out") == whole
    recipe(*run, "--max_steps", "6", "--overwrite", "--resume_from_checkpoint", "false")
    assert losses_of("out") == whole


def test_two_processes_are_one(recipe: Recipe, tmp_path: Path) -> None:
    """Random crops and mirrored images, and a number of test images that is odd, on two processes."""
    model = ["--model_type", "image_mlp", "--model_config", '{"hidden_sizes": [16]}', "--learning_rate", "1e-2"]
    run = [*RESNET, *model, "--data_dir", write_npz(tmp_path / "a.npz"), "--num_train_epochs", "2"]
    run += ["--save_strategy", "no", "--per_device_eval_batch_size", "4", "--use_cpu"]
    alone = recipe(*run, "--per_device_train_batch_size", "8", output="alone")
    script = ROOT / "recipes" / "image_classification.py"
    launch("ddp", script, *run, "--output_dir", "together", cwd=tmp_path)
    losses = [curve(tmp_path / name, "loss") for name in ("together", "alone")]
    assert len(losses[1]) == 6
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    together = read_json(Path("together", "all_results.json"))
    assert together["eval_accuracy"] == alone["eval_accuracy"]
    weights = [load_file(Path(name, "model.safetensors")) for name in ("together", "alone")]
    for name, weight in weights[1].items():
        torch.testing.assert_close(weights[0][name], weight, rtol=1e-4, atol=1e-5)


def test_a_saved_model_is_evaluated_tuned_and_used(recipe: Recipe, tmp_path: Path) -> None:
    classes = np.array(["dark", "grey", "light"])
    data = ["--data_dir", write_npz(tmp_path / "a.npz", classes=classes)]
    run = [*RESNET, *data, "--image_mean", "0.4", "0.4", "0.4", "--image_std", "0.3", "0.3", "0.3"]
    trained = recipe(*run, "--num_train_epochs", "3", "--save_strategy", "no", output="trained")
    # Normalization and type of the model come from the checkpoint.
    evaluation = ["--model_name_or_path", "trained", "--do_eval", *FEW]
    evaluated = recipe(*evaluation, *data, output="evaluated")
    assert evaluated["eval_loss"] == pytest.approx(trained["eval_loss"], rel=1e-5)
    assert evaluated["eval_accuracy"] == trained["eval_accuracy"]
    assert not Path("evaluated", "record.json").exists()
    x_train, y_train = images(24)
    more = write_npz(tmp_path / "b.npz", y_train=y_train % 2, y_test=np.zeros(9, int), x_train=x_train)
    tuning = ["--do_train", "--max_steps", "2", "--learning_rate", "1e-3", "--per_device_train_batch_size", "4"]
    recipe(*evaluation, *tuning, "--data_dir", more, output="tuned")
    assert read_json(Path("tuned", "config.json"))["id2label"] == {"0": "0", "1": "1"}
    classify = pipeline("image-classification", model="trained", trust_remote_code=True)
    pixels, _ = images(3, seed=1)
    labels = [classify(Image.fromarray(picture))[0]["label"] for picture in pixels]
    assert sum(label == name for label, name in zip(labels, classes, strict=True)) >= 2
    with pytest.raises(UsageError, match=r"trained has image_size 32, but the images are 28 x 28 with 1"):
        recipe(*evaluation, "--data_dir", write_mnist(tmp_path / "digits"), output="never")


@pytest.mark.parametrize(
    "name",
    ["mnist_mlp", "cifar10_resnet20", "cifar10_vgg16", "cifar10_vit", "cifar100_resnet110", "imagenet32_resnet18"],
)
def test_configurations_at_smoke_size(recipe: Recipe, tmp_path: Path, name: str) -> None:
    data = write_mnist(tmp_path / "a") if name == "mnist_mlp" else write_npz(tmp_path / "a.npz")
    smoke = ["--max_train_samples", "16", "--max_eval_samples", "8", "--per_device_train_batch_size", "4"]
    end = ["--max_steps", "2", "--save_strategy", "no", "--logging_steps", "1", *FEW]
    results = recipe("--config", CONFIGS / f"{name}.yaml", "--data_dir", data, *smoke, *end)
    assert 0 <= results["eval_accuracy"] <= 1 and results["eval_loss"] > 0
    record = read_json(Path("out", "record.json"))
    assert record["steps"] == 2 and record["data"]["splits"] == {"train": 16, "test": 8}
    bound = 0.9 if name == "imagenet32_resnet18" else 0.0
    assert [record["optimizer"]["lower_bound"], record["curve"][0]["lower_bound"]] == pytest.approx([bound] * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--do_train", "false", "--do_eval", "false", "--eval_strategy", "no"],
            "nothing to do: give --do_train or --do_eval",
        ),
        (
            ["--do_train", "false"],
            "a model from scratch needs --do_train; to evaluate a trained one give --model_name",
        ),
        (
            ["--image_mean", "0.1", "0.2"],
            "--image_mean and --image_std have 2 and 1 values, but the images 1 channels",
        ),
        (["--model_name_or_path", "digits"], "--model_name_or_path digits could not be loaded"),
        (["--sgd_momentum", "1.5"], "--sgd_momentum 1.5 must be from 0 to 1"),
        (["--crop_padding", "-1"], r"--crop_padding -1 must be 0 \(no crops\) or more"),
        (["--output_dir", "a.txt"], "--output_dir a.txt is a file; give a folder"),
        (["--output_dir", "a.txt/run"], r"--output_dir a\.txt/run: .*/a\.txt is a file; give a folder"),
        (["--resume_from_checkpoint", "true"], "--resume_from_checkpoint true: --output_dir out holds no checkpoint"),
        (["--resume_from_checkpoint", "nowhere"], "--resume_from_checkpoint nowhere is not a folder; give the folder"),
        (["--model_typo", "x"], r"--model_typo is not a setting \(did you mean --model_type\?\)"),
    ],
)
def test_refused_before_training(recipe: Recipe, tmp_path: Path, arguments: list[str], message: str) -> None:
    write_mnist(tmp_path / "digits")
    (tmp_path / "a.txt").write_text("x")
    output = next((each for each in arguments if each.startswith("a.txt")), "out")
    with pytest.raises(UsageError, match=message):
        recipe(*MNIST, *FEW, "--data_dir", "digits", *arguments, output=output)
    assert not (tmp_path / "out").exists()


def test_mean_and_deviation_go_together(recipe: Recipe, tmp_path: Path) -> None:
    data = ["--data_dir", write_npz(tmp_path / "a.npz")]
    with pytest.raises(UsageError, match="--image_mean and --image_std go together; give both, or neither"):
        recipe("--do_train", "--image_mean", "0.5", "0.5", "0.5", *data)
