"""Depth in metres, camera matrices, and depth brought to another camera's view."""

import numpy as np
import pytest

from synseg_model.instances import Intrinsics, depth_in_metres, disparity_in_metres, register, transform_matrix

DEPTH_CAMERA = Intrinsics(400, 400, 159.5, 119.5, 320, 240)
IMAGE_CAMERA = Intrinsics(900, 900, 330, 235, 640, 480)
SAME_PLACE = np.eye(4)


def test_millimetres_and_metres_are_read():
    millimetres = depth_in_metres(np.array([[0, 1, 65535]], np.uint16))
    metres = depth_in_metres(np.array([[0, -1, 1.5, np.nan, np.inf, 1e30]], np.float32))
    np.testing.assert_allclose(millimetres, [[np.nan, 0.001, 65.535]], rtol=1e-6)
    np.testing.assert_array_equal(metres, np.array([[np.nan, np.nan, 1.5, np.nan, np.nan, np.nan]], np.float32))
    assert millimetres.dtype == metres.dtype == np.float32


def test_big_endian_depth_is_read():
    assert depth_in_metres(np.array([[1500]], ">u2")) == np.float32(1.5)


@pytest.mark.parametrize("pixels", [np.zeros((2, 2)), np.zeros((2, 2, 1), np.uint16), np.zeros((2, 2), np.uint8)])
def test_other_depth_images_are_refused(pixels):
    with pytest.raises(ValueError, match=r"expected \(H,W\) uint16 in millimetres \(16UC1\) or float32"):
        depth_in_metres(pixels)


def test_disparity_becomes_depth():
    disparity = np.array([[50, 10, 0, -1, np.nan, np.inf]], np.float32)
    depth = disparity_in_metres(disparity, focal=500, baseline=0.1, offset=0)
    np.testing.assert_allclose(depth, [[1, 5, np.nan, np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(disparity_in_metres(disparity[:, :1], 500, 0.1, offset=50), [[0.5]])


@pytest.mark.parametrize(("focal", "baseline"), [(0, 0.1), (500, 0), (np.nan, 0.1), (500, -0.1)])
def test_disparity_without_a_stereo_camera_is_refused(focal, baseline):
    with pytest.raises(ValueError, match="expected a number above 0"):
        disparity_in_metres(np.ones((2, 2), np.float32), focal, baseline)


def test_a_camera_matrix_is_read_and_scaled():
    camera = Intrinsics.from_matrix([600, 0, 319.5, 0, 610, 239.5, 0, 0, 1], 640, 480)
    assert camera == Intrinsics(600, 610, 319.5, 239.5, 640, 480) and not camera.problem
    assert camera.scaled(320, 240) == Intrinsics(300, 305, 159.5, 119.5, 320, 240)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fx": 0, "fy": 0}, "not calibrated: its camera_info has K = 0"),
        ({"fx": np.nan}, "expected finite numbers"),
        ({"fx": -3}, "focal lengths -3 and 400"),
        ({"width": 0}, "of an image of 0x240 pixels"),
    ],
)
def test_a_camera_that_cannot_be_used_says_why(change, message):
    camera = Intrinsics(**(DEPTH_CAMERA.__dict__ | change))
    assert message in camera.problem
    with pytest.raises(ValueError, match="depth camera: "):
        register(np.ones((240, 320), np.float32), camera, IMAGE_CAMERA, SAME_PLACE)


def planes(camera, origin):
    """Cast rays from (x, y, 0) + origin: a slanted wall z = 3 + 0.4 x, and before it a board at z = 1.2."""
    columns, rows = (axis.astype(np.float64) for axis in camera.rays())
    x, y = np.broadcast_arrays(columns[None], rows[:, None])
    wall = (3 + 0.4 * origin[0] - origin[2]) / (1 - 0.4 * x)
    board = 1.2 - origin[2]
    at_x, at_y = origin[0] + board * x, origin[1] + board * y
    return np.where((np.abs(at_x) < 0.15) & (np.abs(at_y) < 0.12), board, wall).astype(np.float32)


@pytest.mark.parametrize(
    "image_camera", [IMAGE_CAMERA, IMAGE_CAMERA.scaled(320, 240), IMAGE_CAMERA.scaled(160, 120)], ids=str
)
def test_registered_depth_is_what_the_other_camera_sees(image_camera):
    origin = np.array((0.05, -0.02, 0.1))  # of the image camera, seen from the depth camera
    depth, expected = planes(DEPTH_CAMERA, (0, 0, 0)), planes(image_camera, origin)
    found = register(depth, DEPTH_CAMERA, image_camera, transform_matrix((0, 0, 0, 1), -origin))
    assert found.shape == expected.shape and found.dtype == np.float32
    seen = ~np.isnan(found)
    close = np.abs(found - expected) < 0.02 * expected
    # All but a rim of the board, and the wall that it hides from the depth camera, agree; and there are no holes.
    assert (close & seen).sum() > 0.97 * seen.sum()
    assert seen.mean() > 0.95
    height, width = expected.shape
    board = expected < 1.15
    assert seen[board].all() and (found[board] < 1.15).mean() > 0.98
    assert (found[height // 8 : -height // 8, -width // 8 :] > 2).all()


def test_a_turned_camera_sees_the_same_points():
    matrix = transform_matrix((0, 0.05, 0, 1), (0, 0, 0))
    found = register(np.full((240, 320), 2, np.float32), DEPTH_CAMERA, IMAGE_CAMERA, matrix)
    rotation = matrix[:3, :3]
    columns, rows = IMAGE_CAMERA.rays()
    ray = np.array((columns[400], rows[300], 1.0))
    assert found[300, 400] == pytest.approx(2 / (rotation.T @ ray)[2], rel=0.01)


def test_the_nearest_point_wins_whatever_the_order():
    depth = np.full((240, 320), 4, np.float32)
    depth[:, ::2] = 1.0
    found = register(depth, DEPTH_CAMERA, DEPTH_CAMERA.scaled(40, 30), SAME_PLACE)
    assert (found == 1).all()


def test_depth_that_is_missing_or_behind_the_camera_stays_missing():
    nothing = np.full((240, 320), np.nan, np.float32)
    nothing[:100] = 0
    assert np.isnan(register(nothing, DEPTH_CAMERA, IMAGE_CAMERA, SAME_PLACE)).all()
    behind = transform_matrix((0, 0, 0, 1), (0, 0, -5))
    assert np.isnan(register(np.ones((240, 320), np.float32), DEPTH_CAMERA, IMAGE_CAMERA, behind)).all()


@pytest.mark.parametrize("transform", [np.eye(3), np.full((4, 4), np.nan)])
def test_what_is_no_transform_is_refused(transform):
    with pytest.raises(ValueError, match=r"expected \(4,4\), finite"):
        register(np.ones((240, 320), np.float32), DEPTH_CAMERA, IMAGE_CAMERA, transform)


def test_depth_of_another_view_than_its_camera_is_refused():
    with pytest.raises(ValueError, match="depth image of 320x200 pixels does not show the view of the camera_info"):
        register(np.ones((200, 320), np.float32), DEPTH_CAMERA, IMAGE_CAMERA, SAME_PLACE)
