"""Two processes, where the last argument is ``fail`` with an error on the second alone.

Launched as ``accelerate launch --config_file recipes/accelerate/ddp.yaml tests/recipes/agreement.py FOLDER [fail]``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate import PartialState

from common.processes import agree, leave_processes, on_main_process, print_once, use_cpu_without_gpu
from hf_momo.utils.errors import UsageError, run_command


def check() -> int:
    if "fail" in sys.argv and PartialState().process_index == 1:
        raise UsageError("the second process has no data")
    return PartialState().process_index


def main() -> None:
    use_cpu_without_gpu()
    # As the training arguments start it where the variable is set.
    state = PartialState(cpu=True)
    index = agree(check)
    made = on_main_process(lambda: f"made by {PartialState().process_index}")
    print_once("once")
    (Path(sys.argv[1]) / f"rank{index}").write_text(f"{made}, {state.num_processes}")
    leave_processes()


if __name__ == "__main__":
    sys.exit(run_command(main))
