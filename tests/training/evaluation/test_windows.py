import numpy as np
import pytest
import torch

from training.evaluation.windows import resize_keeping_ratio, sliding_logits, window_starts, working_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 2048), (448, 896)),  # Cityscapes
        ((375, 500), (448, 597)),
        ((500, 375), (597, 448)),
        ((100, 1000), (205, 2048)),  # a panorama: the long side decides
    ],
)
def test_working_size_keeps_proportions_within_both_limits(size, expected):
    assert working_size(*size) == expected


def test_image_of_the_right_size_is_not_resampled():
    image = np.random.default_rng(0).integers(0, 256, (448, 500, 3), dtype=np.uint8)
    assert resize_keeping_ratio(image) is image


@pytest.mark.parametrize(
    ("length", "starts"),
    [(448, [0]), (300, [0]), (449, [0, 1]), (672, [0, 224]), (896, [0, 224, 448]), (700, [0, 224, 252])],
)
def test_last_window_is_shifted_back_to_the_edge(length, starts):
    assert window_starts(length, 448, 224) == starts


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (8, 0), (8, 9)])
def test_windows_that_would_miss_pixels_are_refused(window, stride):
    with pytest.raises(ValueError, match="1 <= stride <= window"):
        window_starts(20, window, stride)


def red(images):
    """Logits that are the red channel, and a second map that says where in its window a pixel lies."""
    values = torch.from_numpy(images[..., 0]).float()
    columns = torch.arange(values.shape[2]).float().expand_as(values)
    return torch.stack([values, columns], dim=1)


def test_logits_of_overlapping_windows_are_summed_and_divided_by_their_count():
    image = np.random.default_rng(0).integers(0, 256, (8, 21, 3), dtype=np.uint8)
    total, count = np.zeros(21), np.zeros(21)
    for start in (0, 4, 8, 12, 13):
        total[start : start + 8] += np.arange(8)
        count[start : start + 8] += 1
    logits = sliding_logits(red, image, window=8, stride=4, patch=4, batch=2)
    np.testing.assert_allclose(logits[0].numpy(), image[..., 0], atol=1e-4)
    np.testing.assert_allclose(logits[1].numpy(), np.tile(total / count, (8, 1)), rtol=1e-6)


def test_number_of_windows_in_a_pass_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (13, 21, 3), dtype=np.uint8)
    one, many = (sliding_logits(red, image, window=8, stride=4, patch=4, batch=batch) for batch in (1, 100))
    torch.testing.assert_close(one, many)


def test_image_smaller_than_a_window_is_brought_to_whole_patches_and_back():
    shapes = []

    def logits(images):
        shapes.append(images.shape)
        return red(images)

    image = np.full((10, 5, 3), 77, np.uint8)
    result = sliding_logits(logits, image, window=16, stride=8, patch=4)
    assert shapes == [(1, 8, 4, 3)]
    assert result.shape == (2, 10, 5)
    torch.testing.assert_close(result[0], torch.full((10, 5), 77.0))
