"""Segmenter and Result: vocabularies change safely, and all outputs agree with each other."""

import threading

import cv2
import numpy as np
import pytest

from synseg_model import Result, Segmenter, Vocabulary, VocabularyError

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


@pytest.fixture
def segmenter(color_engine, tmp_path) -> Segmenter:
    return Segmenter(color_engine, cache_dir=tmp_path)


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


def test_segmenting_gives_the_engines_maps_at_the_images_size(segmenter, color_engine, gradient_image):
    vocabulary = segmenter.set_vocabulary(["car", "tree"])
    result = segmenter.segment(gradient_image)
    (maps,) = color_engine.activations([gradient_image], vocabulary.embeddings)
    np.testing.assert_array_equal(result.maps, maps)
    assert result.labels == ("car", "tree")
    assert result.label_map.shape == gradient_image.shape[:2]
    assert result.label_map.any()


def test_a_batch_of_several_sizes_equals_single_calls(segmenter, gradient_image):
    segmenter.set_vocabulary(["car", "tree"])
    images = [gradient_image, gradient_image[:50, 20:], gradient_image[::2, ::2]]
    for image, result in zip(images, segmenter.segment_batch(images), strict=True):
        np.testing.assert_array_equal(result.activations, segmenter.segment(image).activations)
        assert result.shape == image.shape[:2]
    assert segmenter.segment_batch([]) == []


def test_views_with_any_strides_are_images(segmenter, gradient_image):
    segmenter.set_vocabulary(["car", "tree"])
    flipped = gradient_image[::-1, ::-1, ::-1]
    expected = segmenter.segment(flipped.copy()).activations
    np.testing.assert_array_equal(segmenter.segment(flipped).activations, expected)


def test_one_pixel_is_a_image(segmenter):
    segmenter.set_vocabulary(["car"])
    assert segmenter.segment(np.zeros((1, 1, 3), np.uint8)).label_map.shape == (1, 1)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ([[0, 0, 0]], "list: expected a numpy array"),
        (None, "NoneType: expected a numpy array"),
        (np.zeros((4, 5), np.uint8), r"shape \(4, 5\): expected \(H,W,3\)"),
        (np.zeros((4, 5, 4), np.uint8), r"shape \(4, 5, 4\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"shape \(1, 4, 5, 3\)"),
        (np.zeros((4, 5, 3), np.float32), "dtype float32: expected uint8"),
        (np.zeros((0, 5, 3), np.uint8), "5x0 pixels is empty"),
    ],
)
def test_what_is_no_image_is_refused_by_name(segmenter, image, words):
    segmenter.set_vocabulary(["car"])
    with pytest.raises(ValueError, match=words):
        segmenter.segment(image)


def test_the_bad_image_of_a_batch_is_numbered(segmenter, gradient_image):
    segmenter.set_vocabulary(["car"])
    with pytest.raises(ValueError, match="image 1 has dtype"):
        segmenter.segment_batch([gradient_image, gradient_image.astype(float)])


def test_segmenting_before_the_first_vocabulary_says_what_to_do(segmenter, gradient_image):
    assert segmenter.vocabulary is None
    with pytest.raises(ValueError, match="set_vocabulary"):
        segmenter.segment(gradient_image)


def test_a_refused_vocabulary_leaves_the_running_one(segmenter):
    running = segmenter.set_vocabulary(["car"])
    for labels in (["tree", ""], [], ["x " * 100]):
        with pytest.raises(VocabularyError):
            segmenter.set_vocabulary(labels)
        assert segmenter.vocabulary is running


def test_a_prepared_vocabulary_is_used_only_when_told(segmenter, gradient_image):
    running = segmenter.set_vocabulary(["car"])
    prepared = segmenter.prepare_vocabulary(["tree", "sky"], [0.1, 0.2])
    assert segmenter.vocabulary is running
    assert segmenter.segment(gradient_image, prepared).labels == ("tree", "sky")
    assert segmenter.segment(gradient_image).vocabulary is running
    segmenter.use(prepared)
    assert segmenter.segment(gradient_image).vocabulary is prepared


