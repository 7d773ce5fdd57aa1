"""Sentences of a treebank, varied so that a tagger learned from them reads captions."""

from __future__ import annotations

import random
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from training.captions.treebank import Sentence

SWAPPED = frozenset({"NN", "NNS", "JJ"})
INVENTED = frozenset({"NN", "NNS", "JJ", "VB", "VBD", "VBG", "VBN", "VBP", "VBZ"})
SHORTEST_STEM = 3


@dataclass(frozen=True)
class Variations:
    """How often a sentence, or a word of it, is changed.

    Attributes:
        unpunctuated: sentences that lose their full stop; captions often have none.
        lower_case: sentences that come in lower case, names excepted: else every unknown word could be one.
        swapped: nouns and adjectives in another's place of the same tag. The treebank is about mail and politics, so
            that what is drawn in an image must be told from what stands around it.
        invented: content words whose stem is made up, their ending kept: a word never seen.
    """

    unpunctuated: float = 0.3
    lower_case: float = 0.4
    swapped: float = 0.15
    invented: float = 0.05


def words_by_tag(sentences: Iterable[Sentence]) -> dict[str, list[tuple[str, str]]]:
    """Collect the different (word, lemma) of every tag that is swapped, in alphabetical order."""
    found = defaultdict(set)
    for sentence in sentences:
        for word, tag, lemma in zip(sentence.words, sentence.tags, sentence.lemmas, strict=True):
            if tag in SWAPPED and word.isalpha() and word.islower():
                found[tag].add((word, lemma))
    return {tag: sorted(words) for tag, words in found.items()}


def vary(
    sentence: Sentence,
    variations: Variations,
    words: Mapping[str, Sequence[tuple[str, str]]],
    rng: random.Random,
) -> Sentence:
    """Vary a sentence; tags stay, lemmas follow their words.

    Args:
        words: what words may be swapped for, by tag.
    """
    if len(sentence.words) > 1 and sentence.words[-1] == "." and rng.random() < variations.unpunctuated:
        sentence = Sentence(*(column[:-1] for column in sentence))
    lower = rng.random() < variations.lower_case
    varied: list[tuple[str, str]] = []
    for word, tag, lemma in zip(sentence.words, sentence.tags, sentence.lemmas, strict=True):
        if words.get(tag) and rng.random() < variations.swapped:
            word, lemma = rng.choice(words[tag])
        elif tag in INVENTED and rng.random() < variations.invented:
            word, lemma = _invent(word, lemma, rng)
        if lower and not tag.startswith("NNP"):
            word, lemma = word.lower(), lemma.lower()
        varied.append((word, lemma))
    return sentence._replace(words=[word for word, _ in varied], lemmas=[lemma for _, lemma in varied])


def _invent(word: str, lemma: str, rng: random.Random) -> tuple[str, str]:
    """Make up the stem that a word shares with its lemma."""
    stem = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, lemma, strict=False)))
    if len(stem) < SHORTEST_STEM or not stem.isalpha() or not stem.islower():
        return word, lemma
    made_up = "".join(rng.choices(string.ascii_lowercase, k=len(stem) - 1)) + stem[-1]
    return made_up + word[len(stem) :], made_up + lemma[len(stem) :]
