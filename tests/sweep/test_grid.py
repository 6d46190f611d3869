import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_momo.sweep.grid import Run, format_rate, parse_grid, parse_rates
from hf_momo.utils.errors import UsageError


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("1e-3", (1e-3,)),
        ("1e-1, 1e-3", (1e-3, 1e-1)),
        ("1e-4:1:decades", (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
        ("3e-4:3e-2:decades", (3e-4, 3e-3, 3e-2)),
        ("1e-4:1e-2:half-decades", (1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2)),
        ("1e-3:3.16e-3:half-decades", (1e-3, 3.16e-3)),
        ("0.001:1:7", (1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1, 3.16e-1, 1.0)),
        ("1:8:4", (1.0, 2.0, 4.0, 8.0)),
        ("0.12345:2:2", (0.12345, 2.0)),
    ],
)
def test_lists_and_ranges(text, rates):
    assert parse_rates(text) == list(rates)


def test_points_that_three_digits_do_not_tell_apart_are_not_rounded():
    rates = parse_rates("1:1.001:5")
    assert len(set(rates)) == 5
    ratios = [after / before for before, after in itertools.pairwise(rates)]
    assert ratios == pytest.approx([1.001**0.25] * 4, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got ''; must be numbers above 0"),
        ("1e-3,", "got '1e-3,', in which '' is wrong; must be numbers above 0"),
        ("1e-3,fast", "got '1e-3,fast', in which 'fast' is wrong; must be numbers above 0"),
        ("0", "got '0'; must be numbers above 0"),
        ("1e-3,nan", "in which 'nan' is wrong; must be numbers above 0"),
        ("1e-3,1e-3", "in which a value stands twice"),
        ("1e-3,0.001", "in which a value stands twice"),
        ("1e-3:1", "got '1e-3:1'; must be .* a range: 1e-4:1:decades"),
        ("1e-3:1:decade", "must end in decades, half-decades or a number of points"),
        ("1e-3:1:1", "must end in decades, half-decades or a number of points"),
        ("1:1e-3:decades", "a range must go up from a number above 0 to a larger one"),
        ("1e-3:0:decades", "a range must go up from a number above 0 to a larger one"),
        ("1e-3:5:decades", "0.001 to 5 is no whole number of decades; give other ends, a number of points, or list"),
        ("1e-3:5e-1:half-decades", "no whole number of half-decades"),
    ],
)
def test_bad_rates(text, message):
    with pytest.raises(UsageError, match=message) as raised:
        parse_rates(text)
    assert str(raised.value).startswith("--learning_rate: ")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a,,b", ["1"], "0", []), "--optim: got 'a,,b', in which '' is wrong; must be names of optimizers"),
        (("a,a", ["1"], "0", []), "--optim: got 'a,a', in which a value stands twice"),
        (("../a", ["1"], "0", []), "--optim: got '../a'; must be names of optimizers"),
        (("a", [], "0", []), "--learning_rate: nothing was given for a; must be numbers above 0"),
        (("a,b", ["a=1"], "0", []), "--learning_rate: nothing was given for b"),
        (("a", ["1", "2"], "0", []), "--learning_rate: got '1' and '2' for all optimizers; give one list or range"),
        (("a", ["a=1", "a=2"], "0", []), "--learning_rate: got '1' and '2' for a; give one list or range"),
        (("a", ["b=1"], "0", []), "--learning_rate: got 'b=1', but 'b' is not among --optim a"),
        (("a", ["a=x"], "0", []), "--learning_rate a: got 'x'; must be numbers"),
        (("a", ["1"], "0,-1", []), "--seed: got '0,-1', in which '-1' is wrong; must be whole numbers from 0 on"),
        (("a", ["1"], "1,01", []), "--seed: got '1,01', in which a value stands twice"),
        (("a", ["1"], "0", ["beta"]), "--grid: got 'beta', must be NAME=v1,v2"),
        (("a", ["1"], "0", ["seed=1,2"]), "--grid: got 'seed=1,2', but seed is already given"),
        (("a", ["1"], "0", ["x=1", "x=2"]), "--grid: got 'x=2', but x is already given"),
        (
            ("a", ["1"], "0", ["x=1,,2"]),
            "--grid x: got '1,,2', in which '' is wrong; must be values",
        ),
        (("a", ["1"], "0", ["x=a/b,a:b"]), "--grid: got x=a/b,a:b, in which two values give one folder"),
    ],
)
def test_bad_grids(arguments, message):
    with pytest.raises(UsageError) as raised:
        parse_grid(*arguments)
    assert str(raised.value).startswith(message)
    assert len(str(raised.value).splitlines()) == 1


def test_every_combination_once_and_the_first_seed_first():
    grid = parse_grid("momo,sgd", ["1e-2,1e-1", "sgd=1"], "3,1", ["--weight-decay=0,0.1"])
    found = [(run.seed, run.name, run.learning_rate) for run in grid.runs]
    variants = [
        ("momo, weight_decay=0", 0.01),
        ("momo, weight_decay=0", 0.1),
        ("momo, weight_decay=0.1", 0.01),
        ("momo, weight_decay=0.1", 0.1),
        ("sgd, weight_decay=0", 1.0),
        ("sgd, weight_decay=0.1", 1.0),
    ]
    assert found == [(seed, *variant) for seed in (3, 1) for variant in variants]
    assert len({run.folder for run in grid.runs}) == 12
    assert grid.runs[-1].folder.parts == ("sgd", "weight_decay_0.1", "lr_1e+00", "seed_1")


def test_arguments_of_a_run_are_exact():
    """0.1 + 0.2 is not 0.3: the script gets the number that the folder names."""
    run = Run("momo_adam", {"optim_args": "lower_bound=0.5"}, 0.1 + 0.2, 7)
    assert run.arguments == [
        *("--optim", "momo_adam", "--learning_rate", "0.30000000000000004", "--seed", "7"),
        *("--optim_args", "lower_bound=0.5"),
    ]
    assert run.folder.parts[2] == "lr_3.0000000000000004e-01"


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_names_of_rates_read_back(rate):
    assert float(format_rate(rate)) == rate
    assert math.log10(rate) == pytest.approx(int(format_rate(rate).partition("e")[2]), abs=1.01)
