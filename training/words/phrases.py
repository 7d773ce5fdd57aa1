"""Collect the phrases that the text encoder learns from: `python -m training.words.phrases`.

Everything that training needs goes into one small folder, so that it can run on a machine without the project's data:
`phrases.txt.gz` with one phrase per line, `measured.json` with names and pairs of synonyms that are measured, and the
tokenizer's merges.
A line holds the phrase's kind, the phrase, and other phrases for the same thing, separated by tabs.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jsonargparse

from synseg_model.files import write_whole
from training.words.merges import MERGES_FILE, learn_merges, write_merges
from training.words.nouns import Noun, load_nouns
from training.words.synonyms import Synonyms, canonical_names, load_synonyms, measured_pairs, pulled_groups

PHRASES_FILE, MEASURED_FILE = "phrases.txt.gz", "measured.json"
KINDS = ("name", "plural", "noun", "caption", "adjective")
ADJECTIVES = """
    red green blue yellow black white brown grey gray orange pink purple beige golden silver turquoise dark-red
    light-blue dark-green colorful striped checkered plain transparent shiny
    wooden metal plastic glass leather fabric stone brick concrete paper cardboard ceramic steel iron marble woolen
    big small large little tall short long huge tiny round square thin thick wide narrow
    old new broken open closed empty full dirty clean wet modern antique parked folded hanging lying standing
    left right nearest farthest front rear upper lower
    kitchen bathroom bedroom office garden street outdoor toy
    """.split()  # noqa: SIM905 (a list of 95 quoted words is no easier to read)
# How often a word counts when merges are learned: everyday words become whole tokens.
WEIGHTS = {"name": 20, "plural": 4, "noun": 1, "caption": 4, "adjective": 1}


@dataclass(frozen=True)
class Phrase:
    """A phrase, where it comes from (one of KINDS), and other phrases for the same thing."""

    kind: str
    text: str
    others: tuple[str, ...] = ()


@dataclass
class PhrasesConfig:
    """Settings of the phrases.

    Args:
        captions: folder of sidecars that `training.prepare` wrote; by default no captions are used.
        output: folder to write.
        adjectives: adjectives drawn for each everyday noun.
        caption_nouns: everyday nouns taken from captions, the most frequent ones.
        tokens: size of the tokenizer's vocabulary.
        seed: of the adjectives' draw.
    """

    captions: str | None = None
    output: str = "runs/text-data"
    adjectives: int = 25
    caption_nouns: int = 500
    tokens: int = 9400
    seed: int = 0


def plural(text: str) -> str:
    """Spell the regular plural of a noun."""
    if text.endswith(("s", "x", "z", "ch", "sh")):
        return text + "es"
    if text.endswith("y") and text[-2:-1] not in "aeiou":
        return text[:-1] + "ies"
    return text + "s"


def caption_labels(folder: Path) -> Counter[str]:
    """Count the labels in all sidecars of a folder.

    Raises:
        ValueError: the folder has no sidecar.
    """
    paths = sorted(Path(folder).glob("*.labels.jsonl"))
    if not paths:
        raise ValueError(f"--captions {folder}: no *.labels.jsonl there. Make them with `python -m training.prepare`.")
    counts: Counter[str] = Counter()
    for path in paths:
        with path.open(encoding="utf-8") as file:
            counts.update(label for line in file for label in json.loads(line).get("labels", ()))
    return counts


def collect(
    table: Mapping[str, Synonyms], nouns: tuple[Noun, ...], captions: Counter[str], config: PhrasesConfig
) -> list[Phrase]:
    """Collect all phrases, each once, under the first of KINDS that it belongs to."""
    groups = pulled_groups(table, nouns)
    phrases: dict[str, Phrase] = {}
    for kind, text, others in _candidates(table, nouns, captions, groups, config):
        if text not in phrases:
            phrases[text] = Phrase(kind, text, tuple(other for other in dict.fromkeys(others) if other != text))
    return list(phrases.values())


def _candidates(
    table: Mapping[str, Synonyms],
    nouns: tuple[Noun, ...],
    captions: Counter[str],
    groups: Mapping[str, tuple[str, ...]],
    config: PhrasesConfig,
) -> Iterator[tuple[str, str, Iterable[str]]]:
    everyday = [word for name, entry in table.items() for word in (name, *entry.train)]
    others = [word for entry in table.values() for word in (*entry.held_out, *entry.narrower)]
    for word in [*everyday, *others]:
        yield "name", word, groups.get(word, ())
    listed = {noun.text for noun in nouns}
    for word in [*table, *(noun.text for noun in nouns if noun.concrete and noun.count)]:
        if word in listed and not word.endswith("s"):
            yield "plural", plural(word), groups.get(word, (word,))
    for noun in nouns:
        if noun.concrete or noun.count:
            yield "noun", noun.text, groups.get(noun.text, ())
    of_table = {word: groups[word] for word in everyday if word in groups}
    for label in captions:
        yield "caption", label, groups.get(label) or _said_otherwise(label, of_table)
    heads: Counter[str] = Counter()
    for label, count in captions.items():
        heads[label.rsplit(" ", 1)[-1]] += count
    rng = random.Random(config.seed)
    for word in dict.fromkeys([*everyday, *(head for head, _ in heads.most_common(config.caption_nouns))]):
        for adjective in rng.sample(ADJECTIVES, min(config.adjectives, len(ADJECTIVES))):
            text = f"{adjective.replace('-', ' ')} {word}"
            yield "adjective", text, _said_otherwise(text, of_table)


def _said_otherwise(phrase: str, groups: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Replace the longest end of a phrase that has synonyms by each of them: "red couch", "red sofa"."""
    words = phrase.split()
    for start in range(1, len(words)):
        if group := groups.get(" ".join(words[start:])):
            return [" ".join([*words[:start], word]) for word in group]
    return []


