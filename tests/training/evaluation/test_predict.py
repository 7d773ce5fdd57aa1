import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from synseg_model.config import EncoderConfig, ImageConfig, ModelConfig
from training.evaluation import predict
from training.evaluation.predict import Predictor, PredictSettings


class ColorEngine:
    """Stand in for a network: the logit of a text is the inner product of its first values and the pixel's colour."""

    def __init__(self, size=16):
        self.config = ModelConfig("colours", EncoderConfig("none"), image=ImageConfig(size=size))
        self.network = SimpleNamespace(encoder=SimpleNamespace(patch=4))
        self.shapes = []

    def logits(self, images, text):
        self.shapes.append(images.shape)
        colors = torch.from_numpy(images).float() / 255 * 2 - 1
        return torch.einsum("bhwc,kc->bkhw", colors, torch.from_numpy(text)).contiguous()


RED, GREEN, BLUE = np.eye(3, dtype=np.float32) * 4


@pytest.fixture
def halves():
    """An image (24,40,3), its left half red and its right half green."""
    image = np.zeros((24, 40, 3), np.uint8)
    image[:, :20, 0], image[:, 20:, 1] = 255, 255
    return image


def predictor(text, owners=None, **settings):
    text = np.stack(text)
    return Predictor(ColorEngine(), text, owners or list(range(len(text))), PredictSettings(**settings))


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_every_pixel_gets_its_most_active_class_at_the_images_own_size(halves, mode):
    classes = predictor([GREEN, RED], mode=mode, short_side=24, window=16, stride=8).classify(halves)
    assert classes.shape == (24, 40) and classes.dtype == np.uint8
    assert (classes[:, :17] == 1).all() and (classes[:, 23:] == 0).all()


def test_whole_mode_asks_for_the_models_own_size_once(halves):
    asked = predictor([RED], mode="whole")
    asked.scores(halves)
    assert asked.engine.shapes == [(1, 16, 16, 3)]


def test_slide_mode_asks_for_windows_of_the_resized_image(halves):
    asked = predictor([RED], short_side=48, window=32, stride=16, batch=100)
    assert asked.scores(halves).shape == (1, 48, 80)
    assert asked.engine.shapes == [(8, 32, 32, 3)]


def test_logits_are_resized_before_the_largest_is_taken():
    image = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    asked = predictor([RED, GREEN, BLUE], mode="whole")
    expected = F.interpolate(asked.scores(image)[None], (20, 28), mode="bilinear")[0].argmax(dim=0)
    np.testing.assert_array_equal(asked.classify(image), expected)


def test_few_classes_at_a_time_give_the_same_map(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    text = list(np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32))
    expected = predictor(text).best(image)
    monkeypatch.setattr(predict, "_PIXELS_AT_ONCE", 2 * 20 * 28)
    for own, other in zip(predictor(text).best(image), expected, strict=True):
        np.testing.assert_array_equal(own, other)


def test_class_with_several_prompts_takes_the_largest_of_their_scores(halves):
    asked = predictor([BLUE, RED, GREEN], owners=[0, 0, 1], mode="whole")
    single = predictor([BLUE, RED, GREEN], mode="whole").scores(halves)
    assert asked.classes == 2
    torch.testing.assert_close(asked.scores(halves), torch.stack([single[:2].amax(dim=0), single[2]]))


def test_background_wins_where_no_activation_reaches_the_threshold(halves):
    classes = predictor([RED, BLUE], mode="whole").classify(halves, threshold=0.5)
    assert (classes[:, :17] == 1).all(), "class 0 is index 1 beside background"
    assert (classes[:, 23:] == 0).all()


@pytest.mark.parametrize("pamr", [False, True])
def test_threshold_means_the_same_activation_with_and_without_refinement(pamr):
    asked = predictor([RED], mode="whole", pamr=pamr)
    flat = np.full((16, 16, 3), (255, 0, 0), np.uint8)
    activation = 1 / (1 + math.exp(-4))
    assert (asked.classify(flat, activation - 1e-3) == 1).all()
    assert (asked.classify(flat, activation + 1e-3) == 0).all()


def test_thresholds_of_zero_and_one_are_all_and_nothing(halves):
    asked = predictor([RED], mode="whole")
    assert (asked.classify(halves, 0.0) == 1).all()
    assert (asked.classify(halves, 1.0) == 0).all()


@pytest.mark.parametrize(
    "settings", [{"pamr": True}, {"refine": "superpixels"}, {"pamr": True, "refine": "superpixels"}]
)
@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_refined_scores_are_activations(halves, mode, settings):
    if "refine" in settings:
        pytest.importorskip("skimage")
    plain = predictor([RED, GREEN], mode=mode).scores(halves)
    scores = predictor([RED, GREEN], mode=mode, **settings).scores(halves)
    assert scores.shape == plain.shape
    assert scores.min() >= 0 and scores.max() <= 1


@pytest.mark.parametrize(
    "settings",
    [{"mode": "tiles"}, {"refine": "crf"}, {"window": 0}, {"stride": 500}, {"short_side": 3000}, {"batch": 0}],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        PredictSettings(**settings)


def test_threshold_outside_activations_is_refused():
    with pytest.raises(ValueError, match=r"threshold 1\.5: expected an activation from 0 to 1"):
        predictor([RED]).background_score(1.5)
