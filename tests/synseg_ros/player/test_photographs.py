"""The photographs of the demo are complete, and their truth moves with them."""

import json
import re
from itertools import pairwise

import cv2
import numpy as np
import pytest

from synseg_model.io.image_file import MediaError
from synseg_ros.player.photographs.tour import BACKGROUND, FOLDER, MASKS_FILE, UNLABELLED, Tour, load_photographs

WIDTH, HEIGHT, FPS = 64, 48, 15.0


@pytest.fixture(scope="module")
def shipped():
    return load_photographs()


def test_every_photograph_has_masks_and_a_licence_that_is_no_condition():
    files = {path.name for path in FOLDER.glob("*.jpg")}
    entries = json.loads((FOLDER / MASKS_FILE).read_text())["photographs"]
    rows = re.findall(r"(?m)^\| (\S+\.jpg) \|.*\| (CC0|public domain[^|]*) \|", (FOLDER / "LICENSES.md").read_text())
    assert len(files) >= 6
    assert files == {entry["file"] for entry in entries} == {name for name, _ in rows}


def test_polygons_are_inside_their_images(shipped):
    photographs, _ = shipped
    entries = json.loads((FOLDER / MASKS_FILE).read_text())["photographs"]
    for photograph, entry in zip(photographs, entries, strict=True):
        height, width = photograph.index_map.shape
        points = np.concatenate([[*region["polygon"], entry["focus"]] for region in entry["regions"]])
        assert (points >= 0).all() and (points < [width, height]).all(), photograph.name


def test_most_pixels_of_a_photograph_are_known_and_some_have_a_label(shipped):
    photographs, names = shipped
    assert names[:2] == (UNLABELLED, BACKGROUND)
    for photograph in photographs:
        assert (photograph.index_map > 1).mean() > 0.05, photograph.name
    assert np.mean([(photograph.index_map == 0).mean() for photograph in photographs]) < 0.25


@pytest.fixture
def folder(tmp_path):
    """A grey slope from left to right with a red square, which is the label; the lower half is unlabelled."""
    image = np.repeat(np.linspace(0, 200, 320, dtype=np.uint8)[None, :, None], 200, axis=0).repeat(3, axis=2)
    image[40:90, 100:180] = (0, 0, 255)
    assert cv2.imwrite(str(tmp_path / "slope.png"), image)
    regions = [
        {"label": BACKGROUND, "polygon": [[0, 0], [319, 0], [319, 99], [0, 99]]},
        {"label": "square", "polygon": [[100, 40], [179, 40], [179, 89], [100, 89]]},
    ]
    entry = {"file": "slope.png", "focus": [140, 65], "regions": regions}
    (tmp_path / MASKS_FILE).write_text(json.dumps({"photographs": [entry]}))
    return tmp_path


def test_later_polygons_cover_earlier_ones_and_the_rest_is_unlabelled(folder):
    (photograph,), names = load_photographs(folder)
    assert names == (UNLABELLED, BACKGROUND, "square")
    expected = np.zeros((200, 320), np.uint8)
    expected[:100] = 1
    expected[40:90, 100:180] = 2
    np.testing.assert_array_equal(photograph.index_map, expected)


def test_the_truth_moves_with_the_image(folder):
    tour = Tour(WIDTH, HEIGHT, FPS, folder)
    for index in range(0, 3 * len(tour), 7):
        image, index_map = tour.frame(index)
        assert image.shape == (HEIGHT, WIDTH, 3) and index_map.shape == (HEIGHT, WIDTH)
        red = (image[..., 0] > 230) & (image[..., 1] < 20)
        assert red.sum() > 100
        inner = cv2.erode((index_map == 2).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        outer = cv2.dilate((index_map == 2).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert red[inner].all() and not red[~outer].any()


def test_a_frame_depends_on_its_number_alone(folder):
    tour, other = Tour(WIDTH, HEIGHT, FPS, folder), Tour(WIDTH, HEIGHT, FPS, folder)
    frames = [tour.frame(index) for index in (3, 25, 44)]
    for index, frame in zip((44, 25, 3), reversed(frames), strict=True):
        for pixels, again in zip(frame, other.frame(index), strict=True):
            np.testing.assert_array_equal(pixels, again)


def test_rounds_move_differently(folder):
    tour = Tour(WIDTH, HEIGHT, FPS, folder)
    assert not np.array_equal(tour.frame(3)[0], tour.frame(3 + len(tour))[0])


def test_the_camera_moves_slowly_and_never_stands_still_for_long(folder):
    tour = Tour(WIDTH, HEIGHT, FPS, folder)
    frames = [tour.frame(index)[0].astype(int) for index in range(len(tour))]
    steps = [np.abs(after - before).mean() for before, after in pairwise(frames)]
    assert max(steps) < 12
    assert np.abs(frames[-1] - frames[0]).mean() > max(steps)


def test_every_photograph_is_shown_in_a_round():
    tour = Tour(WIDTH, HEIGHT, FPS)
    each = len(tour) // len(tour.photographs)
    for number, photograph in enumerate(tour.photographs):
        for step in (0, each // 2, each - 1):
            shown = set(np.unique(tour.frame(number * each + step)[1]))
            assert shown <= set(np.unique(photograph.index_map)), photograph.name
            assert max(shown) > 1, photograph.name


def test_a_missing_image_is_named(folder):
    (folder / "slope.png").unlink()
    with pytest.raises(MediaError, match=r"slope\.png"):
        load_photographs(folder)