def read_phrases(folder: Path) -> list[Phrase]:
    """Read the phrases that `write` wrote.

    Raises:
        ValueError: the folder has none, or a line is of no known kind.
    """
    path = Path(folder) / PHRASES_FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {PHRASES_FILE}. Make it with `python -m training.words.phrases`.")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    for number, line in enumerate(lines, 1):
        if len(line) < 2 or line[0] not in KINDS:
            raise ValueError(f"{path}, line {number}: {line[0]!r} is none of the kinds {', '.join(KINDS)}.")
    return [Phrase(kind, text, tuple(others)) for kind, text, *others in lines]


def write(config: PhrasesConfig) -> Path:
    """Write the folder of phrases and return its path."""
    table, nouns = load_synonyms(), load_nouns()
    captions = caption_labels(Path(config.captions)) if config.captions else Counter()
    phrases = collect(table, nouns, captions, config)
    folder = Path(config.output)
    lines = ["\t".join([phrase.kind, phrase.text, *phrase.others]) + "\n" for phrase in phrases]
    data = gzip.compress("".join(lines).encode("utf-8"), mtime=0)
    write_whole(folder / PHRASES_FILE, lambda file: file.write(data))
    measured = json.dumps({"names": canonical_names(table), "pairs": measured_pairs(table)}, indent=1)
    write_whole(folder / MEASURED_FILE, lambda file: file.write(measured.encode("utf-8")))
    weights: Counter[str] = Counter()
    for phrase in phrases:
        for word in phrase.text.split():
            weights[word] += WEIGHTS[phrase.kind] + captions.get(phrase.text, 0)
    write_merges(folder / MERGES_FILE, learn_merges(weights, config.tokens))
    kinds = Counter(phrase.kind for phrase in phrases)
    pulled = sum(bool(phrase.others) for phrase in phrases)
    print(f"wrote {len(phrases):,} phrases to {folder}: {dict(kinds)}, {pulled:,} with synonyms")
    return folder


if __name__ == "__main__":
    write(jsonargparse.auto_cli(PhrasesConfig, as_positional=False))
