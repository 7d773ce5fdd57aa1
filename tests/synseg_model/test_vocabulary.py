"""Labels are data: what is accepted, what is tidied, and what is refused with which words."""

import time

import numpy as np
import pytest

from synseg_model.vocabulary import LabelRules, Vocabulary, VocabularyError

INVISIBLE = "\u200b\ufeff"


def rules(**changes) -> LabelRules:
    values = {
        "count_tokens": lambda text: len(text.split()) + 2,
        "templates": ("a photo of a {}.",),
        "context_length": 77,
        "threshold": 0.5,
    }
    return LabelRules(**{**values, **changes})


def tidy(*labels: str) -> tuple[str, ...]:
    return rules().check(labels)[0]


def refusal(labels, thresholds=None, **changes) -> str:
    with pytest.raises(VocabularyError) as caught:
        rules(**changes).check(labels, thresholds)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  red ball ", "red ball"),
        ("\u3000red\u00a0 \t ball\n", "red ball"),
        ("cafe\u0301", "caf\u00e9"),
        ("\ufeffsky\u200b", "sky"),
        ("нога 足 قدم", "нога 足 قدم"),
        ("👩‍🚀", "👩‍🚀"),
        ("می‌خواهم", "می‌خواهم"),
    ],
)
def test_labels_are_trimmed_and_composed_in_any_script(given, kept):
    assert tidy(given) == (kept,)


@pytest.mark.parametrize("pair", [("Car", "cAR"), ("Straße", "STRASSE"), ("É", "e\u0301"), ("Σ", "ς"), ("a  b", "A b")])
def test_labels_equal_but_for_case_are_one_with_the_first_spelling(pair):
    assert tidy(pair[0], "other", pair[1]) == (tidy(pair[0])[0], "other")


def test_dropped_duplicates_take_their_thresholds_with_them():
    labels, thresholds = rules().check(["car", "tree", "CAR", "sky"], [0.1, 0.2, 0.9, 0.4])
    assert labels == ("car", "tree", "sky")
    np.testing.assert_array_equal(thresholds, np.float32([0.1, 0.2, 0.4]))


@pytest.mark.parametrize("thresholds", [None, [], ()])
def test_without_thresholds_the_models_own_is_used(thresholds):
    _, used = rules(threshold=0.35).check(["car", "tree"], thresholds)
    assert used.dtype == np.float32
    np.testing.assert_array_equal(used, np.float32([0.35, 0.35]))


@pytest.mark.parametrize("empty", ["", "  \t", INVISIBLE, "\u200d", "\u3000"])
def test_empty_labels_are_refused_by_position(empty):
    assert "label 2 is empty" in refusal(["car", empty])


def test_a_vocabulary_without_labels_is_refused():
    assert "no labels" in refusal([])


@pytest.mark.parametrize("labels", ["person, car", b"car", None, 7])
def test_what_is_no_list_of_labels_is_refused(labels):
    assert "expected a list of texts" in refusal(labels)


@pytest.mark.parametrize("label", [3, None, b"car", ["car"], float("nan")])
def test_labels_that_are_no_text_are_refused_by_position_and_type(label):
    message = refusal(["car", label])
    assert "label 2 is" in message
    assert type(label).__name__ in message


@pytest.mark.parametrize("character", ["\0", "\x07", "\x1b", "\x7f", "\x1d", "\u202e", "\u2066"])
def test_control_characters_are_refused_and_named_but_never_printed(character):
    message = refusal([f"red{character}ball"])
    assert f"U+{ord(character):04X}" in message
    assert character not in message


def test_lone_surrogates_are_refused_in_words_that_can_be_printed():
    refusal(["car \udcff"]).encode("utf-8")


def test_the_token_limit_counts_the_prompt_and_names_the_label():
    assert rules(context_length=8).check(["big red"])[0] == ("big red",)  # a photo of a big red. + 2 marks
    message = refusal(["big red ball"], context_length=8)
    assert "'big red ball' is too long: 9 tokens" in message
    assert "at most 8" in message


def test_the_longest_template_decides_about_length():
    templates = ("{}", "one two three {}")
    assert "6 tokens" in refusal(["car"], context_length=5, templates=templates)


def test_a_huge_label_costs_nothing_and_makes_a_short_message():
    counted = []

    def count_tokens(text: str) -> int:
        counted.append(len(text))
        return 7

    huge = "ab " * 3_500_000
    start = time.process_time()
    message = refusal([huge], count_tokens=count_tokens)
    assert time.process_time() - start < 0.5
    assert max(counted) < 100
    assert "is too long: 10499999 characters" in message
    assert len(message) < 250


