"""The order of the folders: each imports only from those with a lower number, so data flows down once."""

import ast
import sys
from pathlib import Path

import pytest

from hf_momo.optimizers.registry import get_optimizer_info, list_optimizers

PACKAGE = Path(__file__).parent.parent / "hf_momo"

# Folder or file of the package: its number, and what it may import besides the standard library.
LAYERS = {
    "utils": (0, {"matplotlib", "packaging", "safetensors", "yaml"}),
    "estimates.py": (-1, {"torch"}),
    "step_size.py": (0, {"torch"}),
    "sharding.py": (0, {"torch"}),
    "kernels": (0, {"torch", "triton"}),
    "optimizers": (1, {"torch"}),
    "tap": (2, {"torch", "accelerate"}),
    "hub": (
        2,
        {"torch", "huggingface_hub", "matplotlib", "tenacity", "transformers"},
    ),  # transformers for its types only
    "trainer": (3, {"torch", "transformers", "accelerate", "huggingface_hub", "trl"}),
    "sweep": (4, {"filelock", "matplotlib", "optuna", "sqlalchemy", "tenacity", "torch", "tqdm", "transformers"}),
    "children": (5, {"sitecustomize"}),  # the startup file of other processes, and the user's
    "cli.py": (6, set()),
    "integration.py": (5, set()),
    "__init__.py": (5, set()),
    "__main__.py": (7, set()),
}
# What `import hf_momo` loads needs torch alone; accelerate is named there for its types.
CORE = ("estimates.py", "step_size.py", "sharding.py", "kernels", "optimizers")


def files():
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def layer_of(name):
    return LAYERS[name.split("/")[0]]


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


def test_every_file_is_in_a_folder_of_the_table():
    assert {name.split("/")[0] for name in files()} == set(LAYERS)


@pytest.mark.parametrize("name", files())
def test_imports_only_from_lower_folders(name):
    for module in imported_modules(name):
        target = file_of(module)
        if target is None:
            assert not module.startswith("hf_momo"), f"{name} imports {module}, which is no file"
            continue
        same_folder = "/" in name and name.split("/")[0] == target.split("/")[0]
        lower = layer_of(target)[0] < layer_of(name)[0]
        assert lower or same_folder, f"{name} ({layer_of(name)[0]}) imports {target} ({layer_of(target)[0]})"


@pytest.mark.parametrize("name", files())
def test_imports_only_the_packages_of_its_folder(name):
    """The core runs where torch alone is installed."""
    allowed = layer_of(name)[1] | sys.stdlib_module_names | {"hf_momo"}
    assert {module.split(".")[0] for module in imported_modules(name)} <= allowed


@pytest.mark.parametrize("name", CORE)
def test_the_core_is_torch_alone(name):
    assert layer_of(name)[1] <= {"torch", "triton"}


# Files that belong to one method: the constructor and the direction, the halves of Muon, the parts of the wrapper.
METHOD_FILES = {
    *(f"optimizers/{name}.py" for name in list_optimizers()),
    "optimizers/muon_halves.py",
    "optimizers/base_step.py",
    "optimizers/bases.py",
    "optimizers/wrapper_state.py",
}
# Places beside them and the registry that name a method, and why.
NAMED = {
    ("optimizers/conversion.py", "MomoAdam"),  # the public names with "adamw" in them
    ("trainer/arguments.py", "momo_adam"),  # the default of --optim
    # The word for the whole package: a tag of cards, the key of the wrapper's own options, a prefix of classes.
    ("hub/cards/card.py", "momo"),
    ("trainer/base_optimizer.py", "momo"),
    ("trainer/trl.py", "Momo"),
}


def names_of_methods(name):
    """Names and classes of methods that the code of a file names, outside of docstrings, comments and messages."""
    names = {*list_optimizers(), *(get_optimizer_info(each).optimizer_cls.__name__ for each in list_optimizers())}
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        for field in ("id", "attr", "name", "value"):  # variables, attributes, imports, strings
            value = getattr(node, field, None)
            if isinstance(value, str) and value.rpartition(".")[2] in names:
                yield value.rpartition(".")[2]


def test_only_the_files_of_a_method_and_the_registry_name_it():
    """What the rest of the package needs to know of a method, it asks the registry's row or the direction."""
    others = [name for name in files() if name not in METHOD_FILES | {"optimizers/registry.py"}]
    assert {(file, name) for file in others for name in names_of_methods(file)} == NAMED


def test_the_check_sees_a_name(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    lines = ("from a import Momo", "x: hf_momo.MomoLion", "if optim == 'momo_muon': pass", "f('momo_adam is Adam')")
    (tmp_path / "a.py").write_text("\n".join(lines))
    assert set(names_of_methods("a.py")) == {"Momo", "MomoLion", "momo_muon"}


def test_the_check_sees_an_import(tmp_path, monkeypatch):
    """Imports inside functions and of submodules by name are found."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "step_size.py").write_text("def f():\n    from hf_momo import trainer, x\n    import torch.nn\n")
    (tmp_path / "trainer.py").write_text("")
    assert list(imported_modules("step_size.py")) == ["hf_momo.trainer", "hf_momo", "torch.nn"]
