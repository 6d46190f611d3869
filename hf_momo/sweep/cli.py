"""The command line of ``hf-momo sweep``."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hf_momo.sweep.grid import parse_grid, parse_own_arguments
from hf_momo.sweep.settings import Sweep, check_script, is_greater_better
from hf_momo.sweep.study import apply_study
from hf_momo.utils.errors import UsageError
from hf_momo.utils.files import write_whole

if TYPE_CHECKING:
    from hf_momo.sweep.trials import Study

_USAGE = """\
hf-momo sweep SCRIPT --optim NAMES --learning_rate RATES --metric KEY [options] -- ARGS...
       hf-momo sweep --config STUDY.yaml [options] -- ARGS...
       hf-momo sweep --report FOLDER [--metric KEY] [--storage URL]"""
_DESCRIPTION = """\
Run a script over optimizers, learning rates and seeds, and compare them.

  hf-momo sweep run_translation.py --optim momo_adam,adamw_torch --learning_rate 1e-4:1:decades --seed 0,1,2 \\
      --metric eval_bleu --output_dir sweeps/bleu -- --model_name_or_path t5-small --do_train --do_eval ...

SCRIPT must take --optim, --learning_rate, --seed and --output_dir and write all_results.json to its --output_dir, as
the examples of transformers do. `hf-momo run` starts it, so that it knows the optimizers of hf_momo. The same command
continues the sweep after Ctrl-C, a kill or a power cut, shares the runs with further machines, and adds learning
rates, seeds or optimizers; runs that have ended are not repeated. A run that diverges or crashes is a result. The
report is printed, and written to the folder as report.md, CSV tables and pictures."""
_NEEDED = ("optuna", "sqlalchemy", "filelock", "tenacity", "tqdm", "matplotlib")


class _SweepParser(argparse.ArgumentParser):
    """A parser that leaves everything after ``--`` to the script; argparse expects it right behind SCRIPT."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        end = [*args, "--"].index("--")
        options, unknown = super().parse_known_args(args[:end], namespace)
        options.arguments = [*args[end + 1 :]]
        return options, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message.removeprefix('argument ')}\n")


