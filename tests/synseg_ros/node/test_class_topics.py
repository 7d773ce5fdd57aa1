"""Every label can have a topic of its own."""

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.validate_topic_name import validate_topic_name

from synseg_ros.node.class_topics import class_topics

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("red ball", "Café au lait", "T-shirt"), ["red_ball", "cafe_au_lait", "t_shirt"]),
        (("мяч", "球"), ["label_1", "label_2"]),
        (("2 wheels",), ["label_2_wheels"]),
        (("red ball", "red-ball", "red  ball!"), ["red_ball", "red_ball_2", "red_ball_3"]),
    ],
)
def test_every_label_has_a_topic_of_its_own_that_ros_accepts(labels, names):
    topics = class_topics(labels)
    assert list(topics.values()) == names
    assert list(topics) == list(labels)
    for name in names:
        validate_topic_name(f"synseg/camera/classes/{name}")
