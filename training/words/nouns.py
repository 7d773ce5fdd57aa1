"""English nouns with their synonyms, from WordNet 3.0: `python -m training.words.nouns --wordnet DICT_FOLDER`.

The folder holds `index.noun`, `data.noun` and `cntlist.rev`, as Debian's package wordnet-base installs them in
/usr/share/wordnet. The result, training/data/nouns.txt.gz, has one noun per line: the noun, the kind of its most
frequent sense, how often that sense was counted in tagged text, and the other words of that sense, separated by tabs.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jsonargparse

from synseg_model.files import write_whole

NOUNS_FILE = Path(__file__).parents[1] / "data" / "nouns.txt.gz"
KINDS = (
    *("tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling"),
    *("food", "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession", "process"),
    *("quantity", "relation", "shape", "state", "substance", "time"),
)  # WordNet's lexicographer files 03 to 28
CONCRETE = frozenset(("animal", "artifact", "body", "food", "location", "object", "person", "plant", "substance"))
MOST_WORDS = 4
SPELLED = re.compile(r"[a-z][a-z' -]*[a-z]")


@dataclass(frozen=True)
class Noun:
    """A noun in its most frequent sense.

    Attributes:
        text: the noun in lower case, words separated by spaces.
        kind: one of KINDS.
        count: how often the sense was counted in text; 0 for most nouns.
        synonyms: other nouns whose most frequent sense is the same.
    """

    text: str
    kind: str
    count: int
    synonyms: tuple[str, ...] = ()

    @property
    def concrete(self) -> bool:
        """Tell whether it names something physical."""
        return self.kind in CONCRETE


@dataclass
class NounsConfig:
    """Settings of the list of nouns.

    Args:
        wordnet: folder with WordNet 3.0's `index.noun`, `data.noun` and `cntlist.rev`.
        output: file to write.
    """

    wordnet: str = "/usr/share/wordnet"
    output: str = str(NOUNS_FILE)


@cache
def load_nouns(path: Path = NOUNS_FILE) -> tuple[Noun, ...]:
    """Read the list of nouns, in alphabetical order."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return tuple(_noun(line.rstrip("\n").split("\t")) for line in file if not line.startswith("#"))


def _noun(columns: list[str]) -> Noun:
    text, kind, count, *synonyms = columns
    return Noun(text, kind, int(count), tuple(synonyms))


def wordnet_nouns(folder: Path) -> Iterator[Noun]:
    """Read all nouns without capitals, digits and dots, of at most MOST_WORDS words.

    Two nouns are synonyms only where their shared sense is the most frequent one of both: "lounge" is a sofa, but
    first of all a room.

    Raises:
        ValueError: `folder` lacks one of WordNet's files.
    """
    missing = [name for name in ("index.noun", "data.noun", "cntlist.rev") if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} has no {missing[0]}. Give the folder of WordNet 3.0's database files with --wordnet; "
            "Debian's package wordnet-base has them in /usr/share/wordnet."
        )
    counts = _counts(folder / "cntlist.rev")
    synsets = dict(_synsets(folder / "data.noun"))
    first = dict(_first_senses(folder / "index.noun"))
    for text, offset in first.items():
        kind, members = synsets[offset]
        if text not in members or len(text.split()) > MOST_WORDS or not SPELLED.fullmatch(text):
            continue  # capitals in the synset mark proper names
        others = [w for w in members if w != text and first.get(w) == offset and SPELLED.fullmatch(w)]
        yield Noun(text, kind, counts.get(text, 0), tuple(others))


def _lines(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("  "):  # the licence
                yield line.split()


def _first_senses(path: Path) -> Iterator[tuple[str, str]]:
    for lemma, _, _, pointers, *rest in _lines(path):
        yield lemma.replace("_", " "), rest[int(pointers) + 2]


def _synsets(path: Path) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    for offset, kind, _, size, *rest in _lines(path):
        yield offset, (KINDS[int(kind) - 3], [word.replace("_", " ") for word in rest[: 2 * int(size, 16) : 2]])


def _counts(path: Path) -> dict[str, int]:
    """Read how often the first sense of each noun was counted; keys look like house%1:06:00::, 1 being a noun."""
    counts = {}
    for key, sense, count in _lines(path):
        lemma, _, rest = key.partition("%")
        if rest.startswith("1:") and sense == "1":
            counts[lemma.replace("_", " ")] = int(count)
    return counts


def write_nouns(config: NounsConfig) -> Path:
    """Write the list of nouns and return its path."""
    header = "# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. See README.md.\n"
    lines = [
        "\t".join([noun.text, noun.kind, str(noun.count), *noun.synonyms]) + "\n"
        for noun in sorted(wordnet_nouns(Path(config.wordnet)), key=lambda noun: noun.text)
    ]
    data = gzip.compress((header + "".join(lines)).encode("utf-8"), mtime=0)
    path = Path(config.output)
    write_whole(path, lambda file: file.write(data))
    print(f"wrote {len(lines):,} nouns to {path}")
    return path


if __name__ == "__main__":
    write_nouns(jsonargparse.auto_cli(NounsConfig, as_positional=False))
