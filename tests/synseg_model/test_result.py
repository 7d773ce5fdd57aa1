"""A Result: all its outputs agree with each other, at any size of image."""

import threading

import cv2
import numpy as np
import pytest

from synseg_model import Result, Vocabulary, host_maps

SHAPE = (37, 53)


def make_result(maps: np.ndarray, thresholds=0.5, shape: tuple[int, int] = SHAPE) -> Result:
    count = len(maps)
    thresholds = np.broadcast_to(np.float32(thresholds), count)
    labels = tuple(f"label {i}" for i in range(count))
    return Result(Vocabulary(labels, thresholds, np.zeros((count, 4)), "00"), np.float32(maps), shape)


def random_maps(count: int = 6, seed: int = 0) -> np.ndarray:
    """Smooth maps with saturated places, exact zeros and ties between labels 0 and 1."""
    noise = np.random.default_rng(seed).random((count, 12, 17), np.float32)
    maps = np.clip(np.stack([cv2.GaussianBlur(plane, (0, 0), 1.5) for plane in noise]) * 6 - 2.5, 0, 1)
    maps[1, :6] = maps[0, :6]
    return maps


THRESHOLDS = [[0.5] * 6, [0.0, 0.2, 0.9, 1.0, 0.3, 0.5], [1.0] * 6, [0.0] * 6]


@pytest.mark.parametrize("thresholds", THRESHOLDS)
@pytest.mark.parametrize("shape", [SHAPE, (12, 17), (5, 4), (4, 1), (1, 4), (1, 1)])
def test_outputs_agree_exactly_with_activations_and_thresholds(thresholds, shape):
    result = make_result(random_maps(), thresholds, shape)
    limits = np.float32(thresholds)[:, None, None]
    activations = np.stack([cv2.resize(plane, shape[::-1]) for plane in random_maps()])
    reached = activations >= limits
    np.testing.assert_array_equal(result.activations, activations)
    np.testing.assert_array_equal(result.masks, reached)
    best = np.where(reached, activations, -1).argmax(axis=0)
    np.testing.assert_array_equal(result.label_map, np.where(reached.any(axis=0), best + 1, 0))
    winner = np.take_along_axis(activations, best[None], 0)[0]
    background = 1 - activations.max(axis=0)
    np.testing.assert_array_equal(result.confidence, np.where(reached.any(axis=0), winner, background))


