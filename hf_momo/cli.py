"""The command ``hf-momo``: list the optimizers, run a script with them, sweep over learning rates, push a run."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence

from hf_momo.hub.push import add_push_parser
from hf_momo.optimizers.registry import get_optimizer_info, list_optimizers
from hf_momo.sweep.cli import add_sweep_parser
from hf_momo.utils.errors import UsageError, run_command
from hf_momo.utils.threads import wait_for_idle_threads

_RUN_HELP = """run a script of the Hugging Face Trainer with --optim momo and --optim momo_adam"""
_RUN_DESCRIPTION = """\
Run a script that uses the stock Trainer, or a subclass of it, with the optimizers of hf_momo among its own:

  hf-momo run run_clm.py --optim momo_adam --learning_rate 3e-3 ...
  accelerate launch -m hf_momo run run_clm.py --optim momo_adam ...

Everything after SCRIPT is the script's own. Without --learning_rate the optimizer's default is the cap on its step."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the command's name; those of the process, if left out.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="hf-momo", description="MoMo's adaptive learning rates for Hugging Face.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the optimizers, their defaults and what --optim_args they take")
    listing.set_defaults(func=_list)
    run = commands.add_parser(
        "run", help=_RUN_HELP, description=_RUN_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run.add_argument("-m", "--module", action="store_true", help="SCRIPT is the name of a module, as for python -m")
    run.add_argument("script", metavar="SCRIPT", help="a Python file, or with -m a module")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="arguments of the script")
    run.set_defaults(func=_run)
    add_sweep_parser(commands)
    add_push_parser(commands)
    options = parser.parse_args(arguments)
    return run_command(lambda: options.func(options), f"hf-momo {options.command}: error")


def _list(options: argparse.Namespace) -> int:
    for name in list_optimizers():
        info = get_optimizer_info(name)
        print(f"{name}: {info.description}")
        print("  defaults      " + ", ".join(f"{option}={value!r}" for option, value in info.defaults.items()))
        print("  --optim_args  " + ", ".join(info.optim_args))
    return 0


def _run(options: argparse.Namespace) -> int:
    if not options.module and not os.path.isfile(options.script):
        raise UsageError(f"SCRIPT: got {options.script!r}, must be a Python file (or use -m MODULE)")
    # Only now: `hf-momo list` needs torch alone.
    from hf_momo.trainer.stock import integrate

    integrate()
    sys.argv = [options.script, *options.arguments]
    try:
        if options.module:
            sys.path.insert(0, os.getcwd())
            runpy.run_module(options.script, run_name="__main__", alter_sys=True)
        else:
            # As `python SCRIPT` does, so that the script finds the modules beside it.
            sys.path.insert(0, os.path.dirname(os.path.abspath(options.script)))
            runpy.run_path(options.script, run_name="__main__")
    finally:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            wait_for_idle_threads()
    return 0
