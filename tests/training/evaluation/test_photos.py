"""What is measured while a model trains on photographs."""

import json
import math

import numpy as np
import pytest
import torch

from tests.training import photo_models
from tests.training.photo_models import masked, named, words
from training.datasets.photos import UNLABELLED
from training.evaluation.metrics import IGNORE
from training.evaluation.photo_images import LABELS, photo_images
from training.evaluation.photos import detailed_results, measure_photos, photo_logits, photo_truth, validator

CLASSES = ["ball", "grass", "sky"]
PHOTOS = [masked("voc", "1", "ball", "grass"), masked("voc", "2", "sky", "")]
EXHAUSTIVE = {"voc": CLASSES, "nyu": ["ball", "grass", "a name without a word"], "clothing": ["sky"]}


def test_truth_is_the_first_class_that_is_true_of_a_pixel():
    regions = [("dining table", "table"), ("ball",), (), ("table",)]
    index_map = np.array([[0, 1, 2, 3, UNLABELLED]], np.uint8)
    assert photo_truth(index_map, regions, ["table", "ball"], True).tolist() == [[0, 1, 2, 0, IGNORE]]
    assert photo_truth(index_map, regions, ["table", "ball"], False).tolist() == [[0, 1, IGNORE, 0, IGNORE]]
    assert photo_truth(index_map, regions, ["table", "dining table"], False).tolist()[0][0] == 1, "the regions' order"


def by_color(image, names):
    """Give a pixel the logit 1 for the name whose colour it has, else -1."""
    colors = torch.tensor([photo_models.COLORS[name] for name in names])
    distance = (torch.from_numpy(image).int()[None] - colors[:, None, None]).abs().amax(dim=3)
    return 1.0 - 2.0 * (distance > 60)


def test_perfect_maps_reach_everything():
    matrix = measure_photos(by_color, PHOTOS, CLASSES, background=True, present_only=False)
    assert matrix.mean_iou(range(3)) > 96 and matrix.pixel_accuracy() > 98  # JPEG blurs the edge
    assert matrix.iou()[3] > 0.95, "a pixel of no name is background where all logits are below 0"


def test_without_background_every_pixel_takes_a_name_and_pixels_of_none_count_nowhere():
    matrix = measure_photos(lambda image, names: -by_color(image, names), PHOTOS, CLASSES, False, False)
    assert matrix.counts.sum() == 72 * 96 * 1.5
    assert matrix.counts[:, 3].sum() == 0 and matrix.iou().max() < 0.2


def test_present_names_alone_are_given_where_asked_for():
    given = []

    def logits(image, names):
        given.append(list(names))
        return by_color(image, names)

    measure_photos(logits, PHOTOS, CLASSES, True, present_only=True)
    assert given == [["ball", "grass"], ["sky"]]
    measure_photos(logits, PHOTOS, ["ball"], True, present_only=True)
    assert given[2:] == [["ball"]], "an image without any of the names is left out"


def test_logits_of_a_photograph_are_those_of_the_network_at_its_size():
    network = photo_models.network()
    averaged = torch.nn.ModuleDict({"image": network.encoder.image, "decoder": network.decoder})
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)  # the smallest input
    names, device = ["ball", "dog"], torch.device("cpu")
    found = photo_logits(network, averaged, image, names, words(), device)
    config = network.config.image
    pixels = (torch.from_numpy(image) / 255 - torch.tensor(config.mean)) / torch.tensor(config.std)
    text = torch.from_numpy(words().texts[[0, 3]])
    with torch.no_grad():
        expected = network(pixels.permute(2, 0, 1)[None], text)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert photo_logits(network, averaged, image[:30, :50], names, words(), device).shape == (2, 30, 50)


@pytest.fixture
def model():
    network = photo_models.network()
    return network, torch.nn.ModuleDict({"image": network.encoder.image, "decoder": network.decoder})


def test_validation_measures_the_sets_that_are_there_and_scores_their_mean(model):
    network, averaged = model
    photos = [*PHOTOS, masked("nyu", "1", "ball", "grass"), masked("clothing", "1", "sky", "sky")]
    found = validator(network, photos, EXHAUSTIVE, words(), most=1)(averaged)
    assert set(found) == {"nyu", "voc", "score"}
    assert found["score"] == pytest.approx((found["nyu"] + found["voc"]) / 2)
    assert all(0 <= value <= 100 for value in found.values())


def test_where_nothing_is_held_out_nothing_is_measured_and_drawn(model):
    network, _ = model
    assert validator(network, [masked("clothing", "1", "sky", "sky")], EXHAUSTIVE, words(), most=1) is None
    assert photo_images(network, [], words()) is None


def test_results_tell_every_set_with_masks_class_by_class(model):
    network, averaged = model
    photos = [*PHOTOS, masked("clothing", "1", "sky", "sky"), named("flickr8k", "1", ("dog",), ("A dog.",))]
    results = detailed_results(network, averaged, photos, EXHAUSTIVE, words())
    assert set(results) == {"voc", "voc present", "clothing", "clothing present"}
    assert results["voc"]["photographs"] == 2
    assert set(results["voc"]["iou"]) <= {"ball", "grass", "sky"}
    assert math.isfinite(json.loads(json.dumps(results))["voc"]["miou"])


def test_images_show_each_photograph_with_the_maps_of_its_names(model):
    network, averaged = model
    photos = [*PHOTOS, named("flickr8k", "1", (), ("Nothing to name.",))]
    sheet = photo_images(network, photos, words())(averaged)["activations"]
    assert sheet.dtype == np.uint8 and sheet.ndim == 3
    assert sheet.shape[0] > 3 * 120 and sheet.shape[1] > (1 + LABELS) * 160
