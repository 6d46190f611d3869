"""``hf-momo sweep``: its command line."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_momo.sweep.grid import parse_grid
from hf_momo.sweep.report import read_report
from hf_momo.sweep.settings import Sweep, check_script, is_greater_better, read_sweep
from hf_momo.sweep.study import apply_study
from hf_momo.sweep.tables import best_csv, points_csv, render_markdown, render_text, runs_csv
from hf_momo.utils.errors import UsageError
from hf_momo.utils.files import write_whole

_USAGE = """\
hf-momo sweep SCRIPT --optim NAMES --learning_rate RATES --metric KEY [options] -- ARGS...
       hf-momo sweep --config STUDY.yaml [options] -- ARGS...
       hf-momo sweep --report FOLDER [--metric KEY]"""
_DESCRIPTION = """\
Run a script over optimizers, learning rates and seeds, and compare them.

  hf-momo sweep run_translation.py --optim momo_adam,adamw_torch --learning_rate 1e-4:1:decades --seed 0,1,2 \\
      --metric eval_bleu --output_dir sweeps/bleu -- --model_name_or_path t5-small --do_train --do_eval ...

or with all of it in a file (the keys are SCRIPT and the flags below, and arguments; the command line wins):

  hf-momo sweep --config recipes/studies/mnist.yaml --seed 0 -- --data_dir data/mnist

The script is any that takes --optim, --learning_rate, --seed and --output_dir and leaves all_results.json in its
--output_dir, as the examples of transformers do. Every run is started by `hf-momo run`, so that it knows momo and
momo_adam, and has a folder of its own, e.g. momo_adam/lr_1e-03/seed_0: run.json (how it ended), log.txt (what it
printed) and output (its --output_dir). A run that has ended is not made again: give the same command to go on after
Ctrl-C, a kill or a power cut, and the same with more learning rates, seeds or optimizers to add to the sweep. A run
that diverges or crashes is a result, and is not made again either; --retry_failed does that for those that crashed.

The report is printed, and written to the folder: report.md, points.csv, best.csv, runs.csv, the picture
score_by_learning_rate.png and, if the script leaves the Trainer's trainer_state.json, training_curves.png."""


class _SweepParser(argparse.ArgumentParser):
    """Leaves everything after ``--`` to the script; argparse itself would want it right behind SCRIPT."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        options, unknown = super().parse_known_args(words[:end], namespace)
        options.arguments = words[end + 1 :]
        return options, unknown


def add_sweep_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the sub-command ``sweep``.

    Args:
        subparsers: What ``ArgumentParser.add_subparsers`` returned.

    Returns:
        The parser; the ``func`` of what it parses runs the command and returns the exit status.
    """
    summary = "compare optimizers over learning rates and seeds with any script of the Trainer"
    named = subparsers.add_parser("sweep", help=summary)
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
    parser.add_argument("script", nargs="?", metavar="SCRIPT", help="a Python file; its arguments come last, after --")
    parser.add_argument("--config", metavar="STUDY.yaml", help="a YAML file of arguments, over which those given win")
    grid = parser.add_argument_group("the grid")
    grid.add_argument("--optim", metavar="A,B", help="optimizers, by the names that the Trainer's --optim takes")
    grid.add_argument(
        "--learning_rate",
        action="append",
        default=[],
        metavar="[OPTIM=]RATES",
        help="a list (1e-3,1e-2) or a range: 1e-4:1:decades, 1e-4:1:half-decades, or 1e-4:1:9 for nine points evenly"
        " spaced on a log axis; both ends are among the points. With OPTIM= for that optimizer alone",
    )
    grid.add_argument("--seed", metavar="S,T", help="seeds (default: 42, the Trainer's own)")
    grid.add_argument(
        "--grid", action="append", default=[], metavar="NAME=V,W", help="sweep another argument of the script too"
    )
    metric = parser.add_argument_group("the metric")
    metric.add_argument("--metric", metavar="KEY", help="the score: a key of all_results.json, e.g. eval_loss")
    metric.add_argument(
        "--greater_is_better",
        type=_boolean,
        metavar="true|false",
        help="of the metric (default: by its name; false for loss, perplexity, wer, ter, error, mse and their kin)",
    )
    running = parser.add_argument_group("running")
    running.add_argument("--output_dir", metavar="FOLDER", help="of the sweep (default: sweeps/, then SCRIPT's name)")
    running.add_argument(
        "--jobs",
        metavar="N",
        help="runs at once (default: 1); they share cores and GPUs evenly: OMP_NUM_THREADS, unless it is set, and"
        " CUDA_VISIBLE_DEVICES",
    )
    running.add_argument(
        "--launcher",
        metavar="COMMAND",
        help='what starts Python, e.g. "accelerate launch --main_process_port 0" (0: a free port for each of --jobs)',
    )
    running.add_argument(
        "--plain",
        action="store_true",
        help="start SCRIPT by itself and not by `hf-momo run`: it knows its optimizers, or is not of transformers",
    )
    running.add_argument(
        "--resume",
        action="store_true",
        help="let interrupted runs go on from their last checkpoint, not from the start",
    )
    running.add_argument(
        "--retry_failed", action="store_true", help="make runs again that crashed or left no metric (not the diverged)"
    )
    parser.add_argument("--report", metavar="FOLDER", help="only report on the sweep in FOLDER, ended or not")


