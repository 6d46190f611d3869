"""The splits of IWSLT14 German-English that the literature reports on, from the files of the evaluation campaign.

The rules are those of prepare-iwslt14.sh in fairseq, which come from Ranzato et al. (ICLR 2016, "MIXER"):

- train: The lines of other tags are dropped; titles and descriptions of the talks are kept as sentences. Sentences
  are tokenized. Pairs are kept that have 1 to 175 tokens a side and whose longer side has at most 1.5 times the tokens
  of the shorter one. They are lower-cased, and every 23rd pair goes to valid.
- test: All of dev2010, TEDX.dev2012 and tst2010 to tst2012 in this order, tokenized and lower-cased.
"""

import re
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from common.reading import READ_ERRORS, decode, read_bytes
from hf_momo.utils.errors import UsageError
from machine_translation.moses import MosesText, lowercase

LANGUAGES = ("de", "en")
# The number of pairs that the complete archive gives.
STANDARD_PAIRS = {"train": 160_239, "valid": 7_283, "test": 6_750}

Pair = tuple[str, str]
Splits = dict[str, list[Pair]]
# Takes a description and lines, and yields the lines, perhaps under a progress bar.
Progress = Callable[[str, Sequence[str]], Iterable[str]]

_TEST_SETS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
_DROPPED_LINES = re.compile("<url>|<talkid>|<keywords>")
_DROPPED_TAGS = re.compile("</?(?:title|description)>")
_SEGMENT_TAGS = re.compile(r'<seg id="[0-9]*">\s*|\s*</seg>\s*')
_CURLY_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_MIN_TOKENS, _MAX_TOKENS, _MAX_RATIO, _MAX_CHARACTERS = 1, 175, 1.5, 1000
_VALID_EVERY = 23


def training_file(language: str) -> str:
    """Return the name of the training file of one language in the archive."""
    return f"train.tags.de-en.{language}"


def xml_files(language: str) -> list[str]:
    """Return the names of the XML files whose segments are the test split, in order."""
    return [f"IWSLT14.{name}.de-en.{language}.xml" for name in _TEST_SETS]


def read_files(source: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Return the lines of text files from an archive, or from the folder into which it was unpacked.

    Args:
        source: ``de-en.tgz``, a folder with its files, or a folder with the folder ``de-en`` that holds them.
        names: The names of the files, without folders.

    Returns:
        The lines of each file without their line ends, by file name.

    Raises:
        UsageError: If the source or one of its files is missing, damaged or not UTF-8.
    """
    wanted = list(names)
    if source.is_dir():
        paths = [folder / name for folder in (source / "de-en", source) for name in wanted]
        found = {path.name: read_bytes(path) for path in paths if path.is_file()}
    elif source.is_file():
        found = _read_archive(source, set(wanted))
    else:
        raise UsageError(f"--archive {source} does not exist; give de-en.tgz or the folder with its files")
    if missing := [name for name in wanted if name not in found]:
        raise UsageError(f"--archive {source} has no {missing[0]}; give the complete de-en.tgz or its files")
    # Only a line feed ends a line, as in the tools of the standard recipe.
    return {name: decode(data, f"{source}: {name}").removesuffix("\n").split("\n") for name, data in found.items()}


def training_sentences(lines: Iterable[str]) -> list[str]:
    """Return the sentences of a ``train.tags`` file, including titles and descriptions."""
    return [_DROPPED_TAGS.sub("", line) for line in lines if not _DROPPED_LINES.search(line)]


def segment_sentences(lines: Iterable[str]) -> list[str]:
    """Return the segments of an XML file of a test set."""
    segments = (_SEGMENT_TAGS.sub("", line) for line in lines if "<seg id" in line)
    return [segment.replace(_CURLY_APOSTROPHE, "'") for segment in segments]


def is_clean(pair: Pair) -> bool:
    """Return whether the lengths of a tokenized pair, and their ratio, are within the limits for training."""
    tokens = [side.split() for side in pair]
    lengths = [len(side) for side in tokens]
    if not all(_MIN_TOKENS <= length <= _MAX_TOKENS for length in lengths):
        return False
    return max(lengths) <= _MAX_RATIO * min(lengths) and all(
        len(token) <= _MAX_CHARACTERS for side in tokens for token in side
    )


def prepare_training(files: Mapping[str, Sequence[str]], progress: Progress) -> Splits:
    """Return the splits train and valid.

    Args:
        files: The lines of the training files by name.
        progress: Called with the sentences; yields them as they are tokenized.

    Raises:
        UsageError: If the sides have different numbers of sentences.
    """
    sides = {language: training_sentences(files[training_file(language)]) for language in LANGUAGES}
    pairs = [pair for pair in _tokenize(sides, "train", progress) if is_clean(pair)]
    lowered = [(lowercase(german), lowercase(english)) for german, english in pairs]
    return {
        "train": [pair for number, pair in enumerate(lowered, start=1) if number % _VALID_EVERY],
        "valid": lowered[_VALID_EVERY - 1 :: _VALID_EVERY],
    }


def prepare_test(files: Mapping[str, Sequence[str]], progress: Progress) -> list[Pair]:
    """Return the split test.

    Args:
        files: The lines of the XML files by name.
        progress: Called with the sentences; yields them as they are tokenized.

    Raises:
        UsageError: If the sides of a set have different numbers of segments.
    """
    pairs: list[Pair] = []
    for names in zip(*(xml_files(language) for language in LANGUAGES), strict=True):
        sides = {language: segment_sentences(files[name]) for language, name in zip(LANGUAGES, names, strict=True)}
        pairs += _tokenize(sides, names[0].removesuffix(".de.xml"), progress)
    return [(lowercase(german), lowercase(english)) for german, english in pairs]


def _tokenize(sides: Mapping[str, Sequence[str]], name: str, progress: Progress) -> list[Pair]:
    counts = [len(sentences) for sentences in sides.values()]
    if counts[0] != counts[1]:
        raise UsageError(
            f"{name}: {counts[0]} German and {counts[1]} English sentences; sentence n of one must be the translation "
            "of sentence n of the other, so one of the files is damaged"
        )
    tokenized = []
    for language, sentences in sides.items():
        moses = MosesText(language)
        tokenized.append([moses.tokenize(sentence) for sentence in progress(f"{name}, {language}", sentences)])
    return list(zip(*tokenized, strict=True))


def _read_archive(path: Path, names: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if name in names and member.isfile() and (file := archive.extractfile(member)) is not None:
                    found[name] = file.read()
            # A damaged header in the middle looks like the end of the archive; the checksum behind it tells.
            while archive.fileobj is not None and archive.fileobj.read(1 << 20):
                pass
    except (tarfile.TarError, *READ_ERRORS) as error:
        raise UsageError(f"--archive {path} cannot be read ({error}); give de-en.tgz as it was downloaded") from error
    return found
