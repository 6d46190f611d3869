"""The oldest releases that the integrations are right with, refused where they are imported and not deep in a run."""

from __future__ import annotations

from importlib import import_module

# The bounds of the extras `trainer` and `test` in pyproject.toml, which a test compares with these; `make test-oldest`
# runs those of `trainer`.
OLDEST = {"transformers": "4.57.1", "accelerate": "1.10.0", "deepspeed": "0.19.8"}


def check_version(package: str) -> None:
    """Refuse a release of a package that is older than the oldest supported one.

    Builds of a release in the making (``4.57.1.dev0``) count as that release.

    Args:
        package: A key of ``OLDEST`` that can be imported.

    Raises:
        ImportError: Names the version found and the oldest supported one.
    """
    found, oldest = import_module(package).__version__, OLDEST[package]
    if _release(found) < _release(oldest):
        raise ImportError(
            f"{package} {found} is installed, and hf_momo supports {package} from {oldest} on; upgrade it with:"
            f" pip install --upgrade '{package}>={oldest}'"
        )


def _release(version: str) -> tuple[int, ...]:
    # Of transformers and accelerate, whose own dependency it is; `import hf_momo` needs torch alone.
    from packaging.version import Version

    return Version(version).release
