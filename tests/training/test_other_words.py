"""Asking for things by other words, measured on held-out photographs."""

import json

import numpy as np
import pytest

from tests.training import photo_models
from tests.training.photo_models import masked
from training.datasets.photos.packed import write_packed
from training.other_words import KINDS, measure, pairs_of, run, table
from training.words.synonyms import load_synonyms

NAMES = ["sofa", "dog", "curtain"]
PHOTOS = [masked("voc", "1", "sofa", "dog"), masked("voc", "2", "curtain", "")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return photo_models.model_folder(tmp_path_factory.mktemp("model"))


def test_pairs_tell_trained_words_from_others_and_leave_out_the_names_of_the_set():
    pairs = pairs_of(["sofa", "couch", "nothing that a table has"], most=1)
    assert all(word not in ("sofa", "couch") for _, word, _ in pairs)
    assert {kind for name, _, kind in pairs if name == "sofa"} == set(KINDS)
    assert all((word in load_synonyms()[name].held_out) == (kind == KINDS[1]) for name, word, kind in pairs)


@pytest.mark.parametrize("nothing", [False, True])
def test_a_name_in_its_own_place_keeps_its_iou(model, nothing):
    pairs = [(name, name, KINDS[0]) for name in NAMES]
    own, other = measure(model[1], PHOTOS, NAMES, pairs, nothing)
    np.testing.assert_allclose(own, other, atol=0.1)  # equal logits: ties go to the first name, not to the word


def test_one_word_changes_nothing_for_the_other_names(model):
    one = measure(model[1], PHOTOS, NAMES, [("sofa", "settee", KINDS[1])], False)
    two = measure(model[1], PHOTOS, NAMES, [("dog", "canine", KINDS[1]), ("sofa", "settee", KINDS[1])], False)
    assert one[0].tolist() == two[0].tolist() and one[1][0] == two[1][1]


def test_the_program_writes_a_table_and_says_what_is_missing(model, tmp_path, capsys):
    write_packed(tmp_path / "held_out", iter(PHOTOS), {"exhaustive": {"voc": NAMES}})
    words = [f"--model={model[0]}", f"--photos={tmp_path}", f"--output={tmp_path / 'out'}"]
    assert run(words) == 0
    result = json.loads((tmp_path / "out" / "other_words.json").read_text())
    assert {row["name"] for row in result["rows"]} <= set(NAMES)
    assert (tmp_path / "out" / "other_words.md").read_text() == table(result)
    assert run([*words, '--sets=["nyu"]']) == 2
    assert "holds none of the sets nyu" in capsys.readouterr().err
