"""A stream of rows: shuffled, cut into steps, and divided among the processes that train together."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from click_through.criteo import Rows, concatenate, read_rows

IGNORED = -100.0
# Rows that enter and leave the buffer together.
_PIECE = 4096


@dataclass(frozen=True)
class Step:
    """The share of one process in one step.

    Attributes:
        micro_batches: The batches: ``dense``, ``categories`` and ``labels`` as ``DLRM`` takes them. All processes have
            the same number of batches with the same number of rows; rows with the label -100 pad the last ones.
        num_items: The number of rows of the step on all processes together.
    """

    micro_batches: list[dict[str, Tensor]]
    num_items: int


class LogSteps(IterableDataset):
    """The steps of one epoch over a log, as one of several processes sees them.

    Every process reads the whole log and takes its share of every step. So the processes agree on the order and on
    the end of the log without communication, and a step has the same rows on any number of processes. Every row is
    used exactly once.
    """

    def __init__(
        self,
        files: list[str],
        micro_batch_size: int,
        *,
        micro_batches: int = 1,
        process_index: int = 0,
        num_processes: int = 1,
        shuffle_buffer: int = 0,
        seed: int = 0,
        epoch: int = 0,
        max_rows: int | None = None,
        skipped_steps: int = 0,
    ) -> None:
        """Describe the epoch; nothing is read yet.

        Args:
            files: Paths or addresses, as for ``read_rows``.
            micro_batch_size: The number of rows of a batch on one process.
            micro_batches: The number of batches of a step on one process.
            process_index: The rank of this process.
            num_processes: The world size.
            shuffle_buffer: The size of the shuffle buffer in rows; below 2 the order of the log is kept.
            seed: The seed of the order.
            epoch: The number of the epoch; each has another order.
            max_rows: Use only the first rows.
            skipped_steps: The number of steps to skip at the start, which a resumed run has taken before.
        """
        super().__init__()
        self.files, self.max_rows = files, max_rows
        self.step_rows, self.parts = micro_batch_size * micro_batches * num_processes, micro_batches
        self.process_index, self.num_processes = process_index, num_processes
        self.shuffle_buffer, self.order = shuffle_buffer, (seed, epoch)
        self.skipped_steps = skipped_steps

    def __iter__(self) -> Iterator[Step]:
        rows = first_rows(read_rows(self.files), self.max_rows)
        if self.shuffle_buffer > 1:
            rows = shuffled(rows, self.shuffle_buffer, np.random.default_rng(self.order))
        for step in islice(cut(rows, self.step_rows), self.skipped_steps, None):
            yield self._deal(step)

    def _deal(self, rows: Rows) -> Step:
        shares = np.array_split(np.arange(len(rows)), self.parts * self.num_processes)
        own = shares[self.process_index :: self.num_processes]
        return Step([_tensors(rows[share], len(shares[0])) for share in own], len(rows))


def first_rows(chunks: Iterable[Rows], number: int | None) -> Iterator[Rows]:
    """Yield the first rows of a stream, or all of them for ``None``."""
    left = number
    for chunk in chunks:
        yield chunk if left is None else chunk[:left]
        if left is not None:
            left -= len(chunk)
            if left <= 0:
                return


def shuffled(chunks: Iterable[Rows], buffer_size: int, generator: np.random.Generator) -> Iterator[Rows]:
    """Yield a stream shuffled by a buffer: random rows leave the buffer, and the next rows take their places.

    Args:
        chunks: The stream.
        buffer_size: The least number of rows in the buffer; a shorter stream is shuffled as a whole.
        generator: The generator of the order.
    """
    piece_size = min(buffer_size, _PIECE)
    pieces = cut(chunks, piece_size)
    first = list(islice(pieces, math.ceil(buffer_size / piece_size)))
    if not first:
        return
    buffer = concatenate(first)
    for piece in pieces:
        places = generator.choice(len(buffer), len(piece), replace=False)
        leaving = buffer[places]
        buffer.replace(places, piece)
        yield leaving
    yield buffer[generator.permutation(len(buffer))]


def cut(chunks: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Yield a stream in pieces of ``size`` rows; the last may be smaller."""
    waiting: list[Rows] = []
    number = 0
    for chunk in chunks:
        waiting.append(chunk)
        number += len(chunk)
        if number >= size:
            rows = concatenate(waiting)
            whole = number - number % size
            yield from (rows[start : start + size] for start in range(0, whole, size))
            waiting, number = [rows[whole:]], number - whole
    if number:
        yield concatenate(waiting)


def _tensors(rows: Rows, size: int) -> dict[str, Tensor]:
    """Return tensors of ``size`` rows, padded with rows that do not count."""
    dense = np.zeros((size, rows.dense.shape[1]), dtype=np.float32)
    categories = np.zeros((size, rows.categories.shape[1]), dtype=np.int64)
    labels = np.full(size, IGNORED, dtype=np.float32)
    dense[: len(rows)], categories[: len(rows)], labels[: len(rows)] = rows.dense, rows.categories, rows.labels
    arrays = {"dense": dense, "categories": categories, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
