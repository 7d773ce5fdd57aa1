import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from training.evaluation.boundary import boundary_f_score, outline, tolerance


def reference(prediction, truth, reach):
    """The definition word by word: every pixel of one outline against every pixel of the other."""
    lines = [np.argwhere(mask & ~binary_erosion(mask, border_value=1)) for mask in (prediction, truth)]
    if not len(lines[0]) or not len(lines[1]):
        return float(len(lines[0]) == len(lines[1]))
    near = cdist(*lines) <= reach
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / max(precision + recall, 1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_score_equals_the_definition_on_random_blobs(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :50]
    masks = []
    for _ in range(2):
        y, x, height, width = rng.uniform((0, 0, 4, 4), (40, 50, 25, 30))
        masks.append(((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 + rng.normal(0, 0.05, (40, 50)) < 1)
    for reach in (0, 1, 2.5, 6):
        assert boundary_f_score(*masks, reach) == pytest.approx(reference(*masks, reach), abs=1e-6)


def test_shift_within_the_tolerance_costs_nothing_and_one_beyond_does():
    truth = np.zeros((60, 80), bool)
    truth[20:40, 20:50] = True
    assert boundary_f_score(np.roll(truth, 3, axis=1), truth, 3) == 1
    assert boundary_f_score(np.roll(truth, 4, axis=1), truth, 3) < 0.9


def test_masks_without_an_outline():
    empty, full, dot = np.zeros((8, 8), bool), np.ones((8, 8), bool), np.zeros((8, 8), bool)
    dot[3, 4] = True
    assert boundary_f_score(empty, empty, 2) == boundary_f_score(full, full, 2) == 1
    assert boundary_f_score(dot, empty, 2) == boundary_f_score(empty, dot, 2) == boundary_f_score(dot, full, 2) == 0


def test_frame_of_the_image_is_no_outline():
    mask = np.zeros((10, 10), bool)
    mask[:, :4] = True
    assert set(np.argwhere(outline(mask))[:, 1]) == {3}


def test_tolerance_follows_the_size_of_the_image():
    assert tolerance((240, 320)) == 3
    assert tolerance((1080, 1920)) == 17
    assert tolerance((32, 32)) == 1
