"""A Hub model card from the record of a run: every number in the text comes from the record."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import ModelCard

from hf_momo.hub.cards.metadata import card_data
from hf_momo.hub.cards.results import results
from hf_momo.hub.cards.task import Record, base_of, model_name, momo_curve, optim, scored_split
from hf_momo.hub.cards.tasks import task_of
from hf_momo.hub.cards.training import optimizer_table, settings_table, step_size, where
from hf_momo.hub.cards.words import finite
from hf_momo.utils.files import write_whole

RECORD_FILE, CARD_FILE, STEP_SIZE_PICTURE = "record.json", "README.md", "step_size.png"
_TEMPLATE = Path(__file__).with_name("template.md")

# Says of a card that it may be written over, and how to keep one's own.
MARKER = "hf_momo has made this card from the record of a run. Take this comment out, and it keeps off your own text."
# By these sentences other tools mark what they have made and nobody has touched.
_MADE_BY_OTHERS = ("generated automatically according to the information the Trainer had access to",)
_UNTOUCHED_PEFT_HEADING = "# Model Card for Model ID"


def render_model_card(record: Record) -> str:
    """Render the model card of a run.

    Args:
        record: Of a run, as the recipes and `MomoTrainer.create_model_card` make it. Optional keys: `name` (of the
            model), `repo_id` (by which code loads it), `comparisons` (see `summarize`), `pictures` (file names),
            `notes` (sentences for the limits), `license`, `languages`, `tags`.

    Returns:
        Markdown with the metadata block of the Hub.

    Raises:
        KeyError: It is no record of a run.
        ValueError: From huggingface_hub, if its metadata are not valid.
    """
    task = task_of(record)
    pictures = [
        {"file": name, "text": PurePosixPath(name).stem.replace("_", " ")} for name in record.get("pictures") or []
    ]
    card = ModelCard.from_template(
        card_data(record),
        template_path=str(_TEMPLATE),
        marker=MARKER,
        name=model_name(record),
        opening=_opening(record),
        results=results(record),
        step_size=step_size(record),
        result_pictures=[picture for picture in pictures if picture["file"] != STEP_SIZE_PICTURE],
        step_pictures=[picture for picture in pictures if picture["file"] == STEP_SIZE_PICTURE],
        usage=task.usage(record),
        command=record.get("command"),
        where=where(record),
        optim=optim(record),
        optimizer_table=optimizer_table(record),
        settings_table=settings_table(record),
        limits=_limits(record),
    )
    return str(card).strip() + "\n"


def write_model_card(record: Record, folder: str | Path) -> bool:
    """Write `record.json` and the `README.md` made from it.

    A README.md that is not known to be made by a program stays as it is.

    Args:
        record: Of a run.
        folder: Made where it does not exist.

    Returns:
        Whether README.md was written.
    """
    folder = Path(folder)
    write_whole(folder / RECORD_FILE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return write_card(render_model_card(record), folder)


def write_card(text: str, folder: Path) -> bool:
    """Write README.md, unless one lies there that is not known to be made by a program.

    Returns:
        Whether it was written.
    """
    path = folder / CARD_FILE
    if path.exists() and not is_generated(path.read_text(encoding="utf-8", errors="replace")):
        return False
    write_whole(path, text)
    return True


def is_generated(text: str) -> bool:
    """Whether a card was made by this package, the stock Trainer or PEFT, and may be written over."""
    return (
        not text.strip()
        or MARKER in text
        or any(sentence in " ".join(text.split()) for sentence in _MADE_BY_OTHERS)
        or ("library_name: peft" in text and _UNTOUCHED_PEFT_HEADING in text)
    )


def _opening(record: Record) -> str:
    task = task_of(record)
    data = task.trained_on(record)
    base = base_of(record)
    how = "trained from scratch" if base == "from scratch" else base or "trained"
    momo = ", whose learning rate is a cap on an adaptive step size ([MoMo](https://arxiv.org/abs/2305.07583))"
    return (
        f"{task.what(record)}, {how}{f' on {data}' if data else ''} with `{optim(record)}`"
        f"{momo if momo_curve(record) else ''}."
    )


def _limits(record: Record) -> list[str]:
    limits = [str(note).rstrip(".") for note in record.get("notes") or []]
    limits.append(f"One run with seed {record['seed']}; another seed gives another score")
    if not scored_split(record["metrics"])[1]:
        limits.append("Nothing is known of its quality: the run was not evaluated")
    losses: list[Any] = [entry.get("loss") for entry in record["curve"]]
    if len(finite(losses)) < len(losses):
        limits.append("The training diverged: a logged loss is not a number")
    limits += task_of(record).limits(record)
    limits.append(
        "It stands here to show what the optimizer does; the licence of the data holds for what was trained on it"
        if "trainer" not in record
        else "The licence of the data, and of the base model where there is one, holds for what was trained on it"
    )
    return limits
