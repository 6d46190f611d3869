"""Text as the scripts of Moses leave it: tokens apart by spaces, lower-cased, quotes and brackets escaped.

`sacremoses` is the Python port of these scripts. What it lacks against the scripts with which the IWSLT14 data of the
literature was made is added here, so that both give the same lines.
"""

from sacremoses import MosesDetokenizer, MosesTokenizer


class PerlMosesTokenizer(MosesTokenizer):
    """`MosesTokenizer` that parts the full stop from the last word of a line, as tokenizer.perl does since 2016.

    sacremoses treats the last word as any other: after what looks like an abbreviation ("in the U.S.", "usw.",
    "Patient B.") it leaves the stop where it is.
    """

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        """Part full stops from words, but for abbreviations inside the line."""
        parted: str = super().handles_nonbreaking_prefixes(text)
        if parted.endswith(".") and not parted.endswith(" ."):
            parted = f"{parted[:-1]} ."
        return parted


class MosesText:
    """Tokenizes and lower-cases text of one language, and puts such text together again."""

    def __init__(self, language: str) -> None:
        """Load the abbreviations of a language.

        Args:
            language: Its code, e.g. de.
        """
        self._tokenizer = PerlMosesTokenizer(lang=language)
        self._detokenizer = MosesDetokenizer(lang=language)

    def tokenize(self, text: str) -> str:
        """The tokens of a line, apart by one space, with `&`, quotes, brackets and bars escaped."""
        tokenized: str = self._tokenizer.tokenize(text, return_str=True)
        return tokenized

    def detokenize(self, tokenized: str) -> str:
        """The text of a tokenized line; escapes are undone."""
        text: str = self._detokenizer.detokenize(tokenized.split())
        return text


def lowercase(text: str) -> str:
    """Lower-case as Perl's `lc`, which does not give a Greek sigma at the end of a word its final form."""
    return text.replace("\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER SIGMA}").lower()
