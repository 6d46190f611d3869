"""The command ``hf-momo``: list the optimizers, run a program with them, sweep over learning rates, push a run."""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import hf_momo
from hf_momo.hub.push import add_push_parser
from hf_momo.optimizers.registry import get_optimizer_info, list_optimizers
from hf_momo.sweep.cli import add_sweep_parser
from hf_momo.utils.errors import UsageError, run_command
from hf_momo.utils.threads import wait_for_idle_threads

_RUN_HELP = """run a program of the Hugging Face Trainer with the optimizers of hf_momo as --optim"""
_RUN_DESCRIPTION = """\
Run a program that uses the stock Trainer, or a subclass of it, with the optimizers of hf_momo among its own:

  hf-momo run run_clm.py --optim momo_adam --learning_rate 3e-3 ...
  hf-momo run trl sft --optim momo_adam ...
  hf-momo run accelerate launch run_clm.py --optim momo_adam ...

PROGRAM is a Python file, an installed command, or with -m a module. All words after it are its own arguments. Python
processes that it starts know the optimizers too: the folder of a sitecustomize.py of hf_momo comes first on their
PYTHONPATH, and one of your own still runs. --no_children leaves them alone. Without --learning_rate the optimizer's
default is the cap on its step."""


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
    run.add_argument("-m", "--module", action="store_true", help="PROGRAM is the name of a module, as for python -m")
    run.add_argument("--no_children", action="store_true", help="leave the Python processes that PROGRAM starts alone")
    run.add_argument("program", metavar="PROGRAM", nargs="?", help="a file, an installed command, or with -m a module")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="arguments of the program")
    run.set_defaults(func=_run)
    add_sweep_parser(commands)
    add_push_parser(commands)
    options = parser.parse_args(arguments)
    return run_command(lambda: options.func(options), f"hf-momo {options.command}: error")


def _list(options: argparse.Namespace) -> int:
    lines = []
    for name in list_optimizers():
        info = get_optimizer_info(name)
        lines.append(f"{name}: {info.description}")
        lines.append("  defaults      " + ", ".join(f"{option}={value!r}" for option, value in info.defaults.items()))
        lines.append("  --optim_args  " + ", ".join(info.optim_args))
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        # `hf-momo list | head`; without another output Python would fail again when it flushes this one at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(options: argparse.Namespace) -> int:
    if options.program is None:
        raise UsageError("PROGRAM is missing; usage: hf-momo run [-m] [--no_children] PROGRAM [ARGS ...]")
    if options.module:
        sys.path.insert(0, os.getcwd())
        program = _checked_module(options.program)
    else:
        program = _file_of(options.program)
        # As Python itself does, so that a script finds the modules beside it.
        sys.path.insert(0, os.path.dirname(os.path.abspath(program)))
    if not options.no_children:
        _integrate_children()
    try:
        # Only now: `hf-momo list` needs torch alone.
        hf_momo.integrate()
    except ImportError as error:
        raise UsageError(str(error)) from None
    from hf_momo.trainer.command_line import check_optim

    check_optim(options.arguments)
    if not options.module and not _is_python(program):
        if options.no_children:
            raise UsageError(f"--no_children: {program} is not a Python program, so nothing would be changed")
        os.execv(program, [program, *options.arguments])
    sys.argv = [program, *options.arguments]
    try:
        if options.module:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(program, run_name="__main__")
    finally:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            wait_for_idle_threads()
    return 0


def _integrate_children() -> None:
    folders = [str(Path(__file__).with_name("children")), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(folder for folder in folders if folder))


def _file_of(program: str) -> str:
    """Return the file that a path or the name of an installed command stands for."""
    if os.path.isfile(program):
        return program
    beside = os.path.dirname(sys.executable)
    found = shutil.which(program, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise UsageError(
            f"PROGRAM: got {program!r}, must be a file or an installed command (or use -m MODULE); no such command was"
            f" found in {beside} or on the PATH"
        )
    return found


def _is_python(path: str) -> bool:
    if not os.access(path, os.X_OK) or path.endswith(".py"):
        return True
    with open(path, "rb") as file:
        first, second = file.readline(1000), file.readline(1000)
    # What pip writes if the path of the interpreter is too long for the first line begins with sh.
    return first.startswith(b"#!") and (b"python" in first or second.startswith(b"'''exec' "))


def _checked_module(name: str) -> str:
    try:
        found = importlib.util.find_spec(name)
        is_package = found is not None and found.submodule_search_locations is not None
        if is_package and importlib.util.find_spec(f"{name}.__main__") is None:
            raise UsageError(f"-m: got {name!r}, a package without a __main__ module; name one of its modules")
    except (ImportError, ValueError):  # a parent package that is missing, or a name that is none
        found = None
    if found is None:
        raise UsageError(f"-m: got {name!r}, which is not a module that Python can import from here")
    return name
