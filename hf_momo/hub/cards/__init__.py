"""Model cards for the Hub, from the record of a run.

`render_model_card` makes the text of any record, `write_model_card` puts both into a folder, `card_from_folder` makes
the card of a run that has ended. Of the same record the card is the same text, so it can be made anew at any time.
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
from hf_momo.hub.cards.tasks import TOKENIZED_BLEU

__all__ = [
    "CARD_FILE",
    "MARKER",
    "RECORD_FILE",
    "TOKENIZED_BLEU",
    "card_from_folder",
    "is_generated",
    "render_model_card",
    "summarize",
    "write_card",
    "write_model_card",
]
