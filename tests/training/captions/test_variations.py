"""Varied sentences stay sentences: tags stay, lemmas follow their words."""

import random

from training.captions.treebank import Sentence
from training.captions.variations import Variations, vary, words_by_tag

SENTENCE = Sentence(
    ["Two", "boxes", "near", "Paris", "look", "old", "."],
    ["CD", "NNS", "IN", "NNP", "VBP", "JJ", "."],
    ["two", "box", "near", "Paris", "look", "old", "."],
    [True, True, True, True, True, False, False],
)
NONE = Variations(unpunctuated=0, lower_case=0, swapped=0, invented=0)


def varied(words=None, **changes):
    return vary(SENTENCE, Variations(**{**vars(NONE), **changes}), words or {}, random.Random(0))


def test_nothing_changes_where_every_share_is_zero():
    assert varied() == SENTENCE


def test_full_stop_goes_with_its_tag_lemma_and_space():
    assert varied(unpunctuated=1) == Sentence(*(column[:-1] for column in SENTENCE))


def test_names_keep_their_capitals_in_lower_case():
    assert varied(lower_case=1).words == ["two", "boxes", "near", "Paris", "look", "old", "."]


def test_swapped_words_bring_their_lemmas_and_keep_the_tags():
    sentence = varied({"NNS": [("feet", "foot")], "JJ": [("new", "new")]}, swapped=1)
    assert sentence.words == ["Two", "feet", "near", "Paris", "look", "new", "."]
    assert sentence.lemmas == ["two", "foot", "near", "Paris", "look", "new", "."]
    assert sentence.tags == SENTENCE.tags


def test_invented_words_keep_ending_and_lemma_and_spare_names_and_short_ones():
    sentence = varied(invented=1)
    word, lemma = sentence.words[1], sentence.lemmas[1]
    assert word != "boxes"
    assert word == f"{lemma}es"
    assert lemma[-1] == "x"
    assert [sentence.words[i] for i in (0, 2, 3, 6)] == ["Two", "near", "Paris", "."]
    assert sentence.tags == SENTENCE.tags


def test_words_for_swapping_are_those_of_the_treebank_by_tag_without_names():
    assert words_by_tag([SENTENCE, SENTENCE]) == {"NNS": [("boxes", "box")], "JJ": [("old", "old")]}
