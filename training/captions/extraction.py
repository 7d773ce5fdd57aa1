"""Labels of a tagged caption: nouns and noun phrases ("spaCy nouns and noun phrases", SynSeg, arXiv 2508.06115).

A label is the longest run of adjectives and common nouns that ends in a noun, its last word in the singular. The rules
around it are ours: participles before a noun count as adjectives (a stuffed bear is no bear), adjectives joined by
"and" stay together (a black and white cat is no white cat), adverbs inside a run are left out, proper names and numbers
end a run, and the stop-list takes away what cannot be outlined in an image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from training.captions.plurals import IRREGULAR, singular
from training.captions.stop_words import StopList

MAX_WORDS = 5  # of a label; sellers' captions pile up thirty nouns
SPELLED = re.compile(r"[^\W\d_]+(?:['’.-][^\W\d_]+)*\.?")

NOUNS = frozenset({"NN", "NNS"})
ADJECTIVES = frozenset({"JJ", "JJR", "JJS", "AFX"})
PARTICIPLES = frozenset({"VBN", "VBG"})
ADVERBS = frozenset({"RB", "RBR", "RBS"})
VERBS = frozenset({"VB", "VBD", "VBG", "VBN", "VBP", "VBZ", "MD"})
OPENERS = frozenset({"DT", "PDT", "PRP$", "POS", "CD"}) | ADJECTIVES  # what a participle before a noun may follow
COUNTING = frozenset({"few", "couple", "dozen", "hundred", "thousand", "million", "many", "pair", "lot", "bunch"})
PLACED = frozenset({"with", "near", "on", "in", "at", "under", "over", "behind", "beside", "against"})


class Word(NamedTuple):
    """A tagged word: as written, Penn Treebank tag, lemma, and whether the next one follows without a space."""

    text: str
    tag: str
    lemma: str
    glued: bool = False


def extract_labels(words: Sequence[Word], stop: StopList) -> list[str]:
    """Extract the labels of one caption in the order of their first mention, each once."""
    words = _drop_phrases(_join_hyphens(words), stop.phrases)
    labels: dict[str, None] = {}
    start = 0
    while start < len(words):
        run, end = _run(words, start)
        if run:
            label = _label(run, words[end].text.lower() if end < len(words) else "", stop)
            if label:
                labels[label] = None
        start = max(end, start + 1)
    return [label for label in labels if not _is_tail_of_another(label, labels)]


def head_noun(label: str) -> str:
    """Return the noun that a label is about: its last word."""
    return label.rsplit(" ", 1)[-1]


def _run(words: Sequence[Word], start: int) -> tuple[list[Word], int]:
    """Collect the run that begins at `start`; returns it up to its last noun, and where the search goes on."""
    run: list[Word] = []
    nouns_end, run_end = 0, start  # length of the run and place in the caption, just after its last noun
    i = start
    while i < len(words):
        word = words[i]
        if not SPELLED.fullmatch(word.text) and not (run and word.text in {",", "&"}):
            break
        if word.tag in NOUNS:
            run.append(word)
            nouns_end, run_end = len(run), i + 1
        elif word.tag in ADJECTIVES or (word.tag in PARTICIPLES and _modifies(words, i)):
            run.append(word)
        elif run and not nouns_end and word.tag in ADVERBS:
            pass
        elif run and not nouns_end and _joins_adjectives(words, i):
            if word.text != ",":
                run.append(word)
        else:
            break
        i += 1
    run = run[:nouns_end]
    if _ends_in_a_verb(run, words[start - 1].text.lower() if start else ""):
        run.pop()
        while run and run[-1].tag not in NOUNS:
            run.pop()
    return run, run_end if nouns_end else i


def _ends_in_a_verb(run: Sequence[Word], before: str) -> bool:
    """Tell whether a tagger took a verb for a noun: "a bird pecks" is no plural, for want of "few" or "dozen"."""
    return (
        before in {"a", "an"}
        and len(run) > 1
        and (run[-1].tag, run[-2].tag) in {("NNS", "NN"), ("NNS", "NNS")}
        and run[-1].text.lower() != run[-1].lemma.lower()
        and not any(word.text.lower() in COUNTING for word in run)
    )


def _modifies(words: Sequence[Word], i: int) -> bool:
    """Tell whether the participle at `i` stands before its noun as an adjective does.

    "A parked car", "a tree lined street" and "a running dog" do; "a man eating bananas" does not.
    """
    after = words[i + 1].tag if i + 1 < len(words) else ""
    before = words[i - 1] if i else None
    if after not in NOUNS | ADJECTIVES:
        return False
    if words[i].tag == "VBN":
        return before is None or before.tag not in VERBS
    return before is not None and (before.tag in OPENERS or before.text.lower() in PLACED)


def _joins_adjectives(words: Sequence[Word], i: int) -> bool:
    """Tell whether "and" or a comma at `i` stands between two adjectives."""
    if words[i].text.lower() not in {"and", "&", ","} or i + 1 >= len(words):
        return False
    following = words[i + 1].tag in ADJECTIVES or (words[i + 1].tag == "VBN" and _modifies(words, i + 1))
    return words[i - 1].tag in ADJECTIVES | PARTICIPLES and following


def _label(run: Sequence[Word], following: str, stop: StopList) -> str | None:
    """Spell a run as a label, or return None where the stop-list takes it."""
    head = _singular(run[-1], stop)
    if head in stop.heads or len(head) < 2 or (following == "of" and head in stop.collections):
        return None
    modifiers = [word.text.lower() for word in run[:-1]]
    modifiers = ["and" if text == "&" else text for text in modifiers if text not in stop.modifiers]
    modifiers = modifiers[-(MAX_WORDS - 1) :]
    while modifiers and modifiers[0] == "and":
        modifiers.pop(0)
    while modifiers and modifiers[-1] == "and":
        modifiers.pop()
    return " ".join([*modifiers, head])


def _singular(word: Word, stop: StopList) -> str:
    text = word.text.lower()
    if text in stop.plurals or (word.tag != "NNS" and text not in IRREGULAR):
        return text
    return singular(text, word.lemma.lower())


def _is_tail_of_another(label: str, labels: Iterable[str]) -> bool:
    """Tell whether a longer label ends in this one: "bear" beside "white bear" is most often the same bear."""
    return any(other.endswith(f" {label}") for other in labels)


def _join_hyphens(words: Sequence[Word]) -> list[Word]:
    """Make one word of "two - story" where the caption had no spaces; it takes the tag of its last part."""
    joined: list[Word] = []
    i = 0
    while i < len(words):
        word = words[i]
        while word.glued and i + 2 < len(words) and words[i + 1].text == "-" and words[i + 1].glued:
            last = words[i + 2]
            word = Word(f"{word.text}-{last.text}", last.tag, f"{word.text}-{last.lemma}", last.glued)
            i += 2
        joined.append(word)
        i += 1
    return joined


def _drop_phrases(words: list[Word], phrases: Mapping[str, Iterable[tuple[str, ...]]]) -> list[Word]:
    """Take the tags from the words of stop phrases, so that none is a noun and no run reaches across."""
    texts = [word.text.lower() for word in words]
    for start, text in enumerate(texts):
        for phrase in phrases.get(text, ()):
            end = start + len(phrase)
            if tuple(texts[start:end]) == phrase:
                words[start:end] = [word._replace(tag="") for word in words[start:end]]
    return words
