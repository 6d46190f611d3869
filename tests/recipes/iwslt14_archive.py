"""A de-en.tgz of a few sentences, with the expected splits worked out by hand."""

from __future__ import annotations

import tarfile
from pathlib import Path

SENTENCES = 44
# The tags of two talks, then pairs that are dropped and pairs that are kept, each at the limit of a rule.
_HEAD = [
    ("<url>http://www.ted.com/1</url>", "<url>http://www.ted.com/1</url>"),
    ("<keywords>talks, dogs</keywords>", "<keywords>talks, dogs</keywords>"),
    ("<talkid>1</talkid>", "<talkid>1</talkid>"),
    ("<title>Über Hunde</title>", "<title>About Dogs</title>"),
    ("<description>TED-Talk: „Hunde“.</description>", '<description>TED Talk: "Dogs".</description>'),
    ("", "Nothing on the other side."),
    ("", ""),
    ("Nichts hier drüben.", " \N{NO-BREAK SPACE} "),
    ("eins zwei", "one two three four"),  # 2 to 4 tokens
    ("eins zwei", "one two three"),  # 2 to 3, a ratio of just 1.5: stays
    (" ".join(["lang"] * 176), " ".join(["long"] * 170)),
    (" ".join(["Lang"] * 175), " ".join(["Long"] * 175)),  # stays
    ("x" * 1001, "y" * 1000),
]
_KEPT_HEAD = [
    ("über hunde", "about dogs"),
    ("ted-talk : „ hunde “ .", "ted talk : &quot; dogs &quot; ."),
    ("eins zwei", "one two three"),
    (" ".join(["lang"] * 175), " ".join(["long"] * 175)),
]
_BODY = [(f"Satz Nummer {n}, usw.", f"It's sentence No. {n}.") for n in range(1, SENTENCES + 1)]
# "usw." and "No." are abbreviations: the full stop of the first is separated all the same, because it ends the line.
_KEPT = _KEPT_HEAD + [(f"satz nummer {n} , usw .", f"it &apos;s sentence no. {n} .") for n in range(1, SENTENCES + 1)]

SEGMENTS = {
    "TED.dev2010": [("Das ist\N{RIGHT SINGLE QUOTATION MARK}s.", "That\N{RIGHT SINGLE QUOTATION MARK}s it.")],
    "TEDX.dev2012": [("Er lebt in den U.S.A.", "He lives in the U.S.")],
    "TED.tst2010": [("Ein [kleiner] Test & mehr ...", "A [small] test & more...")],
    "TED.tst2011": [("3,5 Prozent", "3.5 percent"), ("ÜBEN!", "PRACTICE!")],
    "TED.tst2012": [("Patient B.", "Patient B.")],
}
TEST = [
    ("das ist &apos; s .", "that &apos;s it ."),
    ("er lebt in den u.s.a .", "he lives in the u.s ."),
    ("ein &#91; kleiner &#93; test &amp; mehr ...", "a &#91; small &#93; test &amp; more ..."),
    ("3,5 prozent", "3.5 percent"),
    ("üben !", "practice !"),
    ("patient b .", "patient b ."),
]
# Pairs 23 and 46 of the 48 that are kept.
VALID = [_KEPT[22], _KEPT[45]]
TRAIN = _KEPT[:22] + _KEPT[23:45] + _KEPT[46:]


def write_folder(folder: Path) -> Path:
    """Write the files of the archive to the folder ``de-en`` and return its parent."""
    inside = folder / "de-en"
    inside.mkdir(parents=True)
    for side, language in enumerate(("de", "en")):
        lines = [pair[side] for pair in _HEAD + _BODY]
        write_lines(inside / f"train.tags.de-en.{language}", lines)
        for name, pairs in SEGMENTS.items():
            segments = [f'<seg id="{number}"> {pair[side]} </seg>' for number, pair in enumerate(pairs, start=1)]
            xml = ["<mteval>", "<title>No sentence of the test</title>", *segments, "</mteval>"]
            write_lines(inside / f"IWSLT14.{name}.de-en.{language}.xml", xml)
    return folder


def write_archive(folder: Path) -> Path:
    """Write the archive and return its path."""
    path = folder / "de-en.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(write_folder(folder / "unpacked") / "de-en", arcname="de-en")
    return path


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
