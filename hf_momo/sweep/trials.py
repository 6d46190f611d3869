"""The Optuna study of a sweep, which is where the truth is: its trials are the runs, each claimed by one worker.

A run has one trial for every attempt: a run whose worker died, or that is retried, gets another trial. Of a run's
trials the one with the highest attempt counts, and of several with the same attempt, which workers that start at the
same time may add, the first. A storage numbers trials in one order for all, so every worker comes to the same trial
without a lock.
"""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hf_momo.sweep.grid import Run, Variant
from hf_momo.sweep.records import Record
from hf_momo.sweep.settings import Sweep, describe_difference
from hf_momo.sweep.storage import DATABASE_ERRORS, open_storage, patiently
from hf_momo.utils.errors import UsageError

JOURNAL_FILE, _OLD_FILE = "sweep.journal", "sweep.json"
_FILLED = "--output_dir: got {}, which holds other files and no sweep; give a new folder"
# Of a trial that another worker has finished; the class of its own that newer versions raise is one of these.
_ALREADY_FINISHED = RuntimeError
_STATES = {"done": TrialState.COMPLETE, "diverged": TrialState.PRUNED}


class Study:
    """The study of a sweep.

    Args:
        folder: Folder of the sweep; its path is the name of the study.
        url: A storage of Optuna, or the path of a journal; ``None`` for a journal in the folder.
        sweep: The settings, with which a study that does not exist is created; ``None`` to open an existing one.

    Raises:
        UsageError: If the storage cannot be used, or has no such study, or the folder holds something else.
    """

    def __init__(self, folder: Path, url: str | None = None, sweep: Sweep | None = None) -> None:
        self.folder, self.location = folder, url or str(folder / JOURNAL_FILE)
        journal = None if "://" in self.location else Path(self.location)
        if (folder / _OLD_FILE).is_file():
            raise UsageError(
                f"{folder} holds a sweep of an hf_momo before Optuna ({_OLD_FILE}), which this version does not read;"
                " give another --output_dir"
            )
        if sweep is None and journal is not None and not journal.is_file():
            raise UsageError(
                f"{folder} holds no sweep (no {journal.name}); give the --output_dir of one, or --storage"
            )
        # Before the study is looked for: another worker that starts now fills the folder after creating the study.
        filled = sweep is not None and _make_folder(folder)
        if filled and journal is not None and not journal.is_file():
            raise UsageError(_FILLED.format(folder))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = open_storage(self.location)
        self._study = self._open(sweep, filled)

    def _open(self, sweep: Sweep | None, filled: bool) -> optuna.Study:
        # A journal in the folder stays that of the sweep when the folder is moved.
        name = "sweep" if self.location == str(self.folder / JOURNAL_FILE) else self.folder.as_posix()
        try:
            return optuna.load_study(study_name=name, storage=self._storage)
        except KeyError:
            if sweep is None:
                known = ", ".join(optuna.get_all_study_names(self._storage)) or "none"
                raise UsageError(
                    f"the storage has no sweep {name}; it has {known}. Give the --output_dir of one"
                ) from None
        if filled:
            raise UsageError(_FILLED.format(self.folder))
        direction = StudyDirection.MAXIMIZE if sweep.greater_is_better else StudyDirection.MINIMIZE
        # Of several workers that start together one creates it.
        return optuna.create_study(study_name=name, storage=self._storage, direction=direction, load_if_exists=True)

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    @property
    def has_heartbeat(self) -> bool:
        """Whether the storage notices by itself that a worker has died."""
        return isinstance(self._storage, RDBStorage)

    @property
    def sweep(self) -> Sweep:
        """The settings of the last command."""
        content = self._study.user_attrs.get("sweep")
        if content is None:
            raise UsageError(f"{self.location} is the storage of something else than a sweep")
        return Sweep.from_json(content)

    @patiently
    def trials(self) -> dict[str, FrozenTrial]:
        """Return the trial that counts for every run, by the run's folder."""
        trials: dict[str, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            folder = str(trial.user_attrs.get("folder"))
            known = trials.get(folder)
            if "folder" not in trial.user_attrs:
                # Added by hand, e.g. in a dashboard.
                continue
            if known is None or trial.user_attrs["attempt"] > known.user_attrs["attempt"]:
                trials[folder] = trial
            elif trial.state == TrialState.WAITING:
                # Added by two workers at the same time.
                with suppress(_ALREADY_FINISHED):
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return trials

    def ended(self, sweep: Sweep) -> list[tuple[Run, Record]]:
        """Return every run that has ended with the settings of ``sweep``, those of earlier grids too."""
        return [
            (run_of(trial), record)
            for trial in self.trials().values()
            if (record := record_of(trial)) and not self._differs(trial, sweep)
        ]

    def begin(self, sweep: Sweep, retry_failed: bool) -> None:
        """Store the settings and add trials for new runs, and for failed ones if they are to be retried.

        Raises:
            UsageError: If runs that count were made with other settings of the script.
        """
        for folder, trial in self.trials().items():
            record = record_of(trial)
            counts = trial.state == TrialState.RUNNING or (record and (record.exit_status == 0 or record.divergence))
            if counts and (difference := self._differs(trial, sweep)):
                raise UsageError(
                    f"{self.folder / folder} was run with other settings ({difference}); give the settings of before,"
                    " or another --output_dir"
                )
            if retry_failed and record and record.judge(sweep.metric).status in ("crashed", "no metric"):
                self._add(run_of(trial), sweep, trial)
        self._study.set_user_attr("sweep", asdict(sweep))
        self.fill(sweep, starting=True)

    def fill(self, sweep: Sweep, starting: bool = False) -> dict[str, FrozenTrial]:
        """Add trials for the runs of the grid that have none, or whose worker died; return all that count."""
        if self.has_heartbeat:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                patiently(fail_stale_trials)(self._study)
        trials, added = self.trials(), False
        for run in sweep.grid.runs:
            trial = trials.get(str(run.folder))
            differs = trial is not None and self._differs(trial, sweep)
            if differs and not starting:
                raise UsageError(
                    f"{self.folder}: another command goes on with this sweep and other settings: {differs}"
                )
            if trial is None or differs or (trial.state == TrialState.FAIL and record_of(trial) is None):
                self._add(run if trial is None else run_of(trial), sweep, trial)
                added = True
        return self.trials() if added else trials

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
        if not math.isnan(run.learning_rate):
            return run
        low, high = sweep.grid.learning_rates[run.variant.optim]
        drawn = optuna.Trial(self._study, trial._trial_id).suggest_float(_parameter(run), low, high, log=True)
        rate = float(f"{drawn:.3g}")
        self._storage.set_trial_user_attr(trial._trial_id, "learning_rate", rate)
        return replace(run, learning_rate=rate)

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
            trial = self._storage.get_trial(trial._trial_id)
            self._add(run_of(trial), sweep, trial)

    def _add(self, run: Run, sweep: Sweep, before: FrozenTrial | None) -> None:
        known = not math.isnan(run.learning_rate)
        rates = [*sweep.grid.learning_rates.get(run.variant.optim, ()), *([run.learning_rate] if known else [])]
        trial = create_trial(
            state=TrialState.WAITING,
            params={_parameter(run): run.learning_rate} if known else {},
            distributions={_parameter(run): FloatDistribution(min(rates), max(rates), log=True)} if known else {},
            user_attrs={
                "optim": run.variant.optim,
                "options": dict(run.variant.options),
                "learning_rate": run.learning_rate if known else None,
                "seed": run.seed,
                "number": run.number,
                "folder": str(run.folder),
                "attempt": 0 if before is None else before.user_attrs["attempt"] + 1,
                "settings": sweep.script_settings(run.variant.optim),
            },
        )
        self._study.add_trial(trial)

    @staticmethod
    def _differs(trial: FrozenTrial, sweep: Sweep) -> str | None:
        attributes = trial.user_attrs
        return describe_difference(attributes["settings"], sweep.script_settings(attributes["optim"]))


def run_of(trial: FrozenTrial) -> Run:
    """Return the run of a trial."""
    attributes = trial.user_attrs
    variant = Variant(attributes["optim"], tuple(attributes["options"].items()))
    rate = attributes["learning_rate"]
    return Run(variant, math.nan if rate is None else rate, attributes["seed"], attributes["number"])


def record_of(trial: FrozenTrial) -> Record | None:
    """Return the record of a trial, or ``None`` if it has not ended."""
    content: dict[str, Any] | None = trial.user_attrs.get("record")
    return Record(**{name: content[name] for name in Record.__dataclass_fields__}) if content else None


def _parameter(run: Run) -> str:
    # One for each variant: a search draws the rates of one optimizer by the results of that optimizer.
    return f"learning_rate of {run.variant.name}"


def _make_folder(folder: Path) -> bool:
    """Make the folder of a sweep, and return whether it holds anything but a journal."""
    if folder.is_symlink() and not folder.exists():
        raise UsageError(f"--output_dir: got {folder}, a link to {folder.readlink()}, which does not exist")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output_dir: got {folder}, which is a file; give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return not all(path.name.startswith((".", JOURNAL_FILE)) for path in folder.iterdir())