def test_a_vocabulary_of_another_model_is_refused(segmenter, make_color_engine, tmp_path, gradient_image):
    foreign = Segmenter(make_color_engine("11"), cache_dir=tmp_path).prepare_vocabulary(["car"])
    segmenter.set_vocabulary(["tree"])
    with pytest.raises(ValueError, match="another model"):
        segmenter.use(foreign)
    with pytest.raises(ValueError, match="another model"):
        segmenter.segment(gradient_image, foreign)


@pytest.mark.parametrize("limit", [0, -1, 65536])
def test_label_limits_that_a_label_map_cannot_hold_are_refused(color_engine, limit):
    with pytest.raises(ValueError, match="expected 1 to 65535"):
        Segmenter(color_engine, max_labels=limit)


def test_the_label_limit_is_the_segmenters(color_engine, tmp_path):
    segmenter = Segmenter(color_engine, max_labels=2, cache_dir=tmp_path)
    with pytest.raises(VocabularyError, match="more than 2 labels"):
        segmenter.set_vocabulary(["a", "b", "c"])


def test_each_result_belongs_to_one_vocabulary_while_another_thread_changes_it(segmenter, gradient_image):
    vocabularies = [segmenter.prepare_vocabulary([f"{n} {i}" for i in range(n)]) for n in (1, 3, 7)]
    expected = {id(v): segmenter.segment(gradient_image, v).label_map for v in vocabularies}
    segmenter.use(vocabularies[0])
    stop, seen = threading.Event(), set()

    def change() -> None:
        while not stop.is_set():
            for vocabulary in vocabularies:
                segmenter.use(vocabulary)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(1000):
            result = segmenter.segment(gradient_image)
            assert len(result.maps) == len(result.labels)
            np.testing.assert_array_equal(result.label_map, expected[id(result.vocabulary)])
            seen.add(id(result.vocabulary))
            if len(seen) == 3:
                break
    finally:
        stop.set()
        changer.join()
    assert len(seen) > 1


def test_known_labels_are_not_tokenised_again(color_engine, tmp_path):
    counted, count = [], color_engine.count_tokens
    color_engine.count_tokens = lambda text: counted.append(text) or count(text)
    segmenter = Segmenter(color_engine, cache_dir=tmp_path)
    segmenter.set_vocabulary(["ball", "grass"])
    once = len(counted)
    segmenter.set_vocabulary(["grass", "ball"])
    assert once >= 2 and len(counted) == once


def test_several_vocabularies_are_decoded_together_and_give_what_each_gives_alone(segmenter, gradient_image):
    running = segmenter.prepare_vocabulary(["sky", "sand", "sea"])
    asked = segmenter.prepare_vocabulary(["Sea", "sea", "rock"], thresholds=[0.25, 0.75, 0.5])
    images, calls = [gradient_image, gradient_image[:60, :80]], []
    activations = segmenter.engine.activations
    segmenter.engine.activations = lambda frames, text: calls.append(len(text)) or activations(frames, text)
    together = segmenter.segment_for_each(images, [running, asked])
    assert calls == [5]  # "sea" is there once
    for vocabulary, results in zip([running, asked], together, strict=True):
        for image, result in zip(images, results, strict=True):
            alone = segmenter.segment(image, vocabulary)
            assert result.vocabulary is vocabulary
            np.testing.assert_allclose(result.activations, alone.activations, atol=1e-6)
            np.testing.assert_array_equal(result.label_map, alone.label_map)


def test_vocabularies_are_segmented_one_by_one_where_labels_depend_on_each_other(segmenter, gradient_image):
    segmenter.engine.independent_labels = False
    vocabularies = [segmenter.prepare_vocabulary([label]) for label in ("sky", "sea")]
    calls, activations = [], segmenter.engine.activations
    segmenter.engine.activations = lambda frames, text: calls.append(len(text)) or activations(frames, text)
    assert len(segmenter.segment_for_each([gradient_image], vocabularies)) == 2
    assert calls == [1, 1]
