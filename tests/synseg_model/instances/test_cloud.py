"""Labelled points of a frame."""

import numpy as np
import pytest

from synseg_model.instances import POINT, Intrinsics, NoCloudError, find_instances, make_cloud
from tests.synseg_model.instances.drawn import box_instance

SIZE = (48, 64)
CAMERA = Intrinsics(50, 55, 31, 24, 64, 48)


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    label_map = np.zeros(SIZE, np.uint16)
    label_map[5:15, 5:20], label_map[20:40, 30:50] = 2, 300
    depth = rng.uniform(1, 3, SIZE).astype(np.float32)
    depth[rng.random(SIZE) < 0.2] = np.nan
    return depth, rng.integers(0, 256, (*SIZE, 3), np.uint8), label_map


def test_points_are_those_of_a_loop_over_pixels(frame):
    depth, image, label_map = frame
    confidence = np.ones(SIZE, np.float32)
    instances = find_instances(label_map, confidence, ("cup", "ball"), (2, 300))
    cloud = make_cloud(depth, CAMERA, image, label_map, instances, ids=(41, 70_000))
    expected = []
    for v, u in np.argwhere((label_map > 0) & (depth > 0)).tolist():
        z = float(depth[v, u])
        r, g, b = image[v, u].tolist()
        instance = {300: 41, 2: 70_000}[int(label_map[v, u])]
        expected.append(((u - 31) / 50 * z, (v - 24) / 55 * z, z, r << 16 | g << 8 | b, label_map[v, u], instance))
    assert cloud.dtype == POINT and cloud.dtype.itemsize == 24
    expected = np.array(expected, POINT)
    for name in POINT.names:
        np.testing.assert_allclose(cloud[name], expected[name], rtol=1e-5, atol=1e-6)


def test_background_is_a_choice(frame):
    depth, image, label_map = frame
    cloud = make_cloud(depth, CAMERA, image, label_map, background=True)
    assert len(cloud) == (depth > 0).sum()
    assert set(cloud["label"].tolist()) == {0, 2, 300} and not cloud["instance"].any()
    full = make_cloud(np.nan_to_num(depth, nan=2.0), CAMERA, image, label_map, background=True)
    assert len(full) == depth.size


def test_the_smaller_instance_is_on_top(frame):
    _, image, label_map = frame
    instances = [box_instance(32, 22, 4, 4), box_instance(30, 20, 20, 20)]
    cloud = make_cloud(np.full(SIZE, 2, np.float32), CAMERA, image, label_map, instances)
    assert np.bincount(cloud["instance"]).tolist()[1:] == [16, 384]


def test_depth_of_half_the_size_gives_a_quarter_of_the_points(frame):
    _, image, label_map = frame
    cloud = make_cloud(np.full((24, 32), 2, np.float32), CAMERA, image, label_map, background=True)
    whole = make_cloud(np.full(SIZE, 2, np.float32), CAMERA, image, label_map, background=True)
    assert len(cloud) == len(whole) / 4
    for axis in "xyz":
        assert cloud[axis].mean() == pytest.approx(whole[axis].mean(), abs=1e-5)
    assert set(cloud["label"].tolist()) == {0, 2, 300}


@pytest.mark.parametrize(
    ("depth", "camera", "reason"),
    [
        (None, CAMERA, "no depth image"),
        (np.ones(SIZE, np.float32), None, "no camera_info"),
        (np.ones(SIZE, np.float32), Intrinsics(0, 0, 0, 0, 64, 48), "K = 0"),
        (np.ones((20, 64), np.float32), CAMERA, "64x20 pixels does not show the view of the image"),
    ],
)
def test_no_cloud_has_a_reason(frame, depth, camera, reason):
    with pytest.raises(NoCloudError, match=reason):
        make_cloud(depth, camera, *frame[1:])


@pytest.mark.parametrize("fill", [0, np.nan])
def test_no_depth_anywhere_is_a_cloud_without_points(frame, fill):
    cloud = make_cloud(np.full(SIZE, fill, np.float32), CAMERA, *frame[1:], background=True)
    assert cloud.shape == (0,) and cloud.dtype == POINT


def test_wrong_numbers_and_sizes_are_refused(frame):
    depth, image, label_map = frame
    with pytest.raises(ValueError, match="2 ids for 1 instances"):
        make_cloud(depth, CAMERA, image, label_map, [box_instance(0, 0, 5, 5)], (1, 2))
    with pytest.raises(ValueError, match=r"label map of shape \(48, 63\)"):
        make_cloud(depth, CAMERA, image, label_map[:, 1:])
