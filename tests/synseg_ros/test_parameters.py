"""Parameters are declared as the tables say."""

import dataclasses

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from synseg_ros.parameters import CameraSettings, NodeSettings, camera_name, declare

pytestmark = pytest.mark.ros


@pytest.fixture
def node_with(bench):
    """Make a node that was started with the given parameters."""

    def make(**overrides):
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        node = Node("tested", context=bench.context, parameter_overrides=given)
        bench.closers.append(node.destroy_node)
        return node

    return make


@pytest.mark.parametrize("table", [NodeSettings, CameraSettings])
def test_without_overrides_every_parameter_has_its_default(node_with, table):
    assert declare(node_with(), table) == table()


def test_overrides_are_taken(node_with):
    settings = declare(node_with(labels=["red ball", "grass"], threshold=0.25, max_labels=7), NodeSettings)
    assert (settings.labels, settings.threshold, settings.max_labels) == (("red ball", "grass"), 0.25, 7)


@pytest.mark.parametrize("table", [NodeSettings, CameraSettings])
def test_every_parameter_is_described_and_read_only(node_with, table):
    node = node_with()
    declare(node, table)
    for field in dataclasses.fields(table):
        descriptor = node.describe_parameter(field.name)
        assert descriptor.description
        assert descriptor.read_only


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ({"threshold": 1.5}, InvalidParameterValueException),
        ({"max_labels": 0}, InvalidParameterValueException),
        ({"model": 3}, InvalidParameterTypeException),
        ({"labels": [1, 2]}, InvalidParameterTypeException),
    ],
)
def test_a_value_of_wrong_range_or_type_is_refused_by_name(node_with, override, error):
    with pytest.raises(error, match=next(iter(override))):
        declare(node_with(**override), NodeSettings)


@pytest.mark.parametrize(
    ("topic", "given", "name"),
    [
        ("/camera/image_raw", "", "camera"),
        ("/front/color/image_raw", "", "front"),
        ("/image", "", "camera"),
        ("image", "", "camera"),
        ("/front/image_raw", "left", "left"),
    ],
)
def test_a_cameras_name_is_given_or_the_first_part_of_its_topic(topic, given, name):
    assert camera_name(NodeSettings(camera=topic, camera_name=given)) == name
