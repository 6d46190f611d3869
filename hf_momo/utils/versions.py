"""The oldest supported releases of transformers and accelerate, checked on import and not deep in a run."""

from __future__ import annotations

from importlib import import_module

# The bounds of the extras `trainer` and `test` in pyproject.toml, which a test compares with these; `make test-oldest`
# installs the lowest version of all that the extra `test-core` names.
OLDEST = {"transformers": "4.57.1", "accelerate": "1.10.0", "deepspeed": "0.19.8"}


def check_version(package: str) -> None:
    """Raise an error if the installed release of a package is older than the oldest supported one.

    A development build (``4.57.1.dev0``) counts as its release.

    Args:
        package: A key of ``OLDEST``.

    Raises:
        ImportError: If the installed release is too old.
    """
    found, oldest = import_module(package).__version__, OLDEST[package]
    if _release(found) < _release(oldest):
        raise ImportError(
            f"{package} {found} is installed, but hf_momo needs {package} {oldest} or later; upgrade it with:"
            f" pip install --upgrade '{package}>={oldest}'"
        )


def _release(version: str) -> tuple[int, ...]:
    # Imported late: transformers and accelerate depend on packaging, but `import hf_momo` needs torch alone.
    from packaging.version import Version

    return Version(version).release
