"""Several workers on one sweep, on every kind of storage; real processes, and a real PostgreSQL."""

import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import optuna
import pytest
from sweep.commands import METRIC, SCRIPT, is_running, records, report_files, starts, sweep, wait_until
from sweep.postgres import BINARIES, postgres

GRID = ("--optim", "momo_adam,sgd", "--learning_rate", "1e-3:1e-1:decades", "--seed", "0,2", *METRIC)
# A worker of which the others have no sign for 4 seconds counts as dead, instead of for a minute.
WORKER = (
    "import sys, hf_momo.sweep.storage as storage; storage.HEARTBEAT, storage.PATIENCE = 1, 4;"
    "from hf_momo.cli import main; sys.exit(main(['sweep', *sys.argv[1:]]))"
)


def start_worker(*words):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def works_for(worker):
    """Whether a process is a run of a worker, with the guard between them."""

    def parent(process):
        try:
            return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return 0

    return lambda run: is_running(run) and parent(parent(run)) == worker


def journal(path):
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))


@contextmanager
def database(url):
    storage = optuna.storages.RDBStorage(url)
    yield storage
    storage.engine.dispose()


@pytest.fixture(params=["default", "journal", "sqlite", "postgresql"])
def storage(request, tmp_path):
    """The words that choose a storage, and how Optuna opens it."""
    if request.param == "default":
        yield (), lambda: nullcontext(journal(tmp_path / "shared" / "sweep.journal"))
    elif request.param == "journal":
        path = tmp_path / "elsewhere.log"
        yield ("--storage", path), lambda: nullcontext(journal(path))
    elif request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/sweep.db"
        yield ("--storage", url), lambda: database(url)
    elif BINARIES is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    else:
        pytest.importorskip("psycopg")
        with postgres() as url:
            yield ("--storage", url), lambda: database(url)


def test_four_workers_of_which_one_is_killed_make_every_run_once(undrawn, storage, tmp_path):
    """12 results, none twice, and the report of one worker alone."""
    words, opened = storage
    folder, started = tmp_path / "shared", tmp_path / "started"
    command = (SCRIPT, *GRID, "--output_dir", folder, *words, "--", "--started", started, "--seconds", "1")
    workers = [start_worker(*command) for _ in range(4)]
    # Killed in the middle of a run.
    wait_until(lambda: len(starts(started)[0]) >= 5 and any(map(works_for(workers[0].pid), starts(started)[0])))
    workers[0].kill()
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [-9, 0, 0, 0], outputs
    assert all("eval_accuracy (higher is better), 12 runs\n" in output for output in outputs[1:]), outputs
    assert len(records(folder)) == 12 and len(starts(started)[1]) == 13
    with opened() as opened_storage:
        (name,) = optuna.get_all_study_names(opened_storage)
        trials = optuna.load_study(study_name=name, storage=opened_storage).trials
    ended = [trial.user_attrs["folder"] for trial in trials if "record" in trial.user_attrs]
    assert sorted(ended) == sorted(records(folder)), "every result is stored once"
    alone = tmp_path / "alone"
    assert sweep(SCRIPT, *GRID, "--output_dir", alone, "--jobs", "2") == 0
    assert report_files(folder) == report_files(alone)


def test_what_a_trial_holds(folder, undrawn):
    grid = (
        "--optim",
        "momo_adam,sgd",
        "--learning_rate",
        "1e-2:10:decades",
        "--seed",
        "0",
        "--grid",
        "weight_decay=0",
    )
    assert sweep(SCRIPT, *grid, *METRIC) == 0
    study = optuna.load_study(study_name="sweep", storage=journal(folder / "sweep.journal"))
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    best = study.best_trial
    assert best.params == {"learning_rate of momo_adam, weight_decay=0": 0.01} and best.value == 0.899
    attributes = best.user_attrs
    assert (attributes["optim"], attributes["options"]) == ("momo_adam", {"weight_decay": "0"})
    assert (attributes["learning_rate"], attributes["seed"]) == (0.01, 0)
    assert attributes["folder"] == "momo_adam/weight_decay_0/lr_1e-02/seed_0"
    assert attributes["record"]["status"] == "done" and attributes["record"]["score"] == 0.899
    states = [trial.state.name for trial in study.trials if trial.user_attrs["optim"] == "sgd"]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"], "what diverged is a result, what crashed is none"


def test_a_search_draws_learning_rates_near_the_best(folder, undrawn, capfd):
    search = ("--optim", "momo_adam,sgd", "--learning_rate", "1e-6:1e-1", "--sampler", "tpe", "--trials", "8")
    words = (SCRIPT, *search, "--seed", "0", *METRIC)
    assert sweep(*words) == 0
    found = records(folder)
    assert sorted(found) == sorted(f"{name}/trial_{n}/seed_0" for name in ("momo_adam", "sgd") for n in range(8))
    rates = [record["learning_rate"] for record in found.values()]
    assert len(set(rates)) > 8 and all(1e-6 <= rate <= 1e-1 for rate in rates)
    assert all(record["command"][-5] == repr(record["learning_rate"]) for record in found.values())
    assert "16 runs\n" in capfd.readouterr().out
    assert sweep(*words) == 0 and records(folder) == found, "nothing is repeated"


def test_a_retried_run_of_a_search_keeps_its_rate(folder, undrawn):
    """Optuna warns of a value outside of the range, which the new command may have narrowed."""
    search = (SCRIPT, "--optim", "sgd", "--sampler", "tpe", "--trials", "2", "--seed", "0", *METRIC, "--learning_rate")
    assert sweep(*search, "10:100") == 0
    before = {name: record["learning_rate"] for name, record in records(folder).items()}
    assert {record["status"] for record in records(folder).values()} == {"crashed"}
    assert sweep(*search, "1e-3:1", "--retry_failed") == 0
    assert {name: record["learning_rate"] for name, record in records(folder).items()} == before


def test_pruning_stops_what_has_diverged(folder, undrawn, tmp_path):
    script = tmp_path / "rising.py"
    script.write_text(
        "import sys, time\n"
        "for step in range(200):\n"
        "    print({'loss': str(2.0 + step if sys.argv[2] == 'sgd' else 2.0 / (step + 1)), 'epoch': '0.1'})\n"
        "    time.sleep(0.02 if sys.argv[2] == 'momo_adam' else 0.3)\n"
        "open(sys.argv[-1] + '/all_results.json', 'w').write('{\"eval_accuracy\": 0.5}')\n"
    )
    words = (script, "--optim", "momo_adam,sgd", "--learning_rate", "1", "--output_dir", folder, *METRIC)
    assert sweep(*words, "--prune", "--jobs", "2") == 0
    found = records(folder)
    assert found["momo_adam/lr_1e+00/seed_42"]["status"] == "done"
    pruned = found["sgd/lr_1e+00/seed_42"]
    assert pruned["status"] == "diverged"
    assert pruned["reason"] == "pruned: the loss was above its start (2) for 10 logs"
