"""Startup file of the Python processes beneath ``hf-momo run``, so that they train with the optimizers of hf_momo too.

``hf-momo run`` puts this folder first on their ``PYTHONPATH``, where Python looks for a ``sitecustomize`` when it
starts. Two modules of transformers are changed when a process imports them; a process that imports neither loads
nothing of hf_momo. A ``sitecustomize`` of the user runs after this one.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would double the time that a process takes to start
    from importlib.machinery import ModuleSpec
    from typing import Any


class _ChangedAfterImport:
    """Finder that changes two modules of transformers as soon as they are executed."""

    def __init__(self) -> None:
        self.remaining = {"transformers.training_args", "transformers.trainer"}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of one of the two modules, with a loader that changes the module after executing it."""
        if name not in self.remaining:
            return None
        self.remaining.remove(name)
        others: Any = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_and_change(module: Any) -> None:
                execute(module)
                _change(name)

            spec.loader.exec_module = execute_and_change
        return spec


def _change(name: str) -> None:
    try:
        from hf_momo.trainer.stock import integrate_module
        from hf_momo.utils.threads import wait_for_idle_threads

        integrate_module(name)
        if name == "transformers.trainer" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            import atexit

            atexit.register(wait_for_idle_threads)
    except Exception as error:
        # The process may be another Python without hf_momo, and may not train at all, so it goes on.
        what = f"{sys.executable} does not know the optimizers of hf_momo ({type(error).__name__}: {error})"
        print(f"hf-momo run: warning: {what}", file=sys.stderr)


def _import_next_sitecustomize() -> None:
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) != here]
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = ours


if __name__ == "sitecustomize":  # and not under a tool that imports every file of the package
    sys.meta_path.insert(0, _ChangedAfterImport())
    _import_next_sitecustomize()
