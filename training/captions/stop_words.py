"""The stop-list: which words of a caption are no label."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STOP_WORDS_FILE = Path(__file__).parents[1] / "data" / "stop_words.json"
SECTIONS = ("directions", "units", "collections", "pictures", "times", "empty", "modifiers", "plurals")


@dataclass(frozen=True)
class StopList:
    """The lists of a stop-list file; what each does is told in the file itself."""

    version: int
    heads: frozenset[str]  # no label as the last word of a phrase
    modifiers: frozenset[str]  # left out wherever they stand
    collections: frozenset[str]  # no label before "of"
    plurals: frozenset[str]  # never put in the singular
    phrases: dict[str, tuple[tuple[str, ...], ...]]  # whose nouns are no labels, by their first word


def read_stop_list(path: str | Path = STOP_WORDS_FILE) -> StopList:
    """Read a stop-list file.

    Raises:
        ValueError: the file is no stop-list; the message names the section that is wrong.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a stop-list: {error}. Expected a JSON file.") from error
    if not isinstance(data, dict) or not isinstance(data.get("version"), int):
        raise ValueError(f'{path} has no whole number under "version"; every change of the list raises it.')
    words: dict[str, frozenset[str]] = {}
    for name in (*SECTIONS, "phrases"):
        section = data.get(name)
        entries = section.get("words") if isinstance(section, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, str) and e == e.lower() for e in entries):
            raise ValueError(f'{path}: "{name}" must hold a list "words" of lower-case strings.')
        words[name] = frozenset(entries)
    phrases: dict[str, tuple[tuple[str, ...], ...]] = {}
    for phrase in sorted(tuple(text.split()) for text in words["phrases"]):
        phrases[phrase[0]] = (*phrases.get(phrase[0], ()), phrase)
    return StopList(
        version=data["version"],
        heads=words["directions"] | words["units"] | words["pictures"] | words["times"] | words["empty"],
        modifiers=words["directions"] | words["modifiers"],
        collections=words["collections"],
        plurals=words["plurals"],
        phrases=phrases,
    )


@cache
def stop_list() -> StopList:
    """Read the list that ships with the project, once."""
    return read_stop_list()
