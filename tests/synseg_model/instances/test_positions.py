"""Positions from depth: right where there is depth, and a reason where there is not."""

import numpy as np
import pytest

from synseg_model.instances import Intrinsics, Position, find_instances, locate
from tests.synseg_model.instances.drawn import box_instance, mask_instance

SIZE = (480, 640)
CAMERA = Intrinsics(500, 510, 310, 245, 640, 480)


def scene(noise=0.0, seed=0):
    """Return depth of a wall at 4 m with a board before it at 1.5 m, and the board's instance."""
    depth = np.full(SIZE, 4, np.float32)
    depth[200:300, 400:520] = 1.5
    depth += np.random.default_rng(seed).normal(0, noise, SIZE).astype(np.float32)
    return depth, box_instance(400, 200, 120, 100)


def test_a_board_is_where_it_is_and_as_large_as_it_is():
    depth, board = scene()
    (found,) = locate([board], depth, CAMERA, SIZE)
    center = (1.5 * (459.5 - 310) / 500, 1.5 * (249.5 - 245) / 510, 1.5)
    assert found.point == pytest.approx(center, abs=0.006)
    assert found.box_center == pytest.approx(center, abs=0.006)
    assert found.box_size == pytest.approx((1.5 * 120 / 500, 1.5 * 100 / 510, 0), abs=0.012)
    assert found.spread == 0 and found.valid == 1


def test_the_optical_frame_has_x_right_y_down_z_forward():
    depth, _ = scene()
    corners = [box_instance(0, 0, 30, 30), box_instance(600, 440, 30, 30)]
    upper_left, lower_right = (one.point for one in locate(corners, depth, CAMERA, SIZE))
    assert upper_left[0] < 0 and upper_left[1] < 0 < lower_right[0] and lower_right[1] > 0
    assert upper_left[2] == lower_right[2] == 4


def test_spread_is_the_noise_and_the_median_is_finer():
    depth, board = scene(noise=0.02)
    (found,) = locate([board], depth, CAMERA, SIZE)
    assert found.spread == pytest.approx(0.02, rel=0.2)
    assert found.point[2] == pytest.approx(1.5, abs=0.004)


def test_a_mask_that_is_too_large_does_not_move_the_object_back():
    depth, _ = scene()
    loose = box_instance(394, 194, 132, 112)  # a rim of wall all around
    (found,) = locate([loose], depth, CAMERA, SIZE)
    assert found.point[2] == 1.5 and found.box_size[2] < 0.05


def test_a_deep_object_has_a_deep_box():
    depth, _ = scene()
    depth[100:200, 100:300] = np.linspace(1, 3, 200, dtype=np.float32)
    (found,) = locate([box_instance(100, 100, 200, 100)], depth, CAMERA, SIZE)
    assert found.box_size[2] == pytest.approx(2, rel=0.15)
    assert found.box_center[2] == pytest.approx(2, rel=0.1)
    assert found.spread == pytest.approx(0.68, rel=0.15)


@pytest.mark.parametrize("hole", [0, np.nan, np.inf])
def test_pixels_without_depth_do_not_count(hole):
    depth, board = scene()
    depth[np.random.default_rng(0).random(SIZE) < 0.4] = hole
    (found,) = locate([board], depth, CAMERA, SIZE)
    assert found.point[2] == 1.5 and found.valid == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize("fill", [0, np.nan])
def test_no_depth_at_all_is_said(fill):
    depth, board = scene()
    depth[200:300, 400:520] = fill
    elsewhere = box_instance(10, 10, 50, 50)
    here, there = locate([board, elsewhere], depth, CAMERA, SIZE)
    assert here == "no depth here: 0 % of the object's pixels have one"
    assert isinstance(there, Position)


