"""The Criteo log as a stream: parsing, order, division among processes, memory."""

from __future__ import annotations

import gzip
import lzma
import math
import re
from collections.abc import Callable
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from real_data import real_data
from recipes.criteo_log import lines, write_log
from recipes.damage import corrupt

from click_through.batches import IGNORED, LogSteps, Step, cut, shuffled
from click_through.criteo import Rows, check_readable, concatenate, read_rows
from hf_momo.utils.errors import UsageError

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def read(*files: Path) -> Rows:
    return concatenate(list(read_rows(map(str, files))))


def numbered(number: int) -> Rows:
    """Return rows whose categories are the number of the row."""
    categories = np.repeat(np.arange(number, dtype=np.uint32)[:, None], 26, axis=1)
    return Rows(np.zeros((number, 13), np.float32), categories, np.zeros(number, np.float32))


def numbers(chunks: list[Rows]) -> list[int]:
    return [int(number) for chunk in chunks for number in chunk.categories[:, 0]]


def check_against_plain_python(rows: Rows, text: list[str]) -> None:
    fields = [line.split("\t") for line in text]
    assert rows.labels.tolist() == [float(line[0]) for line in fields]
    assert rows.categories.tolist() == [[int(code or "0", 16) for code in line[14:]] for line in fields]
    expected = [[math.log(1 + max(0, int(count or 0))) for count in line[1:14]] for line in fields]
    np.testing.assert_allclose(rows.dense, expected, rtol=1e-6)


# 6,000 lines are more than one block of the reader.
@pytest.mark.parametrize(("name", "number"), [("log.tsv", 6000), ("log.tsv.gz", 100)])
def test_fields_are_what_their_text_says(tmp_path: Path, name: str, number: int) -> None:
    rows = read(write_log(tmp_path / name, number))
    check_against_plain_python(rows, lines(number))
    assert (rows.dense.dtype, rows.categories.dtype, rows.labels.dtype) == (np.float32, np.uint32, np.float32)


def test_real_log() -> None:
    path = real_data("criteo/test.tsv")
    text = path.read_text().splitlines()
    assert len(text) == 391
    check_against_plain_python(read(path), text)


def test_files_follow_each_other(tmp_path: Path) -> None:
    first, second = write_log(tmp_path / "a.tsv", 10), write_log(tmp_path / "b.tsv.gz", 20, seed=1)
    check_against_plain_python(read(first, second), lines(10) + lines(20, seed=1))


def replaced(line: str, field: int, value: str) -> str:
    fields = line.split("\t")
    fields[field] = value
    return "\t".join(fields)


