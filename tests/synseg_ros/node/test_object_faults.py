"""Where depth, camera_info or a transform is missing or wrong, there is a reason and no position."""

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from synseg_ros.ros_messages import image_from_array
from tests.synseg_ros.node.depth_scene import LABELS, flat, look_until
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("more_messages")]


def no_depth(scene):
    scene.inform()


def no_info(scene):
    scene.measure(flat())


def old_depth(scene):
    scene.inform()
    scene.measure(flat(), nanosec=200_000_000)


def uncalibrated(scene):
    scene.inform(focal=0.0)
    scene.measure(flat())


def info_of_another(scene):
    scene.inform(frame_id="other")
    scene.measure(flat())


def unknown_lens(scene):
    scene.inform(model="division", d=(0.1,))
    scene.measure(flat())


def another_shape(scene):
    scene.inform()
    scene.measure(flat(height=WIDTH, width=HEIGHT))


def no_transform(scene):
    scene.inform()
    scene.inform(scene.depth_info, frame_id="depth_lens")
    scene.measure(flat(), frame_id="depth_lens")


def no_depth_info(scene):
    scene.inform()
    scene.measure(flat(), frame_id="depth_lens")


def not_depth(scene):
    scene.inform()
    stamp = Time(sec=1000, nanosec=scene.rig.stamp + 1)
    scene.depth.publish(image_from_array(np.zeros((4, 4, 3), np.uint8), "rgb8", Header(stamp=stamp, frame_id="lens")))


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (no_depth, "no depth image has arrived on /camera/depth/image_raw"),
        (no_info, "no camera_info has arrived on /camera/camera_info"),
        (old_depth, "the nearest is 0.200 s newer"),
        (uncalibrated, "camera is not calibrated: its camera_info has K = 0"),
        (info_of_another, "is of the frame 'other', and the image of 'lens': set camera_info_topics"),
        (unknown_lens, "the distortion model 'division' of the camera_info is not known: expected one of plumb_bob"),
        (another_shape, "does not show the view"),
        (no_transform, "transform not available: no transform of the frame 'depth_lens' has arrived"),
        (no_depth_info, "no camera_info of the depth camera has arrived on /camera/depth/camera_info"),
        (not_depth, "encoding 'rgb8' is not depth"),
    ],
)
def test_without_all_that_is_needed_there_are_detections_and_a_reason_but_no_positions(make_scene, prepare, reason):
    scene = make_scene()
    prepare(scene)
    # What was published arrives in any order: look until the node has it.
    scene.bench.spin_until(lambda: reason in scene.problem(), meanwhile=lambda: look_again(scene, prepare))
    assert scene.objects == scene.points == []
    assert len(scene.detections[-1].detections) == len(LABELS)
    scene.bench.spin_until(
        lambda: any(reason in one.message for status in scene.statuses for one in status.status),
        meanwhile=lambda: look_again(scene, prepare),
        what="the reason on /diagnostics",
    )


def look_again(scene, prepare):
    prepare(scene)
    scene.look()


def test_a_node_without_depth_says_which_parameter_is_missing(make_scene):
    scene = make_scene(depth_topics=[""])
    scene.look()
    assert scene.problem() == "no depth images of this camera are taken: set depth_topics"


def test_depth_that_comes_back_gives_positions_again(make_scene):
    scene = make_scene()
    scene.inform()
    look_until(scene, lambda: scene.objects, what="objects")
    scene.rig.stamp += 500_000_000
    before = len(scene.objects)
    scene.look()
    assert len(scene.objects) == before
    assert "older" in scene.problem()
    look_until(scene, lambda: len(scene.objects) > before, what="objects again")
