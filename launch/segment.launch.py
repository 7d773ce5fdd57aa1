"""Start the segmentation node: ros2 launch synseg_ros segment.launch.py camera:=/camera/image_raw."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.logging import get_logger
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode, LoadComposableNodes
from launch_ros.descriptions import ComposableNode

from synseg_ros.parameters.options import from_text, make_settings, nearest, ros_arguments
from synseg_ros.parameters.tables import NodeSettings

CONFIG = Path(get_package_share_directory("synseg_ros"), "config", "synseg.yaml")

# By default, Fast DDS sends images between processes of one machine through 0.5 MB of shared memory. An image of
# 640x480 (0.9 MB) is mostly lost there. This value makes it 17 MB: three processes fit into the 64 MB of a Docker
# container. DEFAULT keeps UDP for other machines. Other middlewares do not read the variable.
LARGE = "DEFAULT?sockets_size=8MB"
TRANSPORTS = EnvironmentVariable("FASTDDS_BUILTIN_TRANSPORTS", default_value=LARGE)
OTHERS = {
    "params_file": (str(CONFIG), "Parameter file of the node. The arguments above override it"),
    "name": ("synseg", "Name of the node"),
    "namespace": ("", "Namespace of the node and of its topics"),
    "remap": ("", "Other names for topics, such as synseg/vocab:=/ask. Separate several with commas"),
    "container": (
        "",
        "Component container of the camera driver. image_transport's Republisher is loaded there and compresses the "
        "frames. The node subscribes to the compressed frames",
    ),
    "log_level": ("info", "Log level: debug, info, warn, error or fatal"),
    "transports": (
        TRANSPORTS,
        "FASTDDS_BUILTIN_TRANSPORTS of the node. Default: the value in the environment, else " + LARGE,
    ),
}


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, one for each parameter of the node and some more, and the node."""
    arguments = []
    for field in dataclasses.fields(NodeSettings):  # where none is given, the parameter file's value stands
        several = " Separate several with commas." if isinstance(field.default, tuple) else ""
        shown = f" [{json.dumps(field.default)}]" if field.default not in ((), "") else ""
        description = field.metadata["description"] + several + shown
        arguments.append(DeclareLaunchArgument(field.name, default_value="", description=description))
    for name, (default, description) in OTHERS.items():
        arguments.append(DeclareLaunchArgument(name, default_value=default, description=description))
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])


def start_node(context: LaunchContext) -> list[LifecycleNode | LoadComposableNodes]:
    """Return the node, with the parameter file and on top of it the arguments that were given."""
    for warning in misspelt(context.launch_configurations):
        get_logger("segment.launch").warning(warning)
    given = {}
    for field in dataclasses.fields(NodeSettings):
        text = LaunchConfiguration(field.name).perform(context).strip()
        if text:
            given[field.name] = from_text(field, text)
    params_file = LaunchConfiguration("params_file").perform(context)
    if not Path(params_file).is_file():
        raise ValueError(f"params_file:={params_file}: there is no such file")
    log_level = LaunchConfiguration("log_level").perform(context)
    container = LaunchConfiguration("container").perform(context).strip()
    beside = []
    if container:
        namespace = LaunchConfiguration("namespace").perform(context)
        beside.append(compress_in(container, given, LaunchConfiguration("name").perform(context), namespace))
        given["transport"] = "compressed"
    return [
        *beside,
        LifecycleNode(
            package="synseg_ros",
            executable="segment_node",
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            remappings=remappings(LaunchConfiguration("remap").perform(context)),
            # Not as `parameters`: launch leaves texts without quotes, and ROS would read the label 1e3 as a number.
            arguments=["--ros-args", "--log-level", log_level, "--params-file", params_file, *ros_arguments(given)],
            additional_env={"FASTDDS_BUILTIN_TRANSPORTS": LaunchConfiguration("transports")},
            output="screen",
            emulate_tty=True,
        ),
    ]


def misspelt(given: Mapping[str, str]) -> list[str]:
    """Warn of arguments that are nearly those of this file: launch passes on whatever is given, without a word.

    Others may belong to a launch file that includes this one.
    """
    known = [field.name for field in dataclasses.fields(NodeSettings)] + list(OTHERS)
    meant = {name: nearest(name, known, 0.8) for name in given if name not in known}
    return [
        f"{name}:={given[name]} is no argument of segment.launch.py and has no effect: did you mean {right}?"
        for name, right in meant.items()
        if right
    ]


def remappings(text: str) -> list[tuple[str, str]]:
    """Read FROM:=TO,FROM:=TO; raise ValueError for anything else."""
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        before, _, after = part.partition(":=")
        if not (before and after) or ":=" in after:
            raise ValueError(f"remap: {part!r} is not FROM:=TO, such as synseg/vocab:=/ask")
        pairs.append((before, after))
    return pairs


def compress_in(container: str, given: dict[str, Any], name: str, namespace: str) -> LoadComposableNodes:
    """Have the cameras' raw frames compressed in a container; raise ValueError where that cannot be."""
    for package in ("image_transport", "compressed_image_transport"):
        try:
            get_package_prefix(package)
        except PackageNotFoundError:
            raise ValueError(
                f"container:={container} needs {package}, which is not installed: "
                f"apt install ros-$ROS_DISTRO-{package.replace('_', '-')}, or leave container out"
            ) from None
    if not {"camera", "camera_topics"} & given.keys():
        raise ValueError(f"container:={container} needs to be told the cameras: give camera or camera_topics as well")
    if given.get("transport") == "raw":
        raise ValueError(f"container:={container} compresses what transport:=raw would have raw: give one of the two")
    nodes = []
    for camera, raw in raw_topics(given, name, namespace).items():
        reliability = f"qos_overrides.{raw}.subscription.reliability"
        nodes.append(
            ComposableNode(
                package="image_transport",
                plugin="image_transport::Republisher",
                name=f"{name}_compress_{camera}",
                namespace=namespace,
                # Cameras publish with best effort, which its own reliable subscription would not hear.
                parameters=[{"in_transport": "raw", "out_transport": "compressed", reliability: "best_effort"}],
                remappings=[("in", raw), ("out/compressed", f"{raw}/compressed")],
                extra_arguments=[{"use_intra_process_comms": True}],
            )
        )
    return LoadComposableNodes(target_container=container, composable_node_descriptions=nodes)


def raw_topics(given: dict[str, Any], name: str, namespace: str) -> dict[str, str]:
    """Return the cameras' raw topics as ROS will resolve them in the node, by the cameras' names there."""
    own = f"/{namespace.strip('/')}/".replace("//", "/")

    def resolve(topic: str) -> str:
        if topic.startswith("~"):
            return f"{own}{name}{topic[1:]}"
        return topic if topic.startswith("/") else own + topic

    cameras = make_settings(NodeSettings, given).cameras(lambda topic: resolve(topic).removeprefix(own))
    return {camera: resolve(topic).removesuffix("/compressed") for camera, topic in cameras.items()}
