import numpy as np
import pytest

from training.evaluation.classes import read_templates
from training.evaluation.prompts import embed_names


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_single_prompt_is_encoded_as_it_is(color_engine, tmp_path):
    embeddings = embed_names(color_engine, ["car", "tree"], "single", tmp_path)
    np.testing.assert_array_equal(embeddings, color_engine.encode_text(["a photo of a car.", "a photo of a tree."]))


def test_model_prompts_are_the_models_own(make_color_engine, tmp_path):
    engine = make_color_engine(templates=("one {}", "two {}"))
    expected = engine.encode_text(["one car", "two car"]).mean(axis=0)
    np.testing.assert_allclose(embed_names(engine, ["car"], "model", tmp_path)[0], expected, rtol=1e-6)


def test_imagenet_prompts_are_a_normalised_mean_of_normalised_embeddings(make_color_engine, tmp_path):
    engine = make_color_engine(normalize_text=True)
    prompts = [template.replace("{}", "car") for template in read_templates("imagenet")]
    expected = unit(unit(engine.encode_text(prompts)).mean(axis=0))
    np.testing.assert_allclose(embed_names(engine, ["car"], "imagenet", tmp_path)[0], expected, atol=1e-6)


def test_decoder_that_takes_raw_embeddings_gets_their_usual_length(make_color_engine, tmp_path):
    raw, normalised = make_color_engine(), make_color_engine(normalize_text=True)
    names = ["car", "tree"]
    embeddings = embed_names(raw, names, "imagenet", tmp_path / "raw")
    np.testing.assert_allclose(
        np.linalg.norm(embeddings, axis=1),
        np.linalg.norm(embed_names(raw, names, "single", tmp_path / "raw"), axis=1),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        unit(embeddings), embed_names(normalised, names, "imagenet", tmp_path / "normalised"), atol=1e-6
    )


def test_unknown_prompt_set_is_refused_with_the_choices(color_engine):
    with pytest.raises(ValueError, match="'many': expected one of single, imagenet, model"):
        embed_names(color_engine, ["car"], "many")
