"""Model cards for the Hub, made from the record of a run.

``render_model_card`` renders a record, ``write_model_card`` writes record and card into a folder, ``card_from_folder``
renders the record in the folder of a finished run. The same record always gives the same text.
"""

from hf_momo.hub.cards.card import (
    CARD_FILE,
    MARKER,
    RECORD_FILE,
    is_generated,
    render_model_card,
    write_card,
    write_model_card,
)
from hf_momo.hub.cards.folder import card_from_folder
from hf_momo.hub.cards.results import summarize

__all__ = [
    "CARD_FILE",
    "MARKER",
    "RECORD_FILE",
    "card_from_folder",
    "is_generated",
    "render_model_card",
    "summarize",
    "write_card",
    "write_model_card",
]
