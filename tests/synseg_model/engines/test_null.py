"""The engine without a network shows where each label would be, and takes the time that it is told."""

import time

import numpy as np
import pytest

from synseg_model import Segmenter


@pytest.mark.parametrize("count", [1, 3, 100])
def test_label_i_of_k_is_in_the_ith_stripe_of_every_image(count):
    segmenter = Segmenter.load(engine="null")
    segmenter.set_vocabulary([f"thing {index}" for index in range(count)])
    shapes = ((40, 200, 3), (30, 400, 3))
    for result in segmenter.segment_batch([np.zeros(shape, np.uint8) for shape in shapes]):
        middle = result.label_map[result.shape[0] // 2]
        centres = ((np.arange(count) + 0.5) * result.shape[1] / count).astype(int)
        np.testing.assert_array_equal(middle[centres], np.arange(1, count + 1))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 4), (4, 1), (3, 3)])
def test_images_of_a_few_pixels_are_images(shape):
    segmenter = Segmenter.load(engine="null")
    segmenter.set_vocabulary(["left", "right"])
    result = segmenter.segment(np.zeros((*shape, 3), np.uint8))
    for index in range(2):
        assert result.mask(index).sum() == result.area(index)
    assert result.label_map.shape == shape and result.label_map.any()


def test_it_takes_the_time_in_its_name():
    segmenter = Segmenter.load("no such model is needed", engine="null:50")
    segmenter.set_vocabulary(["ball"])
    began = time.perf_counter()
    segmenter.segment(np.zeros((8, 8, 3), np.uint8))
    assert time.perf_counter() - began >= 0.05


@pytest.mark.parametrize("name", ["null:fast", "null:-1", "null:nan"])
def test_another_time_is_refused(name):
    with pytest.raises(ValueError, match=name):
        Segmenter.load(engine=name)
