"""The Optuna study of a sweep, which is where the truth is: its trials are the runs, each claimed by one worker.

A run has one trial for every attempt: a run whose worker died, or that is retried, gets another trial. Of a run's
trials the one with the highest attempt counts, and of several with the same attempt, which workers that start at the
same time may add, the first. A storage numbers trials in one order for all, so every worker comes to the same trial
without a lock.
"""

from __future__ import annotations

import math
import os
import warnings
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hf_momo.sweep.grid import Run
from hf_momo.sweep.records import Record
from hf_momo.sweep.settings import Sweep, describe_difference
from hf_momo.sweep.storage import DATABASE_ERRORS, open_storage, patiently
from hf_momo.utils.errors import UsageError

JOURNAL_FILE, _OLD_FILE = "sweep.journal", "sweep.json"
# Of a trial that another worker has finished; the class of its own that newer versions raise is one of these.
_ALREADY_FINISHED = RuntimeError
_STATES = {"done": TrialState.COMPLETE, "diverged": TrialState.PRUNED}


class Study(AbstractContextManager["Study"]):
    """The study of the sweep in a folder, whose path is its name.

    Args:
        folder: Folder of the sweep.
        url: A storage of Optuna, or the path of a journal; ``None`` for a journal in the folder.
        sweep: The settings, with which a study that does not exist is created; ``None`` to open an existing one.
    """

    def __init__(self, folder: Path, url: str | None = None, sweep: Sweep | None = None) -> None:
        self.folder, self._location = folder, url or str(folder / JOURNAL_FILE)
        is_new = "://" not in self._location and not Path(self._location).is_file()
        if (folder / _OLD_FILE).is_file():
            raise UsageError(
                f"{folder} holds a sweep of an hf_momo before Optuna ({_OLD_FILE}), which this version does not read;"
                " give another --output_dir"
            )
        if sweep is None and is_new:
            raise UsageError(f"{folder} holds no sweep (no {self._location}); give the folder of one, or --storage")
        filled = UsageError(f"--output_dir: got {folder}, which holds other files and no sweep; give a new folder")
        # Before the study is looked for: another worker that starts now fills the folder after creating the study.
        is_filled = sweep is not None and _make_folder(folder)
        if is_filled and is_new:
            raise filled
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = open_storage(self._location)
        self.has_heartbeat = isinstance(self._storage, RDBStorage)
        # A journal in the folder stays that of the sweep when the folder is moved.
        name = "sweep" if self._location == str(folder / JOURNAL_FILE) else folder.as_posix()
        known = optuna.get_all_study_names(self._storage)
        if name in known:
            self._study = optuna.load_study(study_name=name, storage=self._storage)
        elif sweep is None:
            raise UsageError(f"the storage has no sweep {name}; it has {', '.join(known) or 'none'}")
        elif is_filled:
            raise filled
        else:
            direction = StudyDirection.MAXIMIZE if sweep.greater_is_better else StudyDirection.MINIMIZE
            # Of several workers that start together one creates it.
            options: dict[str, Any] = {"direction": direction, "load_if_exists": True}
            self._study = optuna.create_study(study_name=name, storage=self._storage, **options)

    def __exit__(self, *_: object) -> None:
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    @property
    def sweep(self) -> Sweep:
        """The settings of the last command."""
        content = self._study.user_attrs.get("sweep")
        if content is None:
            raise UsageError(f"{self._location} is the storage of something else than a sweep")
        return Sweep.from_json(content)

    @patiently
    def trials(self) -> dict[str, FrozenTrial]:
        """Return the trial that counts for every run, by the run's folder."""
        # Others were added by hand, e.g. in a dashboard.
        trials = [trial for trial in self._study.get_trials(deepcopy=False) if "folder" in trial.user_attrs]
        trials.sort(key=lambda trial: (trial.user_attrs["attempt"], -trial.number))
        return {trial.user_attrs["folder"]: trial for trial in trials}

    def ended(self, sweep: Sweep) -> list[tuple[Run, Record]]:
        """Return every run that has ended with the settings of ``sweep``, those of earlier grids too."""
        return [
            (run_of(trial), record)
            for trial in sorted(self.trials().values(), key=lambda trial: trial.number)
            if (record := record_of(trial)) and not _difference(trial, sweep)
        ]

    def begin(self, sweep: Sweep, retry_failed: bool) -> None:
        """Store the settings and add trials for new runs, and for failed ones if they are to be retried."""
        planned = {str(run.folder) for run in sweep.grid.runs}
        for folder, trial in self.trials().items():
            record, difference = record_of(trial), _difference(trial, sweep)
            counts = trial.state == TrialState.RUNNING or (record and (record.exit_status == 0 or record.divergence))
            if counts and difference:
                raise UsageError(
                    f"{self.folder / folder} was run with other settings ({difference}); give the settings of before,"
                    " or another --output_dir"
                )
            failed = record and record.judge(sweep.metric).status in ("crashed", "no metric")
            if folder in planned and (difference or (retry_failed and failed)):
                self._add(run_of(trial), sweep, trial)
        self._study.set_user_attr("sweep", asdict(sweep))
        self.fill(sweep)

    def fill(self, sweep: Sweep) -> dict[str, FrozenTrial]:
        """Add trials for runs that have none or whose worker died, and return those of runs that have not ended."""
        if self.has_heartbeat:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                patiently(fail_stale_trials)(self._study)
        trials, runs = self.trials(), {str(run.folder): run for run in sweep.grid.runs}
        added = False
        for folder, run in runs.items():
            trial = trials.get(folder)
            if trial is None or (trial.state == TrialState.FAIL and record_of(trial) is None):
                self._add(run if trial is None else run_of(trial), sweep, trial)
                added = True
            elif difference := _difference(trial, sweep):
                raise UsageError(f"{self.folder}: another command continues it with other settings: {difference}")
        trials = self.trials() if added else trials
        return {folder: trials[folder] for folder in runs if record_of(trials[folder]) is None}

    @patiently
    def claim(self, trial: FrozenTrial, sweep: Sweep) -> Run | None:
        """Return the run of a waiting trial, which is now this worker's, or ``None`` if another one was faster."""
        try:
            if isinstance(self._storage, RDBStorage):
                # Before the claim: without a heartbeat a trial would never be given back.
                self._storage.record_heartbeat(trial._trial_id)
            if not self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                return None
        except _ALREADY_FINISHED:
            return None
        run = run_of(trial)
        # A run that is retried keeps its rate, also one outside of the range of this command.
        known = [] if math.isnan(run.learning_rate) else [run.learning_rate]
        rates = [*sweep.grid.learning_rates[run.optim], *known]
        # The rate of the grid, or in a search one that is drawn by the results of that optimizer.
        drawing = optuna.Trial(self._study, trial._trial_id)
        rate = drawing.suggest_float(f"learning_rate of {run.name}", min(rates), max(rates), log=True)
        if math.isnan(run.learning_rate):
            run = replace(run, learning_rate=float(f"{rate:.3g}"))
            drawing.set_user_attr("learning_rate", run.learning_rate)
        return run

    def state(self, trial: FrozenTrial) -> TrialState:
        """Return the present state of a trial."""
        return self._storage.get_trial(trial._trial_id).state

    def keep(self, trial: FrozenTrial) -> bool:
        """Send the heartbeat of a trial, and return whether it is still this worker's."""
        with suppress(*DATABASE_ERRORS):
            if isinstance(self._storage, RDBStorage):
                self._storage.record_heartbeat(trial._trial_id)
            return self.state(trial) == TrialState.RUNNING
        return True

    @patiently
    def finish(self, trial: FrozenTrial, record: Record, metric: str) -> None:
        """Store the record of a run that has ended."""
        outcome = record.judge(metric)
        with suppress(_ALREADY_FINISHED):
            # One attribute, so that a kill leaves all of it or nothing.
            content = {**asdict(outcome), "metric": metric, **asdict(record)}
            self._storage.set_trial_user_attr(trial._trial_id, "record", content)
            values = None if outcome.score is None else [outcome.score]
            state = _STATES.get(outcome.status, TrialState.FAIL)
            self._storage.set_trial_state_values(trial._trial_id, state, values)

    @patiently
    def give_back(self, trial: FrozenTrial, sweep: Sweep) -> None:
        """Let another worker, or a later command, make the run of a claimed trial."""
        with suppress(_ALREADY_FINISHED):
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            self._add(run_of(self._storage.get_trial(trial._trial_id)), sweep, trial)

    def _add(self, run: Run, sweep: Sweep, before: FrozenTrial | None) -> None:
        known = not math.isnan(run.learning_rate)
        attributes = {
            **asdict(run),
            "learning_rate": run.learning_rate if known else None,
            "folder": str(run.folder),
            "attempt": 0 if before is None else before.user_attrs["attempt"] + 1,
            "settings": sweep.script_settings(run.optim),
        }
        self._study.enqueue_trial({f"learning_rate of {run.name}": run.learning_rate} if known else {}, attributes)


def run_of(trial: FrozenTrial) -> Run:
    """Return the run of a trial."""
    optim, options, rate, seed, number = (trial.user_attrs[name] for name in Run.__dataclass_fields__)
    return Run(optim, options, rate or math.nan, seed, number)


def record_of(trial: FrozenTrial) -> Record | None:
    """Return the record of a trial, or ``None`` if it has not ended."""
    content: dict[str, Any] | None = trial.user_attrs.get("record")
    return Record(**{name: content[name] for name in Record.__dataclass_fields__}) if content else None


def _difference(trial: FrozenTrial, sweep: Sweep) -> str | None:
    return describe_difference(trial.user_attrs["settings"], sweep.script_settings(trial.user_attrs["optim"]))


def _make_folder(folder: Path) -> bool:
    """Make the folder of a sweep, and return whether it holds anything but a journal."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"--output_dir: got {folder}, which is a file or a broken link; give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return not all(path.name.startswith((".", JOURNAL_FILE)) for path in folder.iterdir())
