"""Read treebanks in CoNLL-U: the tagger learns from one."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Sentence(NamedTuple):
    """The words of a sentence with their Penn Treebank tags, their lemmas, and whether a space follows."""

    words: list[str]
    tags: list[str]
    lemmas: list[str]
    spaces: list[bool]


def read_treebank(path: str | Path) -> Iterator[Sentence]:
    """Yield the sentences of a .conllu or .conllu.gz file.

    Contractions ("don't") come as their parts ("do", "n't"), as spaCy's English tokenizer splits them; words that stand
    only in the enhanced syntax ("8.1") are left out.

    Raises:
        ValueError: a line has not ten columns; the message names it.
    """
    path = Path(path)
    opener = gzip.open if path.suffix == ".gz" else open
    sentence = Sentence([], [], [], [])
    whole_until, space_after_whole = 0, True  # the last part of a contraction takes the space of the whole
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\n")
            if not line:
                if sentence.words:
                    yield sentence
                sentence, whole_until = Sentence([], [], [], []), 0
                continue
            if line.startswith("#"):
                continue
            columns = line.split("\t")
            if len(columns) != 10:
                raise ValueError(f"{path}, line {number}: {len(columns)} columns, CoNLL-U has ten.")
            position, space = columns[0], "SpaceAfter=No" not in columns[9]
            if "." in position:
                continue
            if "-" in position:
                whole_until, space_after_whole = int(position.split("-")[1]), space
                continue
            if int(position) <= whole_until:
                space = space_after_whole and int(position) == whole_until
            sentence.words.append(columns[1])
            sentence.lemmas.append(columns[2])
            sentence.tags.append(columns[4])
            sentence.spaces.append(space)
    if sentence.words:
        yield sentence
