"""Every label can have a topic of its own."""

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import Image

from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.node.class_topics import class_topics
from tests.synseg_ros.rig import HEIGHT, WIDTH

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


def test_each_label_has_a_topic_of_its_own_if_asked_for_and_only_while_it_stays(make_rig):
    rig = make_rig(publish_class_topics=True)
    ball = rig.listen(Image, "classes/red_ball")
    rig.ask("red ball", "мяч")

    def offered():
        return {p.topic_name.rpartition("/")[2] for p in rig.node.publishers if "/classes/" in p.topic_name}

    assert offered() == {"red_ball", "label_2"}
    rig.connect()
    rig.show_until(lambda: ball, "the mask of one label")
    assert (ball[0].encoding, ball[0].height, ball[0].width) == ("mono8", HEIGHT, WIDTH)
    left, right = image_to_array(ball[0])[HEIGHT // 2, [WIDTH // 4, 3 * WIDTH // 4]]
    assert (left, right) == (255, 0)
    rig.ask("red ball", "sky")
    assert offered() == {"red_ball", "sky"}
    rig.node.set_parameters([Parameter("publish_class_topics", value=False)])
    rig.bench.spin_until(lambda: not offered(), what="no topics")
