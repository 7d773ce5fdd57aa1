"""Start the segmentation node: ros2 launch synseg_ros segment.launch.py camera:=/camera/image_raw."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from synseg_ros.parameters import NodeSettings, from_text

CONFIG = Path(get_package_share_directory("synseg_ros"), "config", "synseg.yaml")

# Fast DDS sends pictures to processes of this machine through half a megabyte of shared memory by default, in which an
# image of 640x480 (0.9 MB) is mostly lost. This makes it 17 MB, of which three processes fit into the 64 MB of a Docker
# container; DEFAULT keeps UDP for other machines. Other middlewares do not read the variable.
LARGE = "DEFAULT?sockets_size=8MB"
TRANSPORTS = EnvironmentVariable("FASTDDS_BUILTIN_TRANSPORTS", default_value=LARGE)
OTHERS = {
    "params_file": (str(CONFIG), "Parameter file of the node; the arguments above come before it"),
    "name": ("synseg", "Name of the node"),
    "namespace": ("", "Namespace of the node and of its topics"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "transports": (TRANSPORTS, "FASTDDS_BUILTIN_TRANSPORTS of the node, by default as set, else " + LARGE),
}


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, one for each parameter of the node and some more, and the node."""
    arguments = []
    for field in dataclasses.fields(NodeSettings):  # where none is given, the parameter file's value stands
        several = " (several are separated by commas)" if isinstance(field.default, tuple) else ""
        shown = f" [{json.dumps(field.default)}]" if field.default not in ((), "") else ""
        description = field.metadata["description"] + several + shown
        arguments.append(DeclareLaunchArgument(field.name, default_value="", description=description))
    for name, (default, description) in OTHERS.items():
        arguments.append(DeclareLaunchArgument(name, default_value=default, description=description))
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """Return the node, with the parameter file and on top of it the arguments that were given."""
    parameters = {}
    for field in dataclasses.fields(NodeSettings):
        text = LaunchConfiguration(field.name).perform(context).strip()
        if text:
            # The type is named, or launch would read the label "no" or the model "2024" as YAML.
            kind = list[str] if isinstance(field.default, tuple) else type(field.default)
            parameters[field.name] = ParameterValue(from_text(field, text), value_type=kind)
    return [
        LifecycleNode(
            package="synseg_ros",
            executable="segment_node",
            name=LaunchConfiguration("name"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), parameters],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            additional_env={"FASTDDS_BUILTIN_TRANSPORTS": LaunchConfiguration("transports")},
            output="screen",
            emulate_tty=True,
        )
    ]
