"""An image in, masks out, between two frames of the cameras."""

import re

import cv2
import numpy as np
import pytest

pytest.importorskip("synseg_ros.srv", reason="needs ROS 2 and the built messages: use scripts/with_env")

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from synseg_ros.srv import Segment

from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.ros_messages import image_from_array
from tests.synseg_ros.node.asking import Asker
from tests.synseg_ros.paint import PaintEngine, painted

pytestmark = pytest.mark.ros

IMAGE = painted(("red", (10, 30), (20, 50)), ("blue", (40, 60), (0, 20)), shape=(70, 90))
HEADER = Header(frame_id="album")


@pytest.fixture
def rig(make_rig):
    return make_rig(engine=PaintEngine(), request_timeout=60.0)


@pytest.fixture
def asker(rig):
    return Asker(rig)


def jpeg(image):
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


@pytest.mark.parametrize(
    "image",
    [
        {"image": image_from_array(IMAGE, "rgb8", HEADER)},
        {"compressed": CompressedImage(header=HEADER, format="rgb8; png compressed bgr8", data=jpeg(IMAGE))},
    ],
    ids=["raw", "compressed"],
)
def test_an_image_is_segmented_for_labels_of_its_own(rig, asker, image):
    rig.ask("green")
    answer = asker.ask(Segment, labels=["blue", "green", "red"], **image)
    assert (answer.success, answer.message) == (True, "")
    assert (answer.masks.header.frame_id, answer.masks.vocabulary_version) == ("album", 0)
    assert (list(answer.masks.labels), list(answer.masks.ids)) == (["blue", "green", "red"], [1, 2, 3])
    assert [(mask.label, mask.area, mask.score) for mask in answer.masks.masks] == [
        ("blue", 400, 1.0),
        ("red", 600, 1.0),
    ]
    assert list(answer.presence) == [1.0, 0.0, 1.0]
    expected = np.where(IMAGE[..., 0] == 255, 3, np.where(IMAGE[..., 2] == 255, 1, 0))
    np.testing.assert_array_equal(image_to_array(answer.label_map), expected)
    assert (rig.statuses[-1].version, list(rig.statuses[-1].labels)) == (1, ["green"])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "no image"),
        (
            {"image": image_from_array(IMAGE, "rgb8", HEADER), "compressed": CompressedImage(data=b"x")},
            "two images",
        ),
        ({"image": Image(encoding="32FC1", width=2, height=1, step=8, data=b"\0" * 8)}, "32FC1"),
        ({"image": Image(encoding="rgb8", width=2**30, height=2**30, step=6, data=b"\0" * 6)}, "rgb8|step|data"),
        ({"compressed": CompressedImage(format="jpeg", data=b"no jpeg")}, "."),
        ({"image": image_from_array(IMAGE, "rgb8", HEADER), "labels": []}, "no labels"),
        ({"image": image_from_array(IMAGE, "rgb8", HEADER), "thresholds": [-1.0]}, "threshold"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(asker, fields, reason):
    answer = asker.ask(Segment, **{"labels": ["red"], **fields})
    assert not answer.success and not answer.masks.labels
    assert re.search(reason, answer.message), answer.message
