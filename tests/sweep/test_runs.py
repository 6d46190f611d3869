"""Whole sweeps with real processes, on a script that takes milliseconds."""

import os
import shutil
import signal

from sweep.commands import METRIC, SCRIPT, is_running, records, report_files, start_sweep, starts, sweep, wait_until

GRID = ("--optim", "momo_adam,adamw_torch", "--learning_rate", "1e-3:1e-2:decades", "--seed", "0,1")


def last_line(captured):
    return captured.err.strip().splitlines()[-1]


def test_a_sweep_with_a_diverging_and_a_crashing_optimizer(folder, capfd):
    command = (SCRIPT, "--optim", "momo_adam,sgd", "--learning_rate", "1e-3:10:decades", "--seed", "2", "--jobs", "2")
    assert sweep(*command, *METRIC) == 0
    found = {name: record["status"] for name, record in records(folder).items()}
    rates = ["1e-03", "1e-02", "1e-01", "1e+00", "1e+01"]
    expected = {f"momo_adam/lr_{rate}/seed_2": "done" for rate in rates}
    statuses = ["done", "done", "diverged", "diverged", "crashed"]
    expected |= {f"sgd/lr_{rate}/seed_2": status for rate, status in zip(rates, statuses, strict=True)}
    assert found == expected
    crashed = folder / "sgd" / "lr_1e+01" / "seed_2"
    assert (crashed / "log.txt").read_text().endswith("Loss is not finite, stopping.\n")
    assert records(folder)["sgd/lr_1e+01/seed_2"]["exit_status"] == 3
    captured = capfd.readouterr()
    for words in ("diverged: loss is nan from step 3 on", "crashed: exit status 3: Loss is not finite, stopping."):
        assert words in captured.err, "said at once"
        assert words in captured.out, "said in the report"
    assert "10/10" in captured.err
    assert "momo_adam    1e-03  0.9040  1e-03 to 1e+00  3.0 or more (the grid ends below)" in captured.out
    assert f"{os.path.join('sweeps', 'quick_script', 'report.md')} and the pictures" in captured.out
    assert captured.out.endswith("--optim_args lower_bound=from=sweeps/quick_script/momo_adam/lr_1e-03/seed_2\n")
    for name in (
        "report.md",
        "points.csv",
        "best.csv",
        "runs.csv",
        "score_by_learning_rate.png",
        "training_curves.png",
    ):
        assert (folder / name).stat().st_size > 0


def test_runs_that_ended_are_not_made_again_and_a_sweep_can_grow(folder, undrawn, capfd, tmp_path):
    started = tmp_path / "started"
    arguments = (*METRIC, "--", "--started", started)
    assert sweep(SCRIPT, *GRID, *arguments) == 0
    assert len(starts(started)[1]) == 8
    before = {name: (folder / name / "run.json").stat().st_mtime_ns for name in records(folder)}
    files = report_files(folder)
    assert sweep(SCRIPT, *GRID, *arguments) == 0
    assert len(starts(started)[1]) == 8 and report_files(folder) == files
    assert sweep(SCRIPT, *GRID[:-1], "1,2", *arguments) == 0
    assert [str(name).rpartition("/")[2] for name in starts(started)[1][8:]] == ["seed_2"] * 4
    assert all((folder / name / "run.json").stat().st_mtime_ns == time for name, time in before.items())
    assert "eval_accuracy (higher is better), 12 runs\n" in capfd.readouterr().out, "seed 0 is still there"


def test_changed_arguments_are_refused_by_name(folder, undrawn, capfd):
    grid = ("--optim", "sgd", "--learning_rate", "1e-3", "--seed", "0")
    assert sweep(SCRIPT, *grid, *METRIC, "--", "--max_steps", "3") == 0
    before = records(folder)
    capfd.readouterr()
    assert sweep(SCRIPT, *grid, *METRIC, "--", "--max_steps", "5", "--weight_decay", "0.1") == 2
    assert last_line(capfd.readouterr()) == (
        "hf-momo sweep: error: sweeps/quick_script/sgd/lr_1e-03/seed_0 was run with other settings (--max_steps 3"
        " before, --max_steps 5 now; nothing before, --weight_decay 0.1 now); give the settings of before, or another"
        " --output_dir"
    )
    assert records(folder) == before
    assert sweep(SCRIPT, *grid, *METRIC, "--", "--max_steps=3") == 0


def test_after_a_sweep_of_crashes_the_arguments_may_change(folder, undrawn, capfd):
    """A first try whose arguments were wrong binds nobody."""
    grid = ("--optim", "sgd", "--learning_rate", "1e-3", "--seed", "0")
    assert sweep(SCRIPT, *grid, *METRIC, "--", "--max_stops", "3") == 0
    assert "crashed: exit status 2: quick_script.py: error: unrecognized arguments" in capfd.readouterr().err
    assert sweep(SCRIPT, *grid, *METRIC, "--", "--max_steps", "3") == 0
    (record,) = records(folder).values()
    assert record["status"] == "done" and record["arguments"] == ["--max_steps", "3"]


