"""A recording's cameras are chosen and named as the node names them."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from synseg_ros.bags.cameras import choose_cameras
from synseg_ros.bags.message_types import COMPRESSED, IMAGE
from synseg_ros.interfaces.image_encodings import image_fields
from tests.synseg_ros.bags.recordings import (
    FRAMES,
    FRONT,
    SIZE,
    START,
    STEP,
    TYPES,
    front_frame,
    header,
    message,
    read,
    rear_frame,
    record,
    run,
)


def robot_with_depth():
    """A depth camera's topics, as its driver and image_transport publish them."""
    color, depth = "/front/color/image_raw", "/front/depth/image_rect_raw"
    millimetres = image_fields(np.full(SIZE, 1500, np.uint16), "16UC1")
    for index in range(FRAMES):
        time = START + index * STEP
        head = header(time, "front")
        yield color, IMAGE, time, front_frame(index)
        yield f"{color}/compressed", COMPRESSED, time + 1, rear_frame(index)
        yield depth, IMAGE, time + 2, message(IMAGE, header=head, **millimetres)
        packed = cv2.imencode(".png", np.full(SIZE, 1500, np.uint16))[1].reshape(-1)
        for number, form in enumerate(("16UC1; png compressed ", "16UC1; compressedDepth png")):
            name = f"{depth}/{'compressed' if number == 0 else 'compressedDepth'}"
            yield name, COMPRESSED, time + 3 + number, message(COMPRESSED, header=head, format=form, data=packed)


def test_by_default_depth_is_left_out_and_an_image_is_segmented_once(tmp_path, capsys):
    source = record(tmp_path / "in", messages=robot_with_depth())
    assert run(source, tmp_path / "out", "--write", "masks") == 0
    found = read(tmp_path / "out")
    assert set(found) == {"/synseg/front/masks", "/synseg/active_vocab"}
    assert len(found["/synseg/front/masks"]) == FRAMES
    said = capsys.readouterr().err
    assert "/front/depth/image_rect_raw is left out: encoding '16UC1' is depth" in said
    assert "/front/depth/image_rect_raw/compressedDepth is left out: format" in said
    assert "/front/color/image_raw/compressed is left out, it has the images of /front/color/image_raw" in said


def test_depth_and_twins_are_segmented_where_they_are_named(tmp_path):
    source = record(tmp_path / "in", messages=robot_with_depth())
    topics = ["/front/depth/image_rect_raw", "/front/color/image_raw", "jpeg=/front/color/image_raw/compressed"]
    assert run(source, tmp_path / "out", "--write", "masks", "--topics", *topics) == 0
    found = read(tmp_path / "out")
    assert {topic: len(messages) for topic, messages in found.items() if "masks" in topic} == {
        "/synseg/front_depth_image_rect_raw/masks": FRAMES,
        "/synseg/front_color_image_raw/masks": FRAMES,
        "/synseg/jpeg/masks": FRAMES,
    }


def test_of_twins_the_one_with_more_frames_is_segmented(tmp_path):
    def sparse_raw():
        yield FRONT, IMAGE, START, front_frame(0)
        for index in range(FRAMES):
            yield f"{FRONT}/compressed", COMPRESSED, START + index * STEP + 1, rear_frame(index)

    assert run(record(tmp_path / "in", messages=sparse_raw()), tmp_path / "out", "--write", "masks") == 0
    assert len(read(tmp_path / "out")["/synseg/front/masks"]) == FRAMES


def recording_of(*topics):
    connections = [SimpleNamespace(topic=topic, msgtype=IMAGE, msgcount=1) for topic in topics]
    return SimpleNamespace(connections=connections, path=Path("drive"), first=lambda *_: None)


@pytest.mark.parametrize(
    ("topics", "names"),
    [
        (["/front/image_raw", "/rear/image_raw"], ["front", "rear"]),
        (["/image_raw"], ["camera"]),
        (["/cam/left/image", "/cam/right/image", "/top/image"], ["cam_left_image", "cam_right_image", "top"]),
        (["/a/image", "/synseg/a/overlay"], ["a"]),
        (["/cam/a/image/compressed", "/cam/b/image/compressed"], ["cam_a_image", "cam_b_image"]),
    ],
)
def test_cameras_are_named_as_the_node_names_them_and_apart(topics, names):
    cameras = choose_cameras(recording_of(*topics), None, TYPES)
    assert [camera.name for camera in cameras] == names


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (["/nowhere"], "no images on /nowhere; its images are on /front/image_raw"),
        (["9=/front/image_raw"], "'9' is not a valid name"),
        (["a=/front/image_raw", "a=/rear/image_raw"], "2 cameras would be called 'a'"),
    ],
)
def test_impossible_choices_of_cameras_are_refused(wanted, reason):
    recording = recording_of("/front/image_raw", "/rear/image_raw")
    with pytest.raises(ValueError, match=reason):
        choose_cameras(recording, wanted, TYPES)
