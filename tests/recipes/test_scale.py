"""The computed cost of a step on many GPUs: how its parts scale."""

import pytest
from benchmarks.scale import main, step_cost


def test_bytes_of_the_issue():
    """Measure and update move 44 bytes a parameter, fused AdamW 28."""
    cost = step_cost(1e9, 1, 1e12, 1e-5)
    assert cost.measure_seconds + cost.update_seconds == pytest.approx(44e9 / 1e12)
    assert cost.to_adamw == pytest.approx(44 / 28)


def test_more_gpus():
    """The share shrinks with the number of GPUs, the message is constant, its latency grows logarithmically."""
    few, many = (step_cost(7e9, gpus, 1e12, 1e-5) for gpus in (8, 1024))
    assert few.measure_bytes == pytest.approx(128 * many.measure_bytes)
    assert few.message_bytes == many.message_bytes == 32
    assert (few.message_seconds, many.message_seconds) == pytest.approx((6e-5, 20e-5))


def test_table(capsys):
    main(["--efficiency", "0.5"])
    output = capsys.readouterr().out
    assert output.startswith("Computed for 50% of 3.35 TB/s")
    assert "| 70B | 1,024 |" in output


def test_bad_rates(capsys):
    with pytest.raises(SystemExit):
        main(["--efficiency", "1.5"])
    assert "--efficiency in (0, 1]" in capsys.readouterr().err
