"""Nav2's semantic layer and Hydra read the node's output as their configurations in config/ say.

What they ask for was read from their sources: ros-navigation/semantic_segmentation_layer (segmentation_buffer.cpp and
semantic_segmentation_layer.cpp) and MIT-SPARK/Hydra (hydra_ros/src/input/image_receiver.cpp, qos_config.cpp).
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

import yaml
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image

from synseg_ros.qos import LATCHED
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.fixture
def nav2():
    """The layer's parameters for its one source."""
    costmap = yaml.safe_load((CONFIG / "nav2_semantic_layer.yaml").read_text())["local_costmap"]["local_costmap"]
    layer = costmap["ros__parameters"]["semantic_layer"]
    return layer[layer["observation_sources"]]


def test_nav2_can_index_label_map_and_confidence_by_width_and_join_them_by_stamp(make_rig, bench, nav2):
    rig = make_rig(camera_names=["front"])
    maps = bench.collect(Image, nav2["segmentation_topic"], qos_profile_sensor_data)
    confidences = bench.collect(Image, nav2["confidence_topic"], qos_profile_sensor_data)
    rig.ask(*[f"label {index}" for index in range(254)])

    def show():
        seen = rig.node._cameras["front"].statistics.counts["received"]
        rig.show()
        bench.spin_until(lambda: rig.node._cameras["front"].statistics.counts["received"] > seen)

    bench.spin_until(lambda: rig.camera.get_subscription_count())
    bench.spin_until(lambda: maps and confidences, show, "both images")
    stamps = {message.header.stamp.nanosec for message in maps} & {m.header.stamp.nanosec for m in confidences}
    bench.spin_until(lambda: stamps or len(maps) > 20)
    for message in (maps[0], confidences[0]):
        # The layer reads data[v * width + u] as 8 bits, whatever step and encoding say.
        assert (message.encoding, message.step) == ("mono8", message.width)
        assert (message.height, message.width, len(message.data)) == (HEIGHT, WIDTH, HEIGHT * WIDTH)
        assert (message.header.stamp.sec, message.header.frame_id) == (1000, "lens")
    assert max(maps[0].data) <= 254


@pytest.mark.usefixtures("more_messages")
def test_nav2_learns_the_names_of_all_classes_before_the_first_mask(make_rig, bench, nav2):
    from vision_msgs.msg import LabelInfo

    order = []
    rig = make_rig(camera_names=["front"])
    bench.node.create_subscription(LabelInfo, nav2["labels_topic"], order.append, LATCHED)
    bench.node.create_subscription(Image, nav2["segmentation_topic"], order.append, qos_profile_sensor_data)
    classes = [label for kind in nav2["class_types"] for label in nav2[kind]["classes"]]
    rig.ask(*classes)
    bench.spin_until(lambda: len(order) > 2, rig.show, "names and masks")
    assert {entry.class_name: entry.class_id for entry in order[0].class_map} == dict(
        zip(classes, range(1, len(classes) + 1), strict=True)
    )


def test_hydra_hears_label_maps_of_its_label_space(make_rig, bench):
    receiver = yaml.safe_load((CONFIG / "hydra_input.yaml").read_text())["input"]["inputs"]["front"]["receiver"]
    space = yaml.safe_load((CONFIG / "hydra_label_space.yaml").read_text())
    names = {entry["label"]: entry["name"] for entry in space["label_names"]}
    assert sorted(names) == list(range(space["total_semantic_labels"]))
    kinds = ("dynamic_labels", "invalid_labels", "object_labels", "surface_places_labels")
    assert {label for kind in kinds for label in space[kind]} <= set(names)
    reliable = ReliabilityPolicy[receiver["qos"]["reliability"].upper()]
    rig = make_rig(camera_names=["front"], labels=[names[label] for label in sorted(names)[1:]])
    maps = bench.collect(
        Image, "/synseg/front/label_map", QoSProfile(depth=receiver["qos"]["depth"], reliability=reliable)
    )
    bench.spin_until(lambda: maps, rig.show, "a label map")
    status = rig.statuses[-1]
    assert dict(zip(status.ids, status.labels, strict=True)) == {label: names[label] for label in names if label}
    assert maps[0].encoding == "mono8"  # cv_bridge keeps it as CV_8UC1
    assert set(np.unique(maps[0].data)) <= set(names)


@pytest.mark.usefixtures("more_messages")
def test_layouts_show_topics_that_the_node_has(make_rig):
    rig = make_rig()
    topics = {publisher.topic_name for publisher in rig.node.publishers}
    displays = yaml.safe_load((CONFIG / "synseg.rviz").read_text())["Visualization Manager"]["Displays"]
    assert {display["Topic"]["Value"] for display in displays if "Topic" in display} <= topics
    layout = json.loads((CONFIG / "synseg.foxglove.json").read_text())
    panels = layout["configById"].values()
    shown = {panel["imageMode"]["imageTopic"] for panel in panels if "imageMode" in panel}
    shown |= {topic for panel in panels for topic in panel.get("topics", ())}
    shown |= {panel["topicPath"].partition(".")[0] for panel in panels if "topicPath" in panel}
    for script in layout["userNodes"].values():  # it makes a topic that panels show from topics of the node
        made, read = (
            json.loads(re.search(rf"export const {name} = (.+);", script["sourceCode"])[1])
            for name in ("output", "inputs")
        )
        assert made in shown
        shown = shown - {made} | set(read)
    assert shown and shown <= topics
