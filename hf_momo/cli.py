"""The command ``hf-momo``: list the optimizers, run a script with them, sweep over learning rates, push a run."""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence

import hf_momo
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
    parser.add_argument("--version", action="version", version=f"hf_momo {hf_momo.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the optimizers, their defaults and what --optim_args they take")
    listing.set_defaults(func=_list)
    run = commands.add_parser(
        "run", help=_RUN_HELP, description=_RUN_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run.add_argument("-m", "--module", action="store_true", help="SCRIPT is the name of a module, as for python -m")
    run.add_argument("script", metavar="SCRIPT", nargs="?", help="a Python file, or with -m a module")
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
    if options.module:
        sys.path.insert(0, os.getcwd())
    elif options.script is not None:
        # As `python SCRIPT` does, so that the script finds the modules beside it.
        sys.path.insert(0, os.path.dirname(os.path.abspath(options.script)))
    _check_script(options.script, options.module)
    # Only now: `hf-momo list` needs torch alone.
    from hf_momo.trainer.command_line import check_optim
    from hf_momo.trainer.stock import integrate

    check_optim(options.arguments)
    integrate()
    sys.argv = [options.script, *options.arguments]
    try:
        if options.module:
            runpy.run_module(options.script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(options.script, run_name="__main__")
    finally:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            wait_for_idle_threads()
    return 0


def _check_script(script: str | None, is_module: bool) -> None:
    if script is None:
        raise UsageError("SCRIPT is missing; usage: hf-momo run [-m] SCRIPT [ARGS ...]")
    if not is_module and not os.path.isfile(script):
        raise UsageError(f"SCRIPT: got {script!r}, must be a Python file (or use -m MODULE)")
    if is_module:
        try:
            found = importlib.util.find_spec(script)
        except (ImportError, ValueError):  # a parent package that is missing, or a name that is none
            found = None
        if found is None:
            raise UsageError(f"-m: got {script!r}, which is not a module that Python can import from here")
