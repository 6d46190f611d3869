"""Run a script of recipes/ unchanged, and record the batches of each process.

    accelerate launch ... tests/recipes/observed.py FOLDER recipes/translation.py [arguments of the script]

Every process writes FOLDER/rankN.json with its batches in the order in which they were collated; each batch is a list
of sentences, as token ids. Two environment variables change where the script runs:

- ``OWN_FOLDERS=true``: every process but the first runs in a folder of its own, FOLDER/rankN, as on machines without a
  shared disk. Files with relative paths are written there.
- ``CPU_FOR_GPU=true``: accelerate treats the CPU as a GPU, so that FSDP and DeepSpeed, which it supports on GPUs only,
  run on the CPU over gloo.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

BATCHES: list[list[list[int]]] = []


def observe() -> None:
    from machine_translation.batching import TranslationCollator

    collate = TranslationCollator.__call__

    def observed(self: TranslationCollator, features: list[dict[str, Any]], *args: Any) -> Any:
        BATCHES.append([list(feature["input_ids"]) for feature in features])
        return collate(self, features, *args)

    TranslationCollator.__call__ = observed  # type: ignore[method-assign]


def take_cpu_for_gpu() -> None:
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)  # type: ignore[method-assign]
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        # This kernel is for CPUs only, and its compilation takes minutes. With import_module, because the attribute
        # deepspeed.comm.torch is PyTorch.
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # type: ignore[attr-defined]


def main(folder: Path, script: str, arguments: list[str]) -> None:
    rank = os.environ.get("RANK", "0")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sys.path[:0] = [str(Path(script).parent), str(Path(__file__).parents[1])]
    from uninitialized import fill_with_nan

    fill_with_nan()
    if os.environ.get("CPU_FOR_GPU") == "true":
        take_cpu_for_gpu()
    if os.environ.get("OWN_FOLDERS") == "true" and rank != "0":
        (folder / f"rank{rank}").mkdir()
        os.chdir(folder / f"rank{rank}")
    observe()
    sys.argv = [script, *arguments]
    with contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    (folder / f"rank{rank}.json").write_text(json.dumps(BATCHES))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
