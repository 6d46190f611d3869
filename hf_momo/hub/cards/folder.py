"""The card of a finished run, from the record in its folder."""

import json
from pathlib import Path

from hf_momo.hub.cards.card import RECORD_FILE, render_model_card


def card_from_folder(folder: str | Path, *, name: str | None = None, repo_id: str | None = None) -> str | None:
    """Render the model card of a finished run.

    Args:
        folder: Folder of the run.
        name: Name of the model; by default that of ``repo_id``, of the record or of the folder, in this order.
        repo_id: ``OWNER/NAME``, by which the code on the card loads the model; the name by default.

    Returns:
        The card; ``None`` if the folder has no ``record.json``.

    Raises:
        ValueError: If ``record.json`` is not the record of a run.
    """
    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): it was truncated or edited") from error
    advice = "remove it, or write README.md yourself"
    if not isinstance(record, dict) or "curve" not in record:
        raise ValueError(f"{path} is not the record of a run: it has no curve; {advice}")
    pictures = [each for each in record.get("pictures") or [] if (path.parent / each).is_file()]
    name = name or (repo_id or "").rpartition("/")[2] or record.get("name") or path.parent.resolve().name
    chosen = {"name": name, "pictures": pictures}
    try:
        return render_model_card({**record, **chosen, **({"repo_id": repo_id} if repo_id else {})})
    except KeyError as error:
        raise ValueError(f"{path} is not the record of a run: it has no {error}; {advice}") from error
    except TypeError as error:
        raise ValueError(f"{path} is not the record of a run: {error}; {advice}") from error
