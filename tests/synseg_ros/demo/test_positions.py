"""Errors of positions are those to the nearest thing that the label names."""

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")


@pytest.fixture
def array(more_messages):
    from geometry_msgs.msg import Point, Pose, PoseWithCovariance
    from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose

    def make(*placed):
        detections = []
        for label, (x, y, z) in placed:
            pose = PoseWithCovariance(pose=Pose(position=Point(x=x, y=y, z=z)))
            result = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=label), pose=pose)
            detections.append(Detection3D(results=[result]))
        return Detection3DArray(detections=detections)

    return make


def test_an_object_is_compared_with_the_nearest_thing_of_its_label(array):
    from synseg_ros.demo.positions import position_errors

    truth = array(("red ball", (0.0, 0.0, 2.0)), ("blue ball", (1.0, 0.0, 2.0)), ("red cube", (0.0, 0.0, 2.1)))
    found = array(
        ("ball", (0.9, 0.0, 2.0)), ("Red Ball", (0.9, 0.0, 2.0)), ("cube", (0.0, 0.0, 2.0)), ("grass", (0.0, 0.0, 3.0))
    )
    assert position_errors(found, truth) == pytest.approx([0.1, 0.9, 0.1])
