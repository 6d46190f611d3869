"""The card of a run that has ended, from what it has left in its folder."""

import json
from pathlib import Path

from hf_momo.hub.cards.card import RECORD_FILE, render_model_card


def card_from_folder(folder: str | Path, *, name: str | None = None, repo_id: str | None = None) -> str | None:
    """Make the model card of a finished run.

    Args:
        folder: Of the run.
        name: What the model is called; left out, that of `repo_id`, what the record says, or else the folder's name.
        repo_id: By which code on the card loads the model, `OWNER/NAME`; left out, the name.

    Returns:
        The text; None where the folder has no record.json of a run to make it from.

    Raises:
        ValueError: record.json is not JSON, or no record of a run.
    """
    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); it was cut off or changed by hand") from error
    if not isinstance(record, dict) or "curve" not in record:
        raise ValueError(f"{path} is no record of a run: it has no curve; take it away, or write README.md yourself")
    pictures = [each for each in record.get("pictures") or [] if (path.parent / each).is_file()]
    name = name or (repo_id or "").rpartition("/")[2] or record.get("name") or path.parent.resolve().name
    chosen = {"name": name, "pictures": pictures}
    try:
        return render_model_card({**record, **chosen, **({"repo_id": repo_id} if repo_id else {})})
    except KeyError as error:
        raise ValueError(f"{path} is no record of a run: it has no {error}; write README.md yourself") from error