def test_failed_runs_are_made_again_only_when_asked_and_diverged_ones_never(folder, undrawn, tmp_path):
    started = tmp_path / "started"
    command = (SCRIPT, "--optim", "sgd", "--learning_rate", "1e-2:10:decades", "--seed", "0", *METRIC)
    arguments = ("--", "--started", started)
    assert sweep(*command, *arguments) == sweep(*command, *arguments) == 0
    assert len(starts(started)[1]) == 4
    assert sweep(*command, "--retry_failed", *arguments) == 0
    assert [name.parts[-2] for name in starts(started)[1][4:]] == ["lr_1e+01"]
    statuses = sorted(record["status"] for record in records(folder).values())
    assert statuses == ["crashed", "diverged", "done", "done"]


def test_a_metric_that_no_run_has_stops_the_sweep_at_the_first(folder, undrawn, capfd):
    """The recipe without --do_eval went through a whole grid before anybody saw that no run had a score."""
    words = (SCRIPT, "--optim", "sgd", "--learning_rate", "1e-3,1e-2", "--seed", "0,1", "--plain", "--metric")
    assert sweep(*words, "eval_acuracy") == 2
    assert len(records(folder)) == 1
    assert last_line(capfd.readouterr()) == (
        "hf-momo sweep: error: --metric: got eval_acuracy, which sweeps/quick_script/sgd/lr_1e-03/seed_0 ended"
        " without; it has eval_accuracy, eval_loss, train_runtime. Give one of these (the run counts), or in another"
        " --output_dir arguments with which the script computes it"
    )
    assert sweep("--report", folder, "--metric", "eval_accuracy") == 0
    assert (folder / "runs.csv").read_text().endswith(",done,0.9\n")
    assert sweep(*words, "eval_accuracy") == 0
    assert [record["status"] for record in records(folder).values()].count("done") == 3
    assert "4 runs\n" in capfd.readouterr().out


def test_a_script_may_leave_the_metric_out_now_and_then(folder, undrawn, tmp_path):
    script = tmp_path / "moody.py"
    script.write_text(
        "import sys\n"
        "rate, output = sys.argv[4], sys.argv[-1]\n"
        "open(output + '/all_results.json', 'w').write('{\"f1\": 0.5}' if rate == '1.0' else '{\"step\": 3}')\n"
    )
    words = (script, "--optim", "sgd", "--learning_rate", "1,2,3", "--seed", "0", "--plain", "--metric", "f1")
    assert sweep(*words, "--output_dir", folder) == 0
    assert sorted(record["status"] for record in records(folder).values()) == ["done", "no metric", "no metric"]