BROKEN = {
    "a label of 2": (lambda line: replaced(line, 0, "2"), "Row #4: the first field is 2, neither 0 nor 1"),
    "no label": (lambda line: replaced(line, 0, ""), "Row #4: the first field is empty, neither 0 nor 1"),
    "a count with a point": (lambda line: replaced(line, 3, "1.5"), "invalid value '1.5'"),
    "no hexadecimal digit": (lambda line: replaced(line, 14, "0123456g"), "Row #4: category 1 is '0123456g'"),
    "too few digits": (lambda line: replaced(line, 39, "0123456"), "Row #4: category 26 does not have 8 characters"),
    "too few fields": (lambda line: line.rpartition("\t")[0], "Expected 40 columns, got 39"),
    "another separator": (lambda line: line.replace("\t", ","), "Expected 40 columns, got 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_lines_are_refused(tmp_path: Path, name: str) -> None:
    break_line, message = BROKEN[name]
    text = lines(5)
    text[3] = break_line(text[3])
    path = tmp_path / "log.tsv"
    path.write_text("\n".join(text))
    with pytest.raises(UsageError, match=re.escape(message)) as raised:
        read(path)
    assert str(path) in str(raised.value)
    assert "40 fields between tabs" in str(raised.value)


def test_rows_are_counted_across_the_blocks_of_the_reader(tmp_path: Path) -> None:
    text = lines(6000)
    text[5999] = replaced(text[5999], 0, "2")
    path = tmp_path / "log.tsv"
    path.write_text("\n".join(text))
    with pytest.raises(UsageError, match="Row #6000: the first field is 2"):
        read(path)


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty.tsv": (lambda log: b"", "Empty"),
    "blank.tsv": (lambda log: b"\n\n\n", "has no rows, only blank lines"),
    "cut.tsv.gz": (lambda log: gzip.compress(log)[:-200], "cannot be read as a Criteo log"),
    "corrupt.tsv.gz": (lambda log: corrupt(gzip.compress(log)), "cannot be read as a Criteo log"),
    "corrupt.tsv.xz": (lambda log: corrupt(lzma.compress(log)), "cannot be read as a Criteo log"),
    "plain.tsv.xz": (lambda log: log, "cannot be read as a Criteo log"),
    "plain.tsv.zip": (lambda log: log, "cannot be read as a Criteo log"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_with_their_name(tmp_path: Path, name: str) -> None:
    """A corrupt .gz ended in zlib.error, an .xz in LZMAError, blank lines in StopIteration: none named the file."""
    damage, message = DAMAGED[name]
    whole = write_log(tmp_path / "whole.tsv", 100)
    path = tmp_path / name
    path.write_bytes(damage(whole.read_bytes()))
    with pytest.raises(UsageError, match=rf"{re.escape(str(path))}.*{message}"):
        check_readable([str(whole), str(path)])


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.tsv does not exist"):
        check_readable([str(tmp_path / "none.tsv")])
    with pytest.raises(UsageError, match="is a folder"):
        check_readable([str(tmp_path)])


def test_any_line_end_and_any_folder_name(tmp_path: Path) -> None:
    folder = tmp_path / "logs [2014]"
    folder.mkdir()
    for number, end in enumerate(("\n", "\r\n", "\r")):
        path = folder / f"{number}.tsv"
        path.write_bytes("".join(line + end for line in lines(20)).encode())
        check_against_plain_python(read(path), lines(20))


@pytest.mark.parametrize("sizes", [[7], [3, 4, 1], [10, 10, 5], [1] * 12, []])
def test_cut(sizes: list[int]) -> None:
    whole = numbered(sum(sizes))
    ends = np.cumsum([0, *sizes])
    pieces = list(cut([whole[start:end] for start, end in pairwise(ends)], 4))
    assert numbers(pieces) == list(range(sum(sizes)))
    assert [len(piece) for piece in pieces[:-1]] == [4] * (len(pieces) - 1)


@pytest.mark.parametrize("buffer_size", [2, 50, 5000, 20_000])
def test_shuffling_keeps_every_row_and_moves_it(buffer_size: int) -> None:
    def order(seed: int) -> list[int]:
        chunks = cut([numbered(10_000)], 700)
        return numbers(list(shuffled(chunks, buffer_size, np.random.default_rng(seed))))

    first = order(0)
    assert sorted(first) == list(range(10_000))
    assert order(0) == first
    assert order(1) != first
    # A row leaves at most one piece before its position minus the size of the buffer.
    ahead = max(row - place for place, row in enumerate(first))
    assert 0 < ahead <= buffer_size + min(buffer_size, 4096)
    # Without shuffling the mean distance would be 0.
    assert np.abs(np.array(first) - np.arange(10_000)).mean() > min(buffer_size, 10_000) / 8


def test_shuffling_leaves_the_pieces_of_the_stream_alone() -> None:
    chunks = [numbered(100) for _ in range(3)]
    list(shuffled(chunks, 120, np.random.default_rng(0)))
    assert all(numbers([chunk]) == list(range(100)) for chunk in chunks)


def steps_of(path: Path, processes: int, parts: int, micro_batch_size: int, **options: int) -> list[list[Step]]:
    """Return the steps as each process sees them."""
    return [
        list(
            LogSteps(
                [str(path)],
                micro_batch_size,
                micro_batches=parts,
                process_index=process,
                num_processes=processes,
                **options,
            )
        )
        for process in range(processes)
    ]


def line_numbers(steps: list[list[Step]], index: int) -> list[int]:
    """Return the lines of one step on all processes, sorted."""
    found = []
    for process in steps:
        for batch in process[index].micro_batches:
            counted = batch["labels"] != IGNORED
            found += np.expm1(batch["dense"][counted, 1].double().numpy()).round().astype(int).tolist()
    return sorted(found)


@pytest.mark.parametrize(("processes", "parts", "size"), [(1, 1, 12), (2, 1, 6), (1, 3, 4), (3, 2, 2), (4, 3, 1)])
@pytest.mark.parametrize("rows", [1, 5, 12, 29, 61])
def test_processes_share_out_the_rows_of_every_step(
    tmp_path: Path, processes: int, parts: int, size: int, rows: int
) -> None:
    path = write_log(tmp_path / "log.tsv", rows)
    one = steps_of(path, 1, 1, 12, shuffle_buffer=20, seed=3)
    steps = steps_of(path, processes, parts, size, shuffle_buffer=20, seed=3)
    assert {len(process) for process in steps} == {len(one[0])} == {math.ceil(rows / 12)}
    assert sorted(line for index in range(len(one[0])) for line in line_numbers(steps, index)) == list(range(rows))
    for index, step in enumerate(one[0]):
        # The same rows on any number of processes, in equally many batches of the same size.
        assert line_numbers(steps, index) == line_numbers(one, index)
        assert {process[index].num_items for process in steps} == {step.num_items}
        shapes = {batch["dense"].shape for process in steps for batch in process[index].micro_batches}
        assert len(shapes) == 1
        assert next(iter(shapes))[0] <= size
        assert {len(process[index].micro_batches) for process in steps} == {parts}


def test_steps_can_be_skipped_and_passes_differ(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.tsv", 50)
    options = {"shuffle_buffer": 30, "seed": 1}
    whole, rest = steps_of(path, 1, 1, 8, **options), steps_of(path, 1, 1, 8, **options, skipped_steps=4)
    assert [line_numbers(rest, index) for index in range(3)] == [line_numbers(whole, index) for index in range(4, 7)]
    later = steps_of(path, 1, 1, 8, **options, epoch=1)
    assert line_numbers(later, 0) != line_numbers(whole, 0)
    first = steps_of(path, 1, 1, 8, max_rows=20)
    assert [step.num_items for step in first[0]] == [8, 8, 4]
    assert line_numbers(first, 2) == [16, 17, 18, 19]


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="resets the peak of the memory by /proc, which only Linux has")
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    block = "".join(f"{line}\n" for line in lines(1000)).encode()
    with path.open("wb") as file:
        file.writelines(block for _ in range(240))
    # Each pass in a process of its own: in one that has run other tests the allocator moved the peak by 13 MB.
    with get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        short, long = processes.starmap(peak_of_a_pass, [(path, 120_000), (path, 240_000)], chunksize=1)
    # The difference is 29 MB of text, which would be 19 MB of rows.
    assert long - short < 8


def peak_of_a_pass(path: Path, rows: int) -> float:
    CLEAR_REFS.write_text("5")
    assert sum(step.num_items for step in LogSteps([str(path)], 4096, max_rows=rows, shuffle_buffer=20_000)) == rows
    return peak()


def peak() -> float:
    """Return the peak of the resident memory since the last reset, in MB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
