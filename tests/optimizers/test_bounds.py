"""``lower_bound=from=RUN``: which losses of another run are read, what the bound is, and what is refused."""

import json
import subprocess
import sys

import pytest
from pages import PAGES
from torch import nn

from hf_momo import create_optimizer
from hf_momo.optimizers.bounds import PILOT_SHARE, names_pilot, read_pilot_bound
from hf_momo.optimizers.registry import parse_optim_args


def history(losses, every=10):
    """A log as the Trainer writes it: evaluations and the summary between and behind the training losses."""
    logs = [{"step": every * (number + 1), "loss": loss} for number, loss in enumerate(losses)]
    last = logs[-1]["step"] if logs else 0
    return [*logs[:1], {"step": every, "eval_loss": 77.0}, *logs[1:], {"step": last, "train_loss": 55.0}]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_state(folder, losses):
    write(folder / "trainer_state.json", {"log_history": history(losses)})


@pytest.mark.parametrize(
    ("losses", "mean", "count"),
    [
        ([4.0], 4.0, 1),
        ([4.0, 2.0], 2.0, 1),
        ([*[4.0] * 10, 3.0], 3.5, 2),
        ([9.0] * 18 + [1.0, 3.0], 2.0, 2),
        ([9.0] * 90 + [1.0, 3.0] * 5, 2.0, 10),
    ],
)
def test_the_losses_of_the_last_tenth_of_the_steps_are_averaged(tmp_path, losses, mean, count):
    """A single logged loss scatters by several per cent, which is as much as the share decides about."""
    write_state(tmp_path, losses)
    found = read_pilot_bound(f"from={tmp_path}")
    assert (found.share, found.loss, found.count) == (PILOT_SHARE, pytest.approx(mean), count)
    assert found.value == pytest.approx(PILOT_SHARE * mean, rel=1e-3)


@pytest.mark.parametrize(
    ("files", "run", "read"),
    [
        ({"trainer_state.json": [2.0]}, "", "trainer_state.json"),
        ({"trainer_state.json": [2.0]}, "trainer_state.json", "trainer_state.json"),
        ({"record.json": [2.0]}, "", "record.json"),
        ({"run_a.json": [2.0]}, "run_a.json", "run_a.json"),
        ({"output/trainer_state.json": [2.0]}, "", "output/trainer_state.json"),
        # A run that was killed: the checkpoint of most steps, by number and not by name.
        (
            {
                "checkpoint-9/trainer_state.json": [5.0] * 9,
                "checkpoint-10/trainer_state.json": [2.0] * 10,
                "checkpoint-x/trainer_state.json": [1.0] * 99,
            },
            "",
            "checkpoint-10/trainer_state.json",
        ),
        # Resumed after it had ended, and killed: the folder's own file is older.
        (
            {"trainer_state.json": [5.0] * 4, "checkpoint-6/trainer_state.json": [2.0] * 6},
            "",
            "checkpoint-6/trainer_state.json",
        ),
        ({"trainer_state.json": [2.0] * 4, "checkpoint-4/trainer_state.json": [2.0] * 4}, "", "trainer_state.json"),
    ],
)
def test_files_of_a_run(tmp_path, files, run, read):
    for name, losses in files.items():
        key = "curve" if "record" in name or "run_a" in name else "log_history"
        write(tmp_path / name, {key: history(losses)})
    found = read_pilot_bound(f"0.5*from={tmp_path / run}")
    assert (found.path, found.value) == (str(tmp_path / read), 1.0)
    assert str(found).startswith("0.5 of 2, the last training loss in ")


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path):
    write_state(tmp_path / "checkpoint-1", [2.0])
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text('{"log_history": [{"st')
    assert read_pilot_bound(f"from={tmp_path}").path == str(tmp_path / "checkpoint-1" / "trainer_state.json")


@pytest.mark.parametrize(
    ("losses", "bound", "message"),
    [
        ([2.0], "from=", "RUN does not exist; give the folder of a finished run"),
        ([2.0], "from={run}x", "{run}x does not exist; give the folder of a finished run"),
        ([], "from={run}", "{run} holds no training losses, neither in a trainer_state.json"),
        ([3.0, float("nan")], "from={run}", "the last training losses in {run}/trainer_state.json are not finite"),
        ([3.0, None], "from={run}", "the last training losses in {run}/trainer_state.json are not finite"),
        ([3.0, -2.0], "from={run}", "the last training loss in {run}/trainer_state.json is -2, and a share is below"),
        ([3.0, 0.0], "from={run}", "the last training loss in {run}/trainer_state.json is 0, and a share is below"),
        ([2.0], "0*from={run}", "its share 0 is not a number in (0, 1], such as 0.9"),
        ([2.0], "1.1*from={run}", "its share 1.1 is not a number in (0, 1]"),
        ([2.0], "much*from={run}", "its share much is not a number in (0, 1]"),
        ([2.0], "nan*from={run}", "its share nan is not a number in (0, 1]"),
    ],
)
def test_what_gives_no_bound_is_refused_before_anything_is_loaded(tmp_path, losses, bound, message):
    write_state(tmp_path, losses)
    text = bound.format(run=tmp_path)
    with pytest.raises(ValueError) as caught:
        parse_optim_args("momo_adam", f"lower_bound={text},kernel=eager")
    start = f"optim_args: lower_bound: got {text!r}, but {message.format(run=tmp_path)}"
    assert str(caught.value).startswith(start)
    with pytest.raises(ValueError, match="lower_bound: got"):
        create_optimizer("momo_adam", nn.Linear(1, 1), lower_bound=text)


def test_create_optimizer(tmp_path):
    write_state(tmp_path, [2.0])
    optimizer = create_optimizer("momo_adam", nn.Linear(1, 1), lower_bound=f"0.9*from={tmp_path}")
    assert optimizer.param_groups[0]["initial_lower_bound"] == 1.8
    assert parse_optim_args("momo", f"beta=0.5, lower_bound=from={tmp_path}") == {
        "beta": 0.5,
        "lower_bound": f"from={tmp_path}",
    }
    assert [names_pilot(value) for value in ("from=x", "0.9*from=x", "auto", 0.5, None)] == [True, True, *[False] * 3]


@pytest.mark.parametrize("page", ["README.md", "hf_momo/trainer/README.md"])
def test_the_pages_name_the_share(page):
    text = " ".join(PAGES[page].split())
    assert f"is {PILOT_SHARE:g} of its last training loss" in text or f"is {PILOT_SHARE:g} of the last" in text


RANK = """
import sys
import torch.distributed as dist
from hf_momo.optimizers.bounds import agreed_pilot_bound

rank, meeting, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
print(agreed_pilot_bound(f"from={folder}").loss)
dist.destroy_process_group()
"""


def test_all_ranks_take_the_bound_of_the_first(tmp_path):
    """If the pilot still runs, ranks may read its file at different times; with different bounds they drift apart."""
    processes = []
    for rank, loss in enumerate((2.0, 3.0)):
        write_state(tmp_path / str(rank), [loss])
        words = [str(rank), str(tmp_path / "meeting"), str(tmp_path / str(rank))]
        processes.append(subprocess.Popen([sys.executable, "-c", RANK, *words], stdout=subprocess.PIPE, text=True))
    assert [process.communicate(timeout=120)[0] for process in processes] == ["2.0\n", "2.0\n"]