def test_too_little_depth_is_said_and_how_little_is_a_setting():
    depth, board = scene()
    depth[np.random.default_rng(0).random(SIZE) < 0.95] = np.nan
    assert "no depth here: " in locate([board], depth, CAMERA, SIZE)[0]
    assert locate([board], depth, CAMERA, SIZE, least_valid=0.01)[0].point[2] == 1.5


@pytest.mark.parametrize("factor", [2, 4, 0.5, 0.75])
def test_depth_of_another_resolution_gives_the_same(factor):
    depth, board = scene()
    height, width = (int(side / factor) for side in SIZE)
    rows, columns = (((np.arange(n) + 0.5) * factor).astype(int) for n in (height, width))
    (expected,), (found,) = (locate([board], one, CAMERA, SIZE) for one in (depth, depth[np.ix_(rows, columns)]))
    assert found.point == pytest.approx(expected.point, abs=0.01)
    assert found.box_size == pytest.approx(expected.box_size, abs=0.03)


def test_a_camera_matrix_of_another_resolution_gives_the_same():
    depth, board = scene()
    (expected,), (found,) = (locate([board], depth, one, SIZE) for one in (CAMERA, CAMERA.scaled(1280, 960)))
    assert found.point == pytest.approx(expected.point)


@pytest.mark.parametrize(
    ("depth", "camera", "reason"),
    [
        (None, CAMERA, "no depth image"),
        (np.ones(SIZE, np.float32), None, "no camera_info"),
        (
            np.ones(SIZE, np.float32),
            Intrinsics(0, 0, 0, 0, 640, 480),
            "camera is not calibrated: its camera_info has K = 0",
        ),
        (
            np.ones((360, 640), np.float32),
            CAMERA,
            "depth image of 640x360 pixels does not show the view of the image, 640x480",
        ),
        (np.ones((0, 640), np.float32), CAMERA, "depth image of shape (0, 640): expected (H,W)"),
        (
            np.ones(SIZE, np.float32),
            Intrinsics(500, 500, 0, 0, 640, 400),
            "image of 640x480 pixels does not show the view of the camera_info, 640x400",
        ),
    ],
)
def test_what_is_missing_is_the_reason_for_every_instance(depth, camera, reason):
    instances = [box_instance(0, 0, 20, 20), box_instance(50, 50, 20, 20)]
    assert locate(instances, depth, camera, SIZE) == (reason, reason)
    assert locate([], depth, camera, SIZE) == ()


def test_depth_in_other_units_is_refused():
    with pytest.raises(ValueError, match="depth of type uint16: expected float32 in metres, as depth_in_metres"):
        locate([box_instance(0, 0, 20, 20)], np.ones(SIZE, np.uint16), CAMERA, SIZE)


def test_an_instance_of_a_larger_image_is_refused():
    with pytest.raises(ValueError, match=r"box \(630, 0, 20, 20\) is not of an image of 640x480 pixels"):
        locate([box_instance(630, 0, 20, 20)], np.ones(SIZE, np.float32), CAMERA, SIZE)


