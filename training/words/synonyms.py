"""Other words for the same thing: the table training/data/synonyms.json.

Each name that the data sets teach has three lists: "train", other words for it; "held_out", other words that no image
and no pull of synonyms may teach, so that they measure what an unknown word gets; "narrower", words that are true of
some of its kind, such as "woman" for "person". They may stand for the name only where a data set does not tell them
apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.words.nouns import Noun

SYNONYMS_FILE = Path(__file__).parents[1] / "data" / "synonyms.json"
LISTS = ("train", "held_out", "narrower")


@dataclass(frozen=True)
class Synonyms:
    """Other words for one name: the same thing, the same but held out, and kinds of it."""

    train: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    narrower: tuple[str, ...] = ()


@cache
def load_synonyms(path: Path = SYNONYMS_FILE) -> Mapping[str, Synonyms]:
    """Read the table; its keys are cleaned names of the data sets.

    Raises:
        ValueError: a list has another name than those of LISTS, or a held-out word is taught elsewhere in the table.
    """
    table = {}
    for name, lists in json.loads(Path(path).read_text(encoding="utf-8")).items():
        if unknown := set(lists) - set(LISTS):
            raise ValueError(f"{path}: {name!r} has a list {sorted(unknown)[0]!r}; there are {', '.join(LISTS)}.")
        table[name] = Synonyms(**{key: tuple(words) for key, words in lists.items()})
    held_out = held_out_words(table)
    for name, entry in table.items():
        if taught := held_out & {name, *entry.train, *entry.narrower}:
            word = sorted(taught)[0]
            raise ValueError(f"{path}: {word!r} is held out, but {name!r} teaches it. Take it out of one of the two.")
    return table


def held_out_words(table: Mapping[str, Synonyms]) -> frozenset[str]:
    """Return all words that must be taught by no image."""
    return frozenset(word for entry in table.values() for word in entry.held_out)


def canonical_names(table: Mapping[str, Synonyms]) -> list[str]:
    """Return one name for each thing: of two names for the same, such as "couch" and "sofa", the first."""
    names: list[str] = []
    others: set[str] = set()
    for name, entry in table.items():
        if name not in others:
            names.append(name)
            others.update(entry.train)
    return names


def measured_pairs(table: Mapping[str, Synonyms]) -> dict[str, list[tuple[str, str]]]:
    """Pair each name that has held-out words with one that was taught and one that was not: "trained", "held_out"."""
    names = {name: table[name] for name in canonical_names(table)}
    names = {name: entry for name, entry in names.items() if entry.held_out and entry.train}
    return {
        "trained": [(name, entry.train[0]) for name, entry in names.items()],
        "held_out": [(name, entry.held_out[0]) for name, entry in names.items()],
    }


def pulled_groups(table: Mapping[str, Synonyms], nouns: tuple[Noun, ...]) -> dict[str, tuple[str, ...]]:
    """Map each word that has synonyms to all words for the same thing, itself first.

    The table comes first; a word that it gives to several names, such as "dish", belongs to none of them. WordNet adds
    concrete nouns of which the table knows nothing. Held-out words are in no group, whether singular or plural.
    """
    groups = {name: (name, *entry.train) for name, entry in table.items() if entry.train}
    owners: dict[str, list[str]] = {}
    for name, entry in table.items():
        for word in entry.train:
            owners.setdefault(word, []).append(name)
    for word, names in owners.items():
        if word not in table and len(names) == 1:
            groups[word] = (word, *(other for other in groups[names[0]] if other != word))
    held_out = held_out_words(table)
    held_out |= {f"{word}s" for word in held_out} | {word.removesuffix("s") for word in held_out}
    known = held_out | table.keys() | owners.keys()
    for noun in nouns:
        members = (noun.text, *noun.synonyms)
        if noun.concrete and noun.synonyms and known.isdisjoint(members):
            groups[noun.text] = members
    return groups