def add_sweep_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the sub-command ``sweep`` to what ``ArgumentParser.add_subparsers`` returned, and return its parser."""
    named = subparsers.add_parser("sweep", help="compare optimizers over learning rates and seeds with any script")
    layout = argparse.RawDescriptionHelpFormatter
    parser = _SweepParser(named.prog, _USAGE, _DESCRIPTION, formatter_class=layout, allow_abbrev=False)
    subparsers.choices["sweep"] = parser
    _add_arguments(parser)
    parser.set_defaults(func=partial(_main, parser))
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add: Any = parser.add_argument
    several = {"action": "append", "default": []}
    add("script", nargs="?", metavar="SCRIPT", help="a Python file; its arguments come last, after --")
    add("--config", metavar="STUDY.yaml", help="a YAML file with SCRIPT and flags; the command line takes precedence")
    add("--report", metavar="FOLDER", help="only report on the sweep in FOLDER, whether it has ended or not")
    add("--optim", metavar="A,B", help="optimizers, by the names that the Trainer's --optim takes")
    rates = "a list (1e-3,1e-2) or a range: 1e-4:1:decades, 1e-4:1:half-decades, or 1e-4:1:9 for nine points evenly"
    rates += " spaced on a log axis; for a search 1e-4:1. With OPTIM= for that optimizer alone"
    add("--learning_rate", **several, metavar="[OPTIM=]RATES", help=rates)
    add("--seed", metavar="S,T", help="seeds (default: 42, the Trainer's own)")
    add("--grid", **several, metavar="NAME=V,W", help="values of another argument of the script")
    add("--set", **several, metavar="OPTIM:NAME=VALUE", help="an argument of the script for one optimizer alone")
    add("--sampler", metavar="grid|tpe", help="grid (default), or a search in the range by Optuna's TPE")
    add("--trials", type=_count, metavar="N", help="runs of a search for every optimizer and seed")
    add("--metric", metavar="KEY", help="the score: a key of all_results.json, e.g. eval_loss")
    add("--greater_is_better", choices=("true", "false"), help="direction of the metric (default: by its name)")
    add("--output_dir", metavar="FOLDER", help="folder of the sweep (default: sweeps/, then SCRIPT's name)")
    storage = "postgresql://..., sqlite:///... or another storage of Optuna, or the path of a journal"
    add("--storage", metavar="URL", help=f"{storage} (default: a journal in the folder)")
    add("--jobs", type=_count, metavar="N", help="runs at once (default: 1); they share cores and GPUs evenly")
    launcher = 'starts Python, e.g. "accelerate launch --main_process_port 0" (0: a free port for each of --jobs)'
    add("--launcher", type=_command, metavar="COMMAND", help=launcher)
    for name, text in (
        ("plain", "start SCRIPT without `hf-momo run`: it knows its optimizers, or does not use the Trainer"),
        ("resume", "continue interrupted runs from their last checkpoint instead of from the start"),
        ("retry_failed", "repeat runs that crashed or left no metric (not those that diverged)"),
        ("prune", "stop runs that have diverged: the loss in their log stays above its start"),
    ):
        add(f"--{name}", action="store_true", help=text)


def _main(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        return _report_only(options) if options.report is not None else _run(parser, options)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in _NEEDED:
            raise
        raise UsageError(f"a sweep needs {error.name}: install it with: pip install 'hf_momo[sweep]'") from None
    except BrokenPipeError:
        # `| head` has read enough; the files of the report are written before it is printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UsageError(
            f"--output_dir: {where}{error.strerror or error}; give a folder on a disk that can be written to"
        ) from error


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.config is not None:
        options = apply_study(options, Path(options.config), parser)
    sweep = _read_options(options)
    folder = Path(options.output_dir or Path("sweeps", Path(sweep.script).stem))
    # Only here: they need Optuna, matplotlib (found missing before the first run) and the processes of POSIX.
    import hf_momo.sweep.pictures  # noqa: F401
    from hf_momo.sweep.runs import check_results, run_sweep
    from hf_momo.sweep.trials import Study

    with Study(folder, options.storage, sweep) as study:
        study.begin(sweep, options.retry_failed)
        check_results(study, sweep)
        status = run_sweep(study, sweep, jobs=options.jobs or 1, resume=options.resume, prune=options.prune)
        if status == 0:
            check_results(study, sweep)
            _report(study, sweep)
    return status


def _report_only(options: argparse.Namespace) -> int:
    given = vars(options).keys() - {"report", "metric", "greater_is_better", "storage", "command", "func"}
    if any(getattr(options, name) for name in given):
        raise UsageError("--report goes with --metric, --greater_is_better and --storage; the study has the rest")
    from hf_momo.sweep.runs import check_metric
    from hf_momo.sweep.trials import Study

    with Study(Path(options.report), options.storage) as study:
        sweep = study.sweep.with_metric(options.metric, options.greater_is_better)
        check_metric(study, sweep)
        try:
            _report(study, sweep)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            print(f"the folder cannot be written to, so this is all of the report ({error})", file=sys.stderr)
    return 0


def _read_options(options: argparse.Namespace) -> Sweep:
    for name, value in (("SCRIPT", options.script), ("--optim", options.optim), ("--metric", options.metric)):
        if not value:
            raise UsageError(f"{name} is missing; usage: {_USAGE.splitlines()[0]}")
    sampler = options.sampler or "grid"
    if (sampler, options.trials is None) not in (("grid", True), ("tpe", False)):
        raise UsageError(f"--sampler: got {sampler!r}, must be grid without --trials, or tpe with --trials N")
    grid = parse_grid(options.optim, options.learning_rate, options.seed or "42", options.grid, options.trials)
    # A study may name further optimizers, of which the command line takes only some.
    optims = [each.strip() for each in f"{options.optim},{getattr(options, 'optims_of_study', '')}".split(",")]
    script = (options.script, options.arguments, options.launcher or [], options.plain)
    greater = is_greater_better(options.metric, options.greater_is_better)
    sweep = Sweep(*script, grid, options.metric, greater, parse_own_arguments(options.set, optims))
    check_script(sweep)
    return sweep


def _command(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {text!r}, must be a command line: {error}") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, must be a whole number from 1 on")
    return int(text)


def _report(study: Study, sweep: Sweep) -> None:
    """Print the report and write its files."""
    from filelock import FileLock

    from hf_momo.sweep.pictures import draw_report
    from hf_momo.sweep.report import make_report, render_csv, render_markdown, render_text, suggest_bound

    folder = study.folder
    report = make_report(sweep, folder, study.ended(sweep))
    if not report.runs:
        raise UsageError(f"--report: got {folder}, in which no run has ended yet")
    text = render_text(report)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        # An ASCII terminal; as wide as the table has it.
        text = text.replace(" ± ", "+/-").encode("ascii", "backslashreplace").decode()
    try:
        # Workers of one sweep end at about the same time.
        with FileLock(folder / ".report.lock"):
            page = render_markdown(report, draw_report(report, folder))
            for name, content in {**render_csv(report), "report.md": page}.items():
                write_whole(folder / name, content)
    finally:
        print(text, flush=True)
    print(f"\n{os.path.join(folder, 'report.md')} and the pictures and tables beside it", flush=True)
    if suggestion := suggest_bound(report):
        print(suggestion, flush=True)
