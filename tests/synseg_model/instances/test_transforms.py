"""Points and boxes in another frame."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from synseg_model.instances import Position, move_box, move_points, transform_matrix


def test_quaternions_turn_as_scipy_turns():
    rng = np.random.default_rng(0)
    for _ in range(20):
        quaternion, translation, points = rng.normal(size=4), rng.normal(size=3), rng.normal(size=(7, 3))
        moved = move_points(transform_matrix(quaternion, translation), points)
        np.testing.assert_allclose(moved, Rotation.from_quat(quaternion).apply(points) + translation, atol=1e-12)


def test_the_optical_frame_becomes_forward_left_up():
    matrix = transform_matrix((-0.5, 0.5, -0.5, 0.5), (0.1, 0, 0.3))
    np.testing.assert_allclose(move_points(matrix, [(1, 2, 5)]), [(5.1, -1, -1.7)], atol=1e-12)


def test_a_moved_box_is_the_smallest_around_its_corners():
    rng = np.random.default_rng(1)
    matrix = transform_matrix(rng.normal(size=4), (1, 2, 3))
    center, size = np.array((0.5, -1, 4)), np.array((0.2, 0.4, 1.0))
    corners = center + size * (np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), -1).reshape(-1, 3))
    moved = move_points(matrix, corners)
    new_center, new_size = move_box(matrix, center, size)
    np.testing.assert_allclose(new_center, (moved.min(0) + moved.max(0)) / 2)
    np.testing.assert_allclose(new_size, moved.max(0) - moved.min(0))


def test_a_position_moves_with_its_box_and_keeps_what_does_not_depend_on_the_frame():
    here = Position((1.0, 2.0, 5.0), 0.01, 0.9, (1.0, 2.0, 5.1), (0.2, 0.4, 1.0))
    there = here.moved(transform_matrix((-0.5, 0.5, -0.5, 0.5), (0, 0, 1)))
    assert there.point == pytest.approx((5, -1, -1))
    assert there.box_center == pytest.approx((5.1, -1, -1))
    assert there.box_size == pytest.approx((1.0, 0.2, 0.4))
    assert (there.spread, there.valid) == (0.01, 0.9)


@pytest.mark.parametrize(
    ("quaternion", "translation", "message"),
    [
        ((0, 0, 0, 0), (0, 0, 0), "quaternion .* has length 0"),
        ((0, 0, np.nan, 1), (0, 0, 0), "quaternion .* expected 4 finite numbers"),
        ((0, 0, 1), (0, 0, 0), "expected 4 finite numbers"),
        ((0, 0, 0, 1), (0, np.inf, 0), "translation .* expected 3 finite numbers"),
    ],
)
def test_what_is_no_transform_is_refused(quaternion, translation, message):
    with pytest.raises(ValueError, match=message):
        transform_matrix(quaternion, translation)
