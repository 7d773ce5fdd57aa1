"""Parameters of the nodes: one table per node, a dataclass whose fields are declared as they stand here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from synseg_model.messages import camera_of

Settings = TypeVar("Settings")


def option(default: Any, description: str, minimum: float | None = None, maximum: float | None = None) -> Any:
    """Make a dataclass field that is a ROS parameter: its default, what it does, its range if any."""
    return dataclasses.field(
        default=default, metadata={"description": description, "minimum": minimum, "maximum": maximum}
    )


@dataclass(frozen=True)
class NodeSettings:
    """List the parameters of the segmentation node."""

    model: str = option("synseg-tiny", "A shipped model, a model folder, or a CLIPSeg id.")
    engine: str = option("auto", "How the network is run: 'auto' or the name of an engine, such as 'torch'.")
    device: str = option("auto", "Where the network is run: 'auto', 'cpu' or 'cuda:0'.")
    camera: str = option("/camera/image_raw", "Topic of the camera, a sensor_msgs/Image.")
    camera_name: str = option(
        "",
        "The <camera> in the output topics synseg/<camera>/...; empty: the first part of the camera's topic, "
        "or 'camera' where the topic has one part only.",
    )
    labels: tuple[str, ...] = option((), "The vocabulary to start with; empty: wait for one on synseg/vocab.")
    threshold: float = option(
        0.0,
        "Activation from which on a pixel belongs to a label; 0: the model's own.",
        minimum=0.0,
        maximum=1.0,
    )
    max_labels: int = option(1203, "Longest vocabulary that is accepted.", minimum=1, maximum=65535)
    cache_dir: str = option("", "Folder for text embeddings; empty: the user's cache folder.")


@dataclass(frozen=True)
class CameraSettings:
    """List the parameters of the camera player."""

    source: str = option(
        "scenes",
        "'scenes' (generated pictures with known truth), an image, a folder, a video or /dev/video0.",
    )
    topic: str = option("/camera/image_raw", "Topic of the frames; camera_info and truth are beside it.")
    frame_id: str = option("camera", "frame_id of every header.")
    fps: float = option(
        0.0,
        "Frames per second; 0: a video's own, else 15. A device sets its own pace.",
        minimum=0.0,
        maximum=1000.0,
    )
    loop: bool = option(True, "Start again at the end; generated scenes never end.")
    wait_for: str = option(
        "",
        "A synseg_ros/FrameInfo topic: publish a frame only when the one before was answered there, so that "
        "none is skipped; empty: publish at the given rate, as a camera does.",
    )
    seed: int = option(0, "Which generated scene is shown.", minimum=0, maximum=2**31 - 1)
    width: int = option(640, "Width of generated scenes, pixels.", minimum=32, maximum=8192)
    height: int = option(480, "Height of generated scenes, pixels.", minimum=32, maximum=8192)


def declare(node: Node, table: type[Settings]) -> Settings:
    """Declare each field of a settings table as a read-only parameter; return the values given at the start.

    Raises rclpy's ParameterException (a wrong type or a value out of range), whose text names the parameter.
    """
    values = {}
    for field in dataclasses.fields(table):
        if field.default == ():  # ROS cannot tell the type of an empty list: give the type alone
            node.declare_parameter(field.name, Parameter.Type.STRING_ARRAY, _descriptor(field))
            values[field.name] = tuple(node.get_parameter_or(field.name, Parameter(field.name)).value or ())
        else:
            values[field.name] = node.declare_parameter(field.name, field.default, _descriptor(field)).value
    return table(**values)


def camera_name(settings: NodeSettings) -> str:
    """Return the <camera> of the output topics: as given, or the first part of the camera's topic."""
    return settings.camera_name or camera_of(settings.camera)


def _descriptor(field: dataclasses.Field) -> ParameterDescriptor:
    limits = field.metadata["minimum"], field.metadata["maximum"]
    described = ParameterDescriptor(description=field.metadata["description"], read_only=True)
    if None in limits:
        return described
    if isinstance(field.default, int):
        described.integer_range = [IntegerRange(from_value=limits[0], to_value=limits[1], step=1)]
    else:
        described.floating_point_range = [FloatingPointRange(from_value=limits[0], to_value=limits[1])]
    return described
