"""Tokenization and lower-casing as by the scripts of Moses; quotes and brackets are escaped.

``sacremoses`` is the Python port of these scripts. This module adds the differences to the scripts that prepared the
IWSLT14 data of the literature, so that both give the same lines.
"""

from sacremoses import MosesDetokenizer, MosesTokenizer


class PerlMosesTokenizer(MosesTokenizer):
    """``MosesTokenizer`` that separates the full stop from the last word of a line, as tokenizer.perl does since 2016.

    sacremoses treats the last word like any other and keeps the stop at what looks like an abbreviation ("in the
    U.S.", "usw.", "Patient B.").
    """

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        """Return the text with full stops separated from words, except from abbreviations inside the line."""
        separated: str = super().handles_nonbreaking_prefixes(text)
        if separated.endswith(".") and not separated.endswith(" ."):
            separated = f"{separated[:-1]} ."
        return separated


class MosesText:
    """The tokenizer and the detokenizer of one language."""

    def __init__(self, language: str) -> None:
        """Load the abbreviations of the language.

        Args:
            language: The code of the language, e.g. ``de``.
        """
        self._tokenizer = PerlMosesTokenizer(lang=language)
        self._detokenizer = MosesDetokenizer(lang=language)

    def tokenize(self, text: str) -> str:
        """Return the tokens of a line, separated by spaces, with ``&``, quotes, brackets and bars escaped."""
        tokenized: str = self._tokenizer.tokenize(text, return_str=True)
        return tokenized

    def detokenize(self, tokenized: str) -> str:
        """Return the text of a tokenized line, without escapes."""
        text: str = self._detokenizer.detokenize(tokenized.split())
        return text


def lowercase(text: str) -> str:
    """Return the text in lower case as by Perl's ``lc``, which keeps the plain sigma at the end of a Greek word."""
    return text.replace("\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER SIGMA}").lower()
