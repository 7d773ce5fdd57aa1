"""Camera with depth and transform, node, and client as processes of their own: things are where they really are."""

import os

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from synseg_ros.msg import Vocabulary, VocabularyStatus

from synseg_ros.demo.processes import SHARED_MEMORY, Child
from synseg_ros.parameters.options import ros_arguments
from synseg_ros.player.space import HEIGHT
from synseg_ros.qos import EVERY_MESSAGE, LATCHED

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("more_messages")]

SEED = 29  # a scene with a green ball in front, which nothing hides
FRAMES = 200
NEAR = 0.02  # metres


@pytest.fixture
def start():
    """Start a module as a process; all are ended after the test."""
    children, environment = [], dict(os.environ)
    if "FASTDDS_BUILTIN_TRANSPORTS" in environment:  # an image and its depth fill what a process has by default
        environment["FASTDDS_BUILTIN_TRANSPORTS"] = SHARED_MEMORY

    def start_module(module, **parameters):
        children.append(Child(module, module, ros_arguments(parameters), environment))

    yield start_module
    for child in children:
        child.stop()


def stamp_of(message):
    return message.header.stamp.sec, message.header.stamp.nanosec


def place_of(detection):
    position = detection.results[0].pose.pose.position
    return np.array((position.x, position.y, position.z))


@pytest.mark.slow
def test_a_moving_ball_is_followed_and_located_within_two_centimetres(start, bench):
    pytest.importorskip("torch", reason="synseg-tiny has no export, and needs the extra torch")
    from vision_msgs.msg import Detection2DArray, Detection3DArray

    speaker = bench.node.create_publisher(Vocabulary, "/synseg/vocab", LATCHED)
    statuses = bench.collect(VocabularyStatus, "/synseg/active_vocab", LATCHED)
    detections = bench.collect(Detection2DArray, "/synseg/camera/detections", EVERY_MESSAGE)
    objects = bench.collect(Detection3DArray, "/synseg/camera/objects", EVERY_MESSAGE)
    truths = bench.collect(Detection3DArray, "/camera/truth/objects", EVERY_MESSAGE)
    start(
        "synseg_ros.node",
        model="synseg-tiny",
        expect_domain="generated scenes",
        depth_topics=["/camera/depth/image_raw"],
        target_frame="base_link",
        position_wait=1.0,
    )
    speaker.publish(Vocabulary(labels=["ball"]))
    bench.spin_until(lambda: statuses and statuses[-1].version, what="the vocabulary")
    start(
        "synseg_ros.player",
        source="scenes",
        seed=SEED,
        width=320,
        height=240,
        wait_for="/synseg/camera/info",
    )
    bench.spin_until(lambda: len(objects) >= FRAMES and len(truths) >= FRAMES, what="objects")
    truth = {stamp_of(message): message for message in truths}
    compared = [message for message in objects if stamp_of(message) in truth]
    assert len(compared) >= 0.9 * FRAMES
    errors, ids = [], []
    for message in compared:
        assert message.header.frame_id == "base_link"
        (ball,) = (
            one for one in truth[stamp_of(message)].detections if one.results[0].hypothesis.class_id == "green ball"
        )
        x, y, z = place_of(ball)  # in the camera's optical frame
        distances = [np.linalg.norm(place_of(one) - (z, -x, HEIGHT - y)) for one in message.detections]
        assert distances, "the ball is not among the objects"
        nearest = int(np.argmin(distances))
        errors.append(distances[nearest])
        ids.append(message.detections[nearest].id)
        assert message.detections[nearest].results[0].hypothesis.class_id == "ball"
    assert len(set(ids)) == 1
    assert np.median(errors) < NEAR / 2
    assert np.quantile(errors, 0.99) < NEAR
    followed = {one.id for message in detections for one in message.detections}
    assert ids[0] in followed
