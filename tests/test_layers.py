"""The layers of the package: a file imports only from a lower one, so that data flows down once."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hf_momo"

# Layer of every file. A new file needs a line here.
LAYERS = {
    "step_size.py": 0,
    "versions.py": 0,
    "threads.py": 0,
    "kernels/__init__.py": 0,
    "kernels/eager.py": 0,
    "kernels/slices.py": 0,
    "kernels/tables.py": 0,
    "kernels/compiler.py": 0,
    "kernels/compiled.py": 0,
    "kernels/triton.py": 0,
    "kernels/triton_code.py": 0,
    "sharding.py": 1,
    "optimizers/__init__.py": 2,
    "optimizers/base.py": 2,
    "optimizers/momo.py": 2,
    "optimizers/momo_adam.py": 2,
    "optimizers/group_tensors.py": 2,
    "optimizers/records.py": 2,
    "optimizers/scalars.py": 2,
    "optimizers/checks.py": 2,
    "optimizers/conversion.py": 2,
    "optimizers/fused.py": 2,
    "registry.py": 3,
    "loss_tap.py": 3,
    "losses.py": 3,
    "backends.py": 4,
    "accelerator.py": 5,
    "checkpoint_files.py": 3,
    "hub_requests.py": 3,
    "run_folder.py": 4,
    "hub.py": 5,
    "checkpoints.py": 5,
    "factory.py": 6,
    "trainer_card.py": 5,
    "trainer.py": 6,
    "integration.py": 7,
    "push.py": 7,
    "cli.py": 8,
    "__main__.py": 9,
    "metrics/__init__.py": 6,
    "metrics/bleu/bleu.py": 6,
    "files.py": 0,
    "run_record.py": 4,
    "model_card/__init__.py": 4,
    "model_card/card.py": 4,
    "model_card/folder.py": 4,
    "model_card/metadata.py": 4,
    "model_card/pictures.py": 4,
    "model_card/results.py": 4,
    "model_card/task.py": 4,
    "model_card/tasks.py": 4,
    "model_card/training.py": 4,
    "model_card/usage.py": 4,
    "model_card/words.py": 4,
    "sweep/__init__.py": 7,
    "sweep/cli.py": 7,
    "sweep/files.py": 7,
    "sweep/grid.py": 7,
    "sweep/guard.py": 7,
    "sweep/pictures.py": 7,
    "sweep/processes.py": 7,
    "sweep/records.py": 7,
    "sweep/report.py": 7,
    "sweep/runs.py": 7,
    "sweep/settings.py": 7,
    "sweep/study.py": 7,
    "sweep/tables.py": 7,
    "__init__.py": 9,
}
# Within a layer the files of one folder import each other.
# What may be imported besides the standard library, by layer, and by file beyond it.
THIRD_PARTY = {layer: {"torch"} for layer in range(10)}
THIRD_PARTY_OF_FILE = {
    "kernels/triton_code.py": {"triton"},
    "accelerator.py": {"accelerate"},  # for its types only, as in factory.py
    "factory.py": {"accelerate"},
    "versions.py": {"packaging"},
    "checkpoints.py": {"transformers"},
    "trainer_card.py": {"huggingface_hub", "transformers"},
    "trainer.py": {"transformers"},
    "integration.py": {"transformers"},
    "hub_requests.py": {"huggingface_hub"},
    "run_folder.py": {"huggingface_hub"},
    "hub.py": {"huggingface_hub", "transformers"},
    "push.py": {"huggingface_hub"},
    "metrics/__init__.py": {"evaluate"},
    "metrics/bleu/bleu.py": {"datasets", "evaluate", "sacrebleu"},
    "model_card/card.py": {"huggingface_hub"},
    "model_card/metadata.py": {"huggingface_hub"},
    "model_card/pictures.py": {"matplotlib"},
    "run_record.py": {"huggingface_hub", "transformers"},  # transformers for its types only
    "sweep/pictures.py": {"matplotlib"},
    "sweep/runs.py": {"tqdm"},
    "sweep/study.py": {"yaml"},
}


def files():
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def imported_modules(name):
    """Dotted names of everything that a file imports, wherever in it; a name imported from a package as its module."""
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                yield node.module if file_of(f"{node.module}.{alias.name}") is None else f"{node.module}.{alias.name}"


def file_of(module):
    """The file of the package that a dotted name stands for, or None."""
    path = "/".join(module.split(".")[1:])
    candidates = [f"{path}.py", f"{path}/__init__.py" if path else "__init__.py"]
    return next((c for c in candidates if module.split(".")[0] == "hf_momo" and (PACKAGE / c).is_file()), None)


def test_every_file_has_a_layer():
    assert files() == sorted(LAYERS)


@pytest.mark.parametrize("name", files())
def test_imports_only_from_lower_layers(name):
    for module in imported_modules(name):
        target = file_of(module)
        if target is None:
            assert not module.startswith("hf_momo"), f"{name} imports {module}, which is no file"
            continue
        same_folder = "/" in name and Path(target).parent == Path(name).parent
        lower = LAYERS[target] < LAYERS[name]
        assert lower or same_folder, f"{name} (layer {LAYERS[name]}) imports {target} (layer {LAYERS[target]})"


@pytest.mark.parametrize("name", files())
def test_imports_only_the_packages_of_its_layer(name):
    """The core runs where torch alone is installed."""
    import sys

    allowed = THIRD_PARTY[LAYERS[name]] | THIRD_PARTY_OF_FILE.get(name, set()) | sys.stdlib_module_names | {"hf_momo"}
    assert {module.split(".")[0] for module in imported_modules(name)} <= allowed


def test_the_check_sees_an_import(tmp_path, monkeypatch):
    """Imports inside functions and of submodules by name are found."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "step_size.py").write_text("def f():\n    from hf_momo import trainer, x\n    import torch.nn\n")
    (tmp_path / "trainer.py").write_text("")
    assert list(imported_modules("step_size.py")) == ["hf_momo.trainer", "hf_momo", "torch.nn"]