def test_the_label_limit_counts_after_removing_duplicates():
    assert rules(max_labels=2).check(["car", "CAR", "tree", "Tree"])[0] == ("car", "tree")
    message = refusal(["car", "CAR", "tree", "sky"], max_labels=2)
    assert "more than 2 labels" in message
    assert "'sky'" in message


def test_an_endless_list_of_labels_is_refused_unread():
    def endless():
        while True:
            yield "car"

    assert "at most 3 are accepted" in refusal(endless(), max_labels=3)


def test_thresholds_of_the_wrong_number_are_refused():
    assert "1 thresholds for 2 labels" in refusal(["car", "tree"], [0.5])
    assert "more than 2 thresholds for 2 labels" in refusal(["car", "tree"], [0.5] * 3)
    assert "thresholds are float" in refusal(["car"], 0.5)


@pytest.mark.parametrize(
    "bad",
    [float("nan"), -0.01, 1.01, float("inf"), "0.5", None, True, 1j, 10**5000],
    ids=["nan", "negative", "above", "infinite", "text", "none", "bool", "complex", "huge"],
)
def test_bad_thresholds_are_refused_with_their_label(bad):
    message = refusal(["car", "tree"], [0.5, bad])
    assert "of label 'tree'" in message
    assert "from 0 to 1" in message
    assert len(message) < 250


@pytest.mark.parametrize(
    ("given", "shown"),
    [(np.float32(1.6).item(), "1.6"), (1.6, "1.6"), (-0.1, "-0.1"), (1.600000001, "1.600000001"), (np.inf, "inf")],
)
def test_a_refused_threshold_is_shown_as_it_was_given(given, shown):
    assert f"threshold {shown} of label 'car'" in refusal(["car"], [given])


@pytest.mark.parametrize("good", [0, 1, np.float32(0.25), np.int64(1)])
def test_numbers_of_any_kind_are_thresholds(good):
    assert rules().check(["car"], [good])[1][0] == np.float32(good)


def test_vocabularies_are_read_only_and_keep_their_own_copy():
    thresholds, embeddings = np.full(2, 0.5, np.float32), np.ones((2, 3), np.float32)
    vocabulary = Vocabulary(("car", "tree"), thresholds, embeddings, "00")
    thresholds[0] = 0.9
    assert vocabulary.thresholds[0] == 0.5
    assert len(vocabulary) == 2
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.embeddings[0] = 0
    with pytest.raises(AttributeError):
        vocabulary.labels = ()


def test_vocabularies_whose_parts_disagree_are_refused():
    with pytest.raises(ValueError, match="embeddings of shape"):
        Vocabulary(("car", "tree"), np.zeros(2), np.zeros((3, 4)), "00")


def vocabulary(*labels: str, **fields) -> Vocabulary:
    return Vocabulary(labels, np.full(len(labels), 0.5), np.zeros((len(labels), 2)), "00", **fields)


def test_ids_are_positions_unless_given():
    assert vocabulary("a", "b").ids == (1, 2)
    assert vocabulary("a", "b", ids=(7, 3)).ids == (7, 3)


@pytest.mark.parametrize("ids", [(1,), (1, 1), (0, 1), (1, 65536)])
def test_ids_that_do_not_fit_are_refused(ids):
    with pytest.raises(ValueError, match="expected distinct ones, from 1"):
        vocabulary("a", "b", ids=ids)


def test_labels_that_stay_keep_their_ids_and_others_take_the_smallest_free():
    first = vocabulary("ball", "cube", "grass").following(None)
    second = vocabulary("sky", "Grass", "ball").following(first)
    assert (first.ids, second.ids) == ((1, 2, 3), (2, 3, 1))
    third = vocabulary("GRASS").following(second)
    assert third.ids == (3,)
    assert vocabulary("a", "b", "grass").following(third).ids == (1, 2, 3)


def test_no_id_exceeds_the_size_of_the_largest_vocabulary():
    rng, running, largest = np.random.default_rng(0), None, 0
    for _ in range(200):
        labels = [f"thing {number}" for number in rng.choice(60, rng.integers(1, 40), replace=False)]
        running, largest = vocabulary(*labels).following(running), max(largest, len(labels))
        assert max(running.ids) <= largest