def _main(options: argparse.Namespace) -> int:
    if options.report is not None:
        _check_report_alone(options)
        folder = Path(options.report)
        _report(read_sweep(folder).with_metric(options.metric, options.greater_is_better), folder)
        return 0
    if options.config is not None:
        apply_study(options, Path(options.config))
    sweep, folder = _read_options(options)
    jobs = _read_jobs(options.jobs or "1")
    # Only now: processes are handled as POSIX systems do, and the rest of the command works anywhere.
    from hf_momo.sweep.runs import run_sweep

    status = run_sweep(sweep, folder, jobs=jobs, retry_failed=options.retry_failed, resume=options.resume)
    if status == 0:
        _report(sweep, folder)
    return status


def _read_options(options: argparse.Namespace) -> tuple[Sweep, Path]:
    for name, value in (("SCRIPT", options.script), ("--optim", options.optim), ("--metric", options.metric)):
        if not value:
            raise UsageError(f"{name} is missing; usage: {_USAGE.splitlines()[0]}")
    grid = parse_grid(options.optim, options.learning_rate, options.seed or "42", options.grid)
    greater = is_greater_better(options.metric) if options.greater_is_better is None else options.greater_is_better
    try:
        launcher = tuple(shlex.split(options.launcher or ""))
    except ValueError as error:
        raise UsageError(f"--launcher: got {options.launcher!r}, which is no command line: {error}") from None
    sweep = Sweep(options.script, tuple(options.arguments), launcher, options.plain, grid, options.metric, greater)
    check_script(sweep)
    return sweep, Path(options.output_dir or Path("sweeps", Path(options.script).stem))


def _read_jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--jobs: got {text!r}, must be a whole number from 1 on")
    return int(text)


def _check_report_alone(options: argparse.Namespace) -> None:
    given = [options.script, options.optim, options.learning_rate, options.grid, options.arguments, options.output_dir]
    if any([*given, options.config]):
        raise UsageError("--report goes with --metric and --greater_is_better alone; it reads the rest in its folder")


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"got {text!r}, must be true or false")
    return text.lower() == "true"


def _report(sweep: Sweep, folder: Path) -> None:
    report = read_report(sweep, folder)
    if not report.runs:
        raise UsageError(f"--report: got {folder}, in which no run has ended yet")
    try:
        from hf_momo.sweep.pictures import draw_report
    except ImportError as error:
        pictures: list[str] = []
        print(f"no pictures: {error}; install them with: pip install 'hf_momo[recipes]'", file=sys.stderr)
    else:
        pictures = draw_report(report, folder)
    for name, content in (
        ("points.csv", points_csv(report)),
        ("best.csv", best_csv(report)),
        ("runs.csv", runs_csv(report)),
        ("report.md", render_markdown(report, pictures)),
    ):
        write_whole(folder / name, content)
    print(render_text(report))
    print(f"\n{os.path.join(folder, 'report.md')} and the pictures and tables beside it")
