"""Depth and positions of generated scenes: exact, deterministic, and in agreement with what the image shows."""

import dataclasses

import cv2
import numpy as np
import pytest

from synseg_model.instances import find_in_masks, locate
from training.scenes.pool import render, render_closeup
from training.scenes.scenes import SceneVideo, make_scene

SEEDS = range(12)


def things(scene):
    return [index for index, segment in enumerate(scene.segments) if segment.kind == "thing"]


def test_depth_is_a_function_of_the_seed():
    one, again, other = make_scene(3), make_scene(3), make_scene(4)
    assert np.array_equal(one.depth, again.depth, equal_nan=True) and np.array_equal(one.centers, again.centers, True)
    assert not np.array_equal(one.depth, other.depth, equal_nan=True)
    assert one.depth.dtype == np.float32 and one.depth.shape == one.index_map.shape


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_drawn_in_front_is_nearer(seed):
    scene = make_scene(seed, size=(120, 160), objects=(2, 8))
    distances = scene.centers[things(scene), 2]
    assert (np.diff(distances) < 0).all() and distances.min() >= 1 and distances.max() <= 3
    for index, distance in zip(things(scene), distances, strict=True):
        assert (scene.depth[scene.index_map == index] == np.float32(distance)).all()
    behind = scene.depth[scene.index_map < things(scene)[0]]
    assert np.isnan(behind).all() or np.nanmin(behind) > 3.4


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ground_is_a_plane(seed):
    scene = make_scene(seed, size=(96, 128))
    row = (np.arange(96) + 0.5) / 96
    for index, segment in enumerate(scene.segments):
        pixels = scene.index_map == index
        if segment.noun == "sky":
            assert np.isnan(scene.depth[pixels]).all()
        elif segment.noun in ("grass", "sand", "water", "snow", "road", "floor"):
            rows, _ = np.nonzero(pixels & (row > scene.geometry.horizon + 0.05)[:, None])
            inverse = 1 / scene.depth[pixels & (row > scene.geometry.horizon + 0.05)[:, None]]
            if len(rows) > 100:
                slope, start = np.polyfit(rows, inverse, 1)
                assert slope > 0
                np.testing.assert_allclose(inverse, slope * rows + start, rtol=1e-4)


def test_the_camera_sees_the_centers_where_the_things_are():
    scene = make_scene(8, size=(240, 320), objects=(1, 1))
    (index,) = things(scene)
    rows, columns = np.nonzero(scene.index_map == index)
    camera, (x, y, z) = scene.intrinsics, scene.centers[index]
    assert (camera.width, camera.height) == (320, 240)
    assert x / z * camera.fx + camera.cx == pytest.approx(columns.mean(), abs=0.1)
    assert y / z * camera.fy + camera.cy == pytest.approx(rows.mean(), abs=0.1)
    assert np.isnan(scene.centers[:index]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_positions_found_in_a_scene_are_its_truth(seed):
    scene = make_scene(seed, size=(480, 640), objects=(1, 4))
    names = [str(index) for index in things(scene)]
    masks = [scene.index_map == index for index in things(scene)]
    instances = find_in_masks(masks, [mask.astype(np.float32) for mask in masks], names)
    checked = 0
    for instance, position in zip(instances, locate(instances, scene.depth, scene.intrinsics, (480, 640)), strict=True):
        truth, pixel = scene.centers[int(instance.label)], scene.centers[int(instance.label), 2] / 640
        assert position.point[2] == pytest.approx(truth[2], rel=1e-6)
        seen = np.array(instance.center) - ((640 - 1) / 2, (480 - 1) / 2)
        if np.abs(seen * pixel - truth[:2]).max() < 2 * pixel:  # all of it is visible, in one piece
            side = max(instance.box[2:]) * pixel
            assert np.abs(np.subtract(position.point[:2], truth[:2])).max() < 0.15 * side
            sides = np.array(instance.box[2:]) * pixel
            np.testing.assert_allclose(position.box_size[:2], sides, rtol=0.15, atol=3 * pixel)
            checked += 1
    assert checked


def test_a_shrunk_scene_has_the_same_geometry():
    large, small = make_scene(5, size=(256, 256)), render(5, (128, 128), "all", (1, 5), 2)
    np.testing.assert_allclose(small.centers, large.centers, atol=0.01)
    same = cv2.resize(large.depth, (128, 128), interpolation=cv2.INTER_NEAREST)
    things_only = small.index_map >= things(small)[0]
    np.testing.assert_array_equal(small.depth[things_only], same[things_only])


def test_a_part_cut_out_of_a_scene_has_no_depth():
    scene, _ = render_closeup(5, (64, 64), "all", (1, 3))
    with pytest.raises(ValueError, match="no geometry, as it was cut out of another"):
        _ = scene.depth
    with pytest.raises(ValueError, match="no geometry"):
        _ = dataclasses.replace(make_scene(1), geometry=None).centers


def test_things_in_a_video_move_in_depth_and_keep_their_order():
    video = SceneVideo(4, size=(120, 160), objects=(4, 4), fps=10)
    frames = [video.frame(index) for index in (0, 10, 20, 30)]
    distances = np.array([frame.centers[things(frame), 2] for frame in frames])
    assert (np.diff(distances, axis=1) < 0).all()
    assert (np.ptp(distances, axis=0) > 0.01).all()
    again = SceneVideo(4, size=(120, 160), objects=(4, 4), fps=10).frame(20)
    np.testing.assert_array_equal(again.centers, frames[2].centers)
