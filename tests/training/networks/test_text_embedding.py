"""Training reads texts with the network's own tower, as the engines do."""

import numpy as np
import pytest
import torch

from synseg_model.engines.load import load_engine
from synseg_model.text.embedding_cache import TextCache
from synseg_model.weights.model_folder import load_model
from training.networks.text_embedding import TextEmbedder, embed_phrases

LABELS = ["red ball", "grass", "{} {0}", "a very long label of more words than others"]


@pytest.fixture(scope="module")
def network():
    return load_model("synseg-tiny")[0]


def test_labels_have_the_embeddings_that_an_engine_gives_them(network, tmp_path):
    expected = TextCache(load_engine("synseg-tiny", "torch", "cpu"), tmp_path).embed(LABELS)
    found = TextEmbedder(network)(LABELS)
    assert found.dtype == torch.float32 and not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_embedding_does_not_depend_on_the_labels_beside_it(network):
    together = TextEmbedder(network)(LABELS)
    for label, embedding in zip(LABELS, together, strict=True):
        assert torch.equal(TextEmbedder(network)([label])[0], embedding)


def test_phrases_are_of_length_one_and_know_no_template(network):
    phrases = embed_phrases(network, ["red ball", "a red ball"])
    np.testing.assert_allclose(np.linalg.norm(phrases, axis=1), 1, rtol=1e-5)
    assert phrases[0] @ phrases[1] < 0.9999
