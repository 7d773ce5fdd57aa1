"""Labels are embedded once, with every template, whatever the text tower."""

import numpy as np
import pytest

from synseg_model.text.embedder import PromptEmbedder, unit_length


class Tower:
    """Embed a prompt as the counts of its letters, and remember what was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, prompts):
        self.calls.append(list(prompts))
        return np.array([[prompt.count(letter) for letter in "acrt "] for prompt in prompts], np.float32)


def test_a_label_is_embedded_once_however_often_it_is_asked_for():
    tower = Tower()
    embedder = PromptEmbedder(tower, ("a {}",), normalize=False)
    first = embedder.embed(["car", "cat", "car"])
    assert tower.calls == [["a car", "a cat"]]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(embedder.embed(["cat"]), first[1:2])
    assert len(tower.calls) == 1


def test_templates_are_averaged():
    plain, normalised = (PromptEmbedder(Tower(), ("{}", "a {}"), normalize) for normalize in (False, True))
    raw = Tower()(["car", "a car"])
    np.testing.assert_allclose(plain.embed(["car"])[0], raw.mean(axis=0))
    np.testing.assert_allclose(normalised.embed(["car"])[0], unit_length(unit_length(raw).mean(axis=0)), rtol=1e-6)


@pytest.mark.parametrize(("at_once", "sizes"), [(2, [2, 2, 2]), (4, [4, 2]), (100, [6])])
def test_the_tower_gets_no_more_prompts_at_once_than_said(at_once, sizes):
    tower = Tower()
    embedder = PromptEmbedder(tower, ("{}", "a {}"), normalize=False, prompts_at_once=at_once)
    assert embedder.embed(["car", "cat", "rat"]).shape == (3, 5)
    assert [len(call) for call in tower.calls] == sizes


def test_what_was_asked_for_least_recently_is_forgotten():
    tower = Tower()
    embedder = PromptEmbedder(tower, ("{}",), normalize=False, remembered=2)
    for label in ("car", "cat", "car", "rat", "car", "cat"):
        embedder.embed([label])
    assert [call[0] for call in tower.calls] == ["car", "cat", "rat", "cat"]
