"""A synthetic log in Criteo's raw format; clicks depend on the categories and the first count of a line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


def lines(number: int, seed: int = 0) -> list[str]:
    """Return lines with a tenth of their fields empty; the second count is the number of the line."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(-2, 200, (number, 13))
    counts[:, 1] = np.arange(number)
    kinds = generator.integers(0, 5, (number, 26))
    clicks = kinds[:, 0] + generator.normal(size=number) + (counts[:, 0] > 150) > 3
    empty = generator.random((number, 39)) < 0.1
    empty[:, [0, 1, 13]] = False
    rows = []
    for row in range(number):
        # Each category has its own range of numbers, up to ffffffff.
        codes = [f"{(0xFFFFFFFF - 7919 * column - int(kinds[row, column])):08x}" for column in range(26)]
        fields = [*map(str, counts[row]), *codes]
        kept = ["" if gone else field for field, gone in zip(fields, empty[row], strict=True)]
        rows.append("\t".join([str(int(clicks[row])), *kept]))
    return rows


def write_log(path: Path, number: int, seed: int = 0) -> Path:
    """Write a log, compressed if the name ends in .gz, and return its path."""
    data = "".join(f"{line}\n" for line in lines(number, seed)).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