def blobs(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Make four maps of noise in boxes, so that only a part of an image can reach a threshold."""
    maps = np.zeros((4, *size), np.float32)
    for plane in maps:
        y, x = random.integers(0, size)
        part = plane[y : y + 1 + size[0] // 3, x : x + 1 + size[1] // 3]
        part[:] = random.random(part.shape)
    return maps


@pytest.mark.parametrize("shape", [(480, 640), (479, 641), (121, 161), (90, 65), (64, 33), (20, 300)])
def test_every_bit_agrees_where_only_a_part_of_the_image_is_resampled(shape):
    random = np.random.default_rng(1)
    for size in [(72, 96), (64, 64), (13, 7), (2, 2), (1, 5), (5, 1), (60, 300)] * 3:
        maps, thresholds = blobs(random, size), 0.2 + 0.8 * random.random(4)
        result = make_result(maps, thresholds, shape)
        activations = np.stack([cv2.resize(plane, shape[::-1]) for plane in maps])
        reached = activations >= np.float32(thresholds)[:, None, None]
        host = host_maps.HostMaps(maps, result.vocabulary, shape)
        for index in range(4):  # masks alone would show a wrong bit only where it lies next to a threshold
            part, plane = host._resize_reach(index, host_maps._scratch(shape))
            np.testing.assert_array_equal(plane, activations[index][part])
            assert not reached[index].any() or result.area(index) == reached[index][part].sum() == reached[index].sum()
        best = np.where(reached, activations, -1).argmax(axis=0)
        np.testing.assert_array_equal(result.label_map, np.where(reached.any(axis=0), best + 1, 0))


@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_very_large_images_whose_buffers_are_not_kept_get_the_same_outputs(thresholds, monkeypatch):
    kept = make_result(random_maps(), thresholds)
    expected = kept.label_map, kept.confidence, [(c.area, c.score, c.roi) for c in kept.cutouts()]
    monkeypatch.setattr(host_maps, "_threads", threading.local())
    monkeypatch.setattr(host_maps, "_KEPT_PIXELS", 0)
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, 1, dtype))  # new memory may hold anything
    fresh = make_result(random_maps(), thresholds)
    np.testing.assert_array_equal(fresh.label_map, expected[0])
    np.testing.assert_array_equal(fresh.confidence, expected[1])
    assert [(c.area, c.score, c.roi) for c in fresh.cutouts()] == expected[2]


@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_a_pixel_of_a_label_lies_in_its_mask(thresholds):
    result = make_result(random_maps(), thresholds)
    rows, columns = np.nonzero(result.label_map)
    assert result.masks[result.label_map[rows, columns] - 1, rows, columns].all()
    np.testing.assert_array_equal(result.label_map == 0, ~result.masks.any(axis=0))


@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_statistics_describe_the_masks(thresholds):
    result = make_result(random_maps(), thresholds)
    assert result.present == tuple(np.flatnonzero(result.masks.any(axis=(1, 2))))
    for index, mask in enumerate(result.masks):
        np.testing.assert_array_equal(result.mask(index), mask)
        assert result.area(index) == mask.sum()
        if mask.any():
            assert result.score(index) == pytest.approx(result.activations[index][mask].mean(), abs=1e-6)
            x, y, w, h = result.roi(index)
            assert mask[y : y + h, x : x + w].sum() == mask.sum()
            assert mask[y].any()
            assert mask[y + h - 1].any()
            assert mask[:, x].any()
            assert mask[:, x + w - 1].any()
        else:
            assert (result.score(index), result.roi(index)) == (0.0, (0, 0, 0, 0))


@pytest.mark.parametrize("thresholds", THRESHOLDS)
@pytest.mark.parametrize("shape", [(97, 131), (8, 8), (5, 300)])
def test_cutouts_are_masks_in_their_boxes_with_their_statistics(thresholds, shape):
    result = Result(make_result(random_maps(), thresholds).vocabulary, random_maps(), shape)
    fresh = Result(result.vocabulary, result.maps, shape)
    cutouts = list(fresh.cutouts())
    assert tuple(cutout.index for cutout in cutouts) == result.present
    for cutout in cutouts:
        x, y, w, h = result.roi(cutout.index)
        np.testing.assert_array_equal(cutout.mask, result.masks[cutout.index][y : y + h, x : x + w] * np.uint8(255))
        assert (cutout.area, cutout.roi) == (result.masks[cutout.index].sum(), (x, y, w, h))
        assert cutout.score == pytest.approx(
            result.activations[cutout.index][result.masks[cutout.index]].mean(), abs=1e-6
        )


def test_outputs_have_the_promised_types_and_ranges():
    result = make_result(random_maps())
    assert result.activations.dtype == result.confidence.dtype == np.float32
    assert (result.masks.dtype, result.label_map.dtype) == (bool, np.uint16)
    for output in (result.activations, result.confidence):
        assert 0 <= output.min() <= output.max() <= 1
    assert result.labels == tuple(f"label {i}" for i in range(6))


def test_presence_is_the_largest_activation_whatever_the_threshold():
    result = make_result(random_maps(), THRESHOLDS[1])
    assert (result.presence.shape, result.presence.dtype) == ((6,), np.float32)
    np.testing.assert_array_equal(result.presence, random_maps().max(axis=(1, 2)))
    for index in result.present:
        assert result.presence[index] >= max(result.vocabulary.thresholds[index], result.score(index)) - 1e-6
    assert not result.presence.flags.writeable


def test_of_equal_activations_the_first_label_wins():
    result = make_result(np.full((3, 4, 4), 0.75))
    assert (result.label_map == 1).all()


def test_an_activation_of_zero_reaches_a_threshold_of_zero():
    result = make_result(np.zeros((3, 4, 4)), [0.5, 0.0, 0.0])
    assert (result.label_map == 2).all()
    assert (result.confidence == 0).all()
    assert result.present == (1, 2)


def test_labels_far_below_their_thresholds_count_in_the_confidence_of_background():
    maps = np.stack([np.full((4, 4), 0.2), np.full((4, 4), 0.7)])
    result = make_result(maps, [0.1, 0.9])
    assert (result.label_map == 1).all()
    np.testing.assert_allclose(result.confidence, 0.2)
    result = make_result(maps, [0.5, 0.9])
    assert (result.label_map == 0).all()
    np.testing.assert_allclose(result.confidence, 0.3, atol=1e-6)


def test_label_map_and_confidence_never_hold_one_float_per_label_and_pixel():
    import tracemalloc

    result = make_result(np.random.default_rng(0).random((64, 8, 8)), shape=(240, 320))
    tracemalloc.start()
    try:
        assert result.label_map.shape == result.confidence.shape
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * 4 * 240 * 320  # ten planes of floats; all activations would be 64


def test_results_are_computed_once_and_cannot_be_changed():
    result = make_result(random_maps())
    for name in ("activations", "masks", "label_map", "confidence"):
        output = getattr(result, name)
        assert output is getattr(result, name)
        with pytest.raises(ValueError, match="read-only"):
            output[...] = 0


def test_results_of_one_thread_do_not_share_memory():
    first = make_result(random_maps(seed=0))
    label_map, confidence = first.label_map.copy(), first.confidence.copy()
    second = make_result(random_maps(seed=1))
    assert second.label_map.shape == second.confidence.shape == SHAPE
    np.testing.assert_array_equal(first.label_map, label_map)
    np.testing.assert_array_equal(first.confidence, confidence)


@pytest.mark.parametrize("index", [-1, 6])
def test_labels_that_are_not_there_are_index_errors(index):
    with pytest.raises(IndexError, match=f"label index {index}"):
        make_result(random_maps()).area(index)


def test_maps_that_do_not_fit_the_vocabulary_are_refused():
    result = make_result(random_maps())
    with pytest.raises(ValueError, match=r"expected \(6,h,w\)"):
        Result(result.vocabulary, random_maps(5), SHAPE)