def test_jobs_share_the_cores(folder, undrawn, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    grid = ("--optim", "sgd", "--learning_rate", "1e-3:1:decades", "--seed", "0")
    assert sweep(SCRIPT, *grid, "--jobs", "3", *METRIC) == 0
    assert {path.read_text().splitlines()[0] for path in folder.rglob("log.txt")} == {"OMP_NUM_THREADS=2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert sweep(SCRIPT, *grid[:-1], "1", "--jobs", "3", *METRIC) == 0
    assert {path.read_text().splitlines()[0] for path in folder.rglob("seed_1/log.txt")} == {"OMP_NUM_THREADS=5"}


def test_killed_half_way_the_sweep_takes_its_runs_with_it_and_goes_on(folder, undrawn, tmp_path):
    """SIGKILL leaves no time to clean up: the runs end, none is repeated, the report is that of an unbroken sweep."""
    started = tmp_path / "started"
    arguments = (SCRIPT, *GRID, *METRIC, "--jobs", "2", "--output_dir")
    command = (*arguments, folder, "--", "--started", started, "--seconds", "0.3")
    process = start_sweep(*command)
    wait_until(lambda: len(starts(started)[0]) >= 5)
    process.kill()
    output, _ = process.communicate(timeout=300)
    wait_until(lambda: not any(map(is_running, starts(started)[0])), seconds=5)
    done = records(folder)
    assert 3 <= len(done) < 8, output
    half_done = [name for name in starts(started)[1] if str(name.relative_to(folder)) not in done]
    assert half_done and all((name / "output").is_dir() for name in half_done)
    before = len(starts(started)[1])
    process = start_sweep(*command)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "8/8" in output and "adamw_torch    1e-03  0.9010 ± 0.0014" in output and "Warning" not in output
    again = starts(started)[1][before:]
    assert {str(name.relative_to(folder)) for name in again} == set(records(folder)) - set(done)
    assert len(again) == 8 - len(done)
    assert sweep(*arguments, tmp_path / "unbroken") == 0
    assert report_files(folder) == report_files(tmp_path / "unbroken")


def test_ctrl_c_stops_the_runs_and_the_same_command_goes_on(folder, undrawn, tmp_path):
    started = tmp_path / "started"
    grid = ("--optim", "sgd", "--learning_rate", "1e-3", "--seed", "0,1")
    process = start_sweep(SCRIPT, *grid, *METRIC, "--", "--started", started, "--seconds", "60")
    wait_until(lambda: starts(started)[0])
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGINT
    assert (
        output.endswith("stopped: 0 of 2 runs have ended; the same command continues the sweep\n")
        and "Traceback" not in output
    )
    assert not is_running(starts(started)[0][0])
    assert records(folder) == {}
    # Nothing has ended, so nothing binds the arguments.
    assert sweep(SCRIPT, *grid, *METRIC) == 0
    assert [record["status"] for record in records(folder).values()] == ["done", "done"]


def test_a_run_that_was_stopped_from_outside_is_no_result(folder, undrawn, tmp_path, capfd):
    """A scheduler that takes the machine away sends SIGTERM to all; that says nothing about the optimizer."""
    script = tmp_path / "stopped.py"
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    words = (script, "--optim", "sgd", "--learning_rate", "1", "--seed", "0", *METRIC, "--output_dir", folder)
    assert sweep(*words) == 128 + signal.SIGTERM
    assert records(folder) == {}
    assert "was stopped by SIGTERM; the same command repeats it" in capfd.readouterr().err


def test_a_run_killed_by_the_system_is_a_result(folder, undrawn, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text("import os, signal; print('so far', flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    words = (script, "--optim", "sgd", "--learning_rate", "1", "--seed", "0", *METRIC, "--output_dir", folder)
    assert sweep(*words) == 0
    (record,) = records(folder).values()
    assert record["reason"] == "exit status 137 (SIGKILL; out of memory?): so far"


def test_interrupted_runs_resume_from_their_checkpoint_when_asked(folder, undrawn, tmp_path):
    grid = ("--optim", "sgd", "--learning_rate", "1e-3", "--seed", "0", *METRIC)
    assert sweep(SCRIPT, *grid) == 0
    run = folder / "sgd" / "lr_1e-03" / "seed_0"
    for resume in (True, False):
        # As a power cut leaves it: the last line of the journal, which holds the result, is torn.
        journal = folder / "sweep.journal"
        lines = journal.read_bytes().splitlines(keepends=True)
        result = max(number for number, line in enumerate(lines) if b'"record"' in line)
        journal.write_bytes(b"".join(lines[:result]) + lines[result][:40])
        shutil.rmtree(run / "output" / "checkpoint-2", ignore_errors=True)
        (run / "output" / "checkpoint-2").mkdir()
        for name in ("trainer_state.json", "config.json"):
            (run / "output" / "checkpoint-2" / name).write_text("{}")
        (run / "output" / "checkpoint-2" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        assert sweep(SCRIPT, *grid, *["--resume"] * resume) == 0
        command = records(folder)["sgd/lr_1e-03/seed_0"]["command"]
        checkpoint = str(run.relative_to(tmp_path) / "output" / "checkpoint-2")
        assert (command[-2:] == ["--resume_from_checkpoint", checkpoint]) is resume
        assert (run / "output" / "checkpoint-2").exists() is resume


def test_a_launcher_starts_the_script(folder, undrawn, tmp_path):
    grid = ("--optim", "sgd", "--learning_rate", "1e-3", "--seed", "0", *METRIC)
    assert sweep(SCRIPT, *grid, "--launcher", "env WHERE='a b' python") == 0
    (record,) = records(folder).values()
    assert record["status"] == "done" and record["command"][:4] == ["env", "WHERE=a b", "python", SCRIPT]


def test_no_process_is_left_behind_by_a_crash(folder, undrawn, tmp_path):
    """A worker that outlives its script would keep the memory of a GPU."""
    script, pid = tmp_path / "parent.py", tmp_path / "pid"
    script.write_text(
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "sys.exit(1)\n"
    )
    words = (script, "--optim", "sgd", "--learning_rate", "1", "--seed", "0", *METRIC, "--output_dir", folder)
    assert sweep(*words) == 0
    wait_until(lambda: not is_running(int(pid.read_text())), seconds=5)


def test_scripts_of_the_stock_trainer_know_the_optimizers(folder, undrawn, tmp_path):
    """Without --plain a script that knows nothing of hf_momo takes momo_adam."""
    script = tmp_path / "stock.py"
    script.write_text(
        "import json\n"
        "from pathlib import Path\n"
        "from transformers import HfArgumentParser, TrainingArguments\n"
        "(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()\n"
        "results = {'eval_accuracy': args.learning_rate, 'optim': args.optim.value}\n"
        "results['rest'] = [args.seed, args.max_steps]\n"
        "Path(args.output_dir, 'all_results.json').write_text(json.dumps(results))\n"
    )
    grid = ("--optim", "momo_adam", "--learning_rate", "0.3", "--seed", "5", "--output_dir", folder)
    assert sweep(script, *grid, "--metric", "eval_accuracy", "--", "--max_steps", "7", "--use_cpu") == 0
    (record,) = records(folder).values()
    assert record["score"] == 0.3, (folder / "momo_adam/lr_3e-01/seed_5/log.txt").read_text()
    assert record["results"] == {"eval_accuracy": 0.3, "optim": "momo_adam", "rest": [5, 7]}