@pytest.mark.parametrize(
    "place", [(0, 0, 640, 3), (638, 0, 2, 480), (0, 477, 20, 3), (639, 479, 1, 1), (0, 0, 640, 480)]
)
@pytest.mark.parametrize("factor", [1, 3])
def test_instances_at_the_border_have_positions(place, factor):
    depth = np.full((SIZE[0] // factor, SIZE[1] // factor), 2, np.float32)
    (found,) = locate([box_instance(*place)], depth, CAMERA, SIZE)
    smaller = factor > 1 and min(place[2:]) < factor
    if not (smaller and isinstance(found, str)):
        x, y, width, height = place
        expected = (2 * (x + (width - 1) / 2 - 310) / 500, 2 * (y + (height - 1) / 2 - 245) / 510, 2)
        assert found.point == pytest.approx(expected, abs=0.03)


def test_an_object_smaller_than_a_depth_pixel_is_said():
    depth = np.full((48, 64), 2, np.float32)
    assert locate([box_instance(101, 101, 2, 2)], depth, CAMERA, SIZE) == (
        "no depth here: the object is smaller than a depth pixel",
    )


def test_a_thin_line_has_a_position():
    mask = np.zeros(SIZE, bool)
    mask[np.arange(100, 400), np.arange(100, 400)] = True
    (found,) = locate([mask_instance(mask)], np.full(SIZE, 2, np.float32), CAMERA, SIZE)
    assert found.point == pytest.approx((2 * (249.5 - 310) / 500, 2 * (249.5 - 245) / 510, 2), abs=0.01)


def test_samples_spread_over_the_object_whatever_its_width():
    for width in (10, 20, 30, 60, 128):
        (found,) = locate([box_instance(40, 0, width, 480)], np.full(SIZE, 2, np.float32), CAMERA, SIZE)
        assert found.box_size[:2] == pytest.approx((2 * width / 500, 2 * 480 / 510), rel=0.08, abs=0.008)


def test_positions_in_a_real_scene():
    """Middlebury's motorcycle (GCPR 2014), which ships with scikit-image: objects have the distances of the truth."""
    data = pytest.importorskip("skimage.data")
    from synseg_model.instances import disparity_in_metres

    _, _, disparity = data.stereo_motorcycle()
    depth = disparity_in_metres(disparity, 994.978, 0.193001, 31.086)
    camera = Intrinsics(994.978, 994.978, 311.193, 254.877, 741, 500)
    label_map = np.zeros(depth.shape, np.uint8)
    label_map[180:235, 370:450] = 1  # tank
    label_map[110:190, 50:275] = 2  # bench, in front of a wall that shows between its bars
    label_map[35:95, 530:590] = 3  # box on the shelf
    names = ("tank", "bench", "box")
    instances = find_instances(label_map, np.ones(depth.shape, np.float32), names)
    found = dict(zip([one.label for one in instances], locate(instances, depth, camera, depth.shape), strict=True))
    for number, name in enumerate(names, 1):
        z = depth[label_map == number]
        expected = 994.978 * 0.193001 / (np.nanmedian(disparity[label_map == number]) + 31.086)
        assert found[name].point[2] == pytest.approx(expected, rel=0.02)
        assert found[name].valid == pytest.approx(np.isfinite(z).mean(), abs=0.06)
    assert found["tank"].point[2] < found["box"].point[2] < found["bench"].point[2]
    assert found["bench"].point[0] < found["tank"].point[0] < found["box"].point[0]
    assert found["tank"].spread < 0.1 < found["bench"].spread
    half = locate(instances, np.ascontiguousarray(depth[::2, ::2]), camera, depth.shape)
    for one, other in zip(found.values(), half, strict=True):
        assert other.point == pytest.approx(one.point, rel=0.03, abs=0.02)


def test_registered_depth_explains_the_other_image_of_a_real_stereo_pair():
    data = pytest.importorskip("skimage.data")
    from synseg_model.instances import disparity_in_metres, register, transform_matrix

    left, right, disparity = data.stereo_motorcycle()
    depth = disparity_in_metres(disparity, 994.978, 0.193001, 31.086)
    camera = Intrinsics(994.978, 994.978, 311.193, 254.877, 741, 500)
    other = Intrinsics(994.978, 994.978, 311.193 + 31.086, 254.877, 741, 500)
    seen = register(depth, camera, other, transform_matrix((0, 0, 0, 1), (-0.193001, 0, 0)))
    row, column = np.nonzero(~np.isnan(seen))
    matched = np.round(column + 994.978 * 0.193001 / seen[row, column] - 31.086).astype(int)
    inside = matched < 741
    difference = np.abs(left[row, np.minimum(matched, 740)].astype(int) - right[row, column]).mean(axis=1)[inside]
    unmatched = np.abs(left[row, column].astype(int) - right[row, column]).mean(axis=1)
    assert len(row) > 0.8 * depth.size
    assert np.median(difference) < 0.3 * np.median(unmatched)
