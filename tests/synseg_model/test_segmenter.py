"""A Segmenter: vocabularies change safely, and images are checked."""

import threading

import numpy as np
import pytest

from synseg_model import Segmenter, VocabularyError


@pytest.fixture
def segmenter(color_engine, tmp_path) -> Segmenter:
    return Segmenter(color_engine, cache_dir=tmp_path)


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
