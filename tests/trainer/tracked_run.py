"""One run in a process of its own, reported to local W&B and trackio, which both keep state in the process.

    python tracked_run.py FOLDER

writes to the folder the Trainer's history as ``history.json``, the history in W&B's file as ``wandb.json``, and
trackio's database.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.tiny import arguments, gpt2, text_examples

from hf_momo import MomoTrainer

PROJECT = "hf_momo"
BLOCK, WHOLE, LAST = 32768, 1, 4


def records_of(file: Path) -> Iterator[bytes]:
    """Return the records of a file of W&B, which is LevelDB's log format after a header of seven bytes."""
    content, at, record = file.read_bytes(), 7, b""
    assert content.startswith(b":W&B")
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:  # fewer bytes than a header are padding
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def history_in_wandb(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the history in the one offline run below a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("run-*.wandb")
    rows = []
    for content in records_of(file):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def main(folder: Path) -> None:
    """Train with ``momo``, a cap that some of the steps reach, and a bound that moves."""
    options = {"optim": "momo", "learning_rate": 0.1, "optim_args": "lower_bound=0.5,adapt_lower_bound=true"}
    args = arguments(
        folder / "out",
        max_steps=12,
        logging_steps=3,
        report_to=["wandb", "trackio"],
        run_name="tiny",
        project=PROJECT,
        trackio_space_id=None,  # transformers 4.57 would create a Space
        **options,
    )
    trainer = MomoTrainer(model=gpt2(), args=args, train_dataset=text_examples())
    trainer.train()
    import wandb

    wandb.teardown()  # after finish() alone, a background process still writes the file
    (folder / "history.json").write_text(json.dumps(trainer.state.log_history))
    (folder / "wandb.json").write_text(json.dumps(history_in_wandb(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
