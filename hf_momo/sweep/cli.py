"""The command line of ``hf-momo sweep``."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_momo.sweep.grid import parse_grid, parse_own_arguments
from hf_momo.sweep.processes import lock_folder
from hf_momo.sweep.report import Report, make_report, suggest_bound
from hf_momo.sweep.settings import Sweep, check_script, is_greater_better
from hf_momo.sweep.study import apply_study
from hf_momo.sweep.tables import best_csv, points_csv, render_markdown, render_text, runs_csv
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

or with the arguments in a file (the keys are SCRIPT and the flags below, and arguments; the command line wins):

  hf-momo sweep --config recipes/studies/mnist.yaml --seed 0 -- --data_dir data/mnist

SCRIPT must take --optim, --learning_rate, --seed and --output_dir and write all_results.json to its --output_dir, as
the examples of transformers do. `hf-momo run` starts it, so that it knows the optimizers of hf_momo. The same command
goes on after Ctrl-C, a kill or a power cut, shares the runs on further machines, and adds learning rates, seeds or
optimizers; runs that have ended are not repeated. A run that diverges or crashes is a result. The report is printed,
and written to the folder as report.md, CSV tables and pictures."""


class _SweepParser(argparse.ArgumentParser):
    """A parser that leaves everything after ``--`` to the script; argparse expects it right behind SCRIPT."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        options, unknown = super().parse_known_args(words[:end], namespace)
        options.arguments = words[end + 1 :]
        return options, unknown


def add_sweep_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the sub-command ``sweep`` to what ``ArgumentParser.add_subparsers`` returned, and return its parser."""
    named = subparsers.add_parser("sweep", help="compare optimizers over learning rates and seeds with any script")
    parser = _SweepParser(
        prog=named.prog,
        usage=_USAGE,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    subparsers.choices["sweep"] = parser
    _add_arguments(parser)
    parser.set_defaults(func=_main)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("script", nargs="?", metavar="SCRIPT", help="a Python file; its arguments come last, after --")
    add("--config", metavar="STUDY.yaml", help="a YAML file with arguments; the command line takes precedence")
    add("--report", metavar="FOLDER", help="only report on the sweep in FOLDER, whether it has ended or not")
    add = parser.add_argument_group("the grid").add_argument
    add("--optim", metavar="A,B", help="optimizers, by the names that the Trainer's --optim takes")
    add(
        "--learning_rate",
        action="append",
        default=[],
        metavar="[OPTIM=]RATES",
        help="a list (1e-3,1e-2) or a range with both ends: 1e-4:1:decades, 1e-4:1:half-decades, or 1e-4:1:9 for nine"
        " points evenly spaced on a log axis; for a search 1e-4:1. With OPTIM= for that optimizer alone",
    )
    add("--seed", metavar="S,T", help="seeds (default: 42, the Trainer's own)")
    add("--grid", action="append", default=[], metavar="NAME=V,W", help="values of another argument of the script")
    add("--sampler", metavar="grid|tpe", help="grid (default), or a search in the range by Optuna's TPE")
    add("--trials", metavar="N", help="runs of a search for every optimizer and seed")
    add(
        "--set",
        action="append",
        default=[],
        metavar="OPTIM:NAME=VALUE",
        help="an argument of the script for the runs of one optimizer alone, e.g."
        " momo_adam:optim_args=lower_bound=from=runs/pilot",
    )
    add = parser.add_argument_group("the metric").add_argument
    add("--metric", metavar="KEY", help="the score: a key of all_results.json, e.g. eval_loss")
    add(
        "--greater_is_better",
        type=_boolean,
        metavar="true|false",
        help="direction of the metric (default: by its name; false for loss, perplexity, wer, ter, error, mse, ...)",
    )
    add = parser.add_argument_group("running").add_argument
    add("--output_dir", metavar="FOLDER", help="folder of the sweep (default: sweeps/, then SCRIPT's name)")
    add(
        "--storage",
        metavar="URL",
        help="an Optuna storage that machines share: postgresql://..., sqlite:///..., or the path of a journal"
        " (default: a journal in the folder)",
    )
    add(
        "--jobs",
        metavar="N",
        help="runs at once (default: 1); they share cores and GPUs evenly: OMP_NUM_THREADS, unless it is set, and"
        " CUDA_VISIBLE_DEVICES",
    )
    add(
        "--launcher",
        metavar="COMMAND",
        help='starts Python, e.g. "accelerate launch --main_process_port 0" (0: a free port for each of --jobs)',
    )
    for name, text in (
        ("--plain", "start SCRIPT directly and not by `hf-momo run`: it knows its optimizers, or is not a Trainer's"),
        ("--resume", "continue interrupted runs from their last checkpoint instead of from the start"),
        ("--retry_failed", "repeat runs that crashed or left no metric (not those that diverged)"),
        ("--prune", "stop runs that have diverged: the loss in their log stays above its start"),
    ):
        add(name, action="store_true", help=text)


def _main(options: argparse.Namespace) -> int:
    try:
        return _report_only(options) if options.report is not None else _run(options)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("optuna", "sqlalchemy", "filelock", "tenacity", "tqdm"):
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


def _run(options: argparse.Namespace) -> int:
    if options.config is not None:
        apply_study(options, Path(options.config))
    sweep, folder = _read_options(options)
    jobs = _whole_number("--jobs", options.jobs or "1")
    # Only here: they need Optuna, and processes as POSIX systems have them.
    from hf_momo.sweep.runs import check_results, run_sweep
    from hf_momo.sweep.trials import Study

    with Study(folder, options.storage, sweep) as study:
        study.begin(sweep, options.retry_failed)
        check_results(study.ended(sweep), sweep, folder)
        status = run_sweep(study, sweep, jobs=jobs, resume=options.resume, prune=options.prune)
        if status == 0:
            check_results(study.ended(sweep), sweep, folder)
            _report(study, sweep)
    return status


def _report_only(options: argparse.Namespace) -> int:
    given = [options.script, options.optim, options.learning_rate, options.grid, options.set, options.arguments]
    if any([*given, options.output_dir, options.config]):
        raise UsageError("--report goes with --metric, --greater_is_better and --storage; the study has the rest")
    from hf_momo.sweep.runs import check_metric
    from hf_momo.sweep.trials import Study

    with Study(Path(options.report), options.storage) as study:
        sweep = study.sweep.with_metric(options.metric, options.greater_is_better)
        check_metric(study.ended(sweep), sweep, study.folder)
        try:
            _report(study, sweep)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            print(f"the folder cannot be written to, so this is all of the report ({error})", file=sys.stderr)
    return 0


def _read_options(options: argparse.Namespace) -> tuple[Sweep, Path]:
    for name, value in (("SCRIPT", options.script), ("--optim", options.optim), ("--metric", options.metric)):
        if not value:
            raise UsageError(f"{name} is missing; usage: {_USAGE.splitlines()[0]}")
    sampler = options.sampler or "grid"
    if sampler not in ("grid", "tpe") or (sampler == "tpe") != (options.trials is not None):
        raise UsageError(f"--sampler: got {sampler!r}, must be grid without --trials, or tpe with --trials N")
    trials = None if options.trials is None else _whole_number("--trials", options.trials)
    grid = parse_grid(options.optim, options.learning_rate, options.seed or "42", options.grid, trials)
    greater = is_greater_better(options.metric) if options.greater_is_better is None else options.greater_is_better
    try:
        launcher = tuple(shlex.split(options.launcher or ""))
    except ValueError as error:
        raise UsageError(f"--launcher: got {options.launcher!r}, which is no command line: {error}") from None
    known = f"{options.optim},{getattr(options, 'optims_of_study', '')}"
    script = (options.script, tuple(options.arguments), launcher, options.plain)
    sweep = Sweep(*script, grid, options.metric, greater, parse_own_arguments(options.set, known))
    check_script(sweep)
    return sweep, Path(options.output_dir or Path("sweeps", Path(options.script).stem))


def _whole_number(argument: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{argument}: got {text!r}, must be a whole number from 1 on")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"got {text!r}, must be true or false")
    return text.lower() == "true"


def _report(study: Study, sweep: Sweep) -> None:
    """Print the report and write its files."""
    folder = study.folder
    report = make_report(sweep, study.ended(sweep), folder)
    if not report.runs:
        raise UsageError(f"--report: got {folder}, in which no run has ended yet")
    text = render_text(report)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        # An ASCII terminal; as wide as the table has it.
        text = text.replace(" ± ", "+/-").encode("ascii", "backslashreplace").decode()
    try:
        _write_report(report, folder)
    finally:
        print(text, flush=True)
    print(f"\n{os.path.join(folder, 'report.md')} and the pictures and tables beside it", flush=True)
    if suggestion := suggest_bound(report):
        print(suggestion, flush=True)


def _write_report(report: Report, folder: Path) -> None:
    # Workers of one sweep end at about the same time.
    lock = lock_folder(folder, wait=True)
    try:
        pictures = _draw(report, folder)
        for name, content in (
            ("points.csv", points_csv(report)),
            ("best.csv", best_csv(report)),
            ("runs.csv", runs_csv(report)),
            ("report.md", render_markdown(report, pictures)),
        ):
            write_whole(folder / name, content)
    finally:
        if lock is not None:
            os.close(lock)


def _draw(report: Report, folder: Path) -> list[str]:
    try:
        from hf_momo.sweep.pictures import draw_report
    except ImportError as error:
        print(f"no pictures: {error}; install them with: pip install 'hf_momo[sweep]'", file=sys.stderr)
        return []
    return draw_report(report, folder)
