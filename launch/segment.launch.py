"""Start the segmentation node: ros2 launch synseg_ros segment.launch.py camera:=/camera/image_raw."""

from __future__ import annotations

from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = Path(get_package_share_directory("synseg_ros"), "config", "synseg.yaml")

# Arguments that set the parameter of their name; where one is not given, the parameter file's value stands.
PARAMETERS = {
    "camera": "Topic of the camera, a sensor_msgs/Image",
    "camera_name": "The <camera> in the output topics synseg/<camera>/...; by default taken from its topic",
    "model": "A shipped model, a model folder, or a CLIPSeg id",
    "engine": "How the network is run: auto, or the name of an engine, such as torch",
    "device": "Where the network is run: auto, cpu or cuda:0",
    "labels": "The vocabulary to start with, separated by commas; by default none, wait for synseg/vocab",
    "threshold": "Activation from which on a pixel belongs to a label, 0 to 1; 0 is the model's own",
}
# Fast DDS sends pictures to processes of this machine through half a megabyte of shared memory by default, in which an
# image of 640x480 (0.9 MB) is mostly lost. This makes it 17 MB, of which three processes fit into the 64 MB of a Docker
# container; DEFAULT keeps UDP for other machines. Other middlewares do not read the variable.
LARGE = "DEFAULT?sockets_size=8MB"
TRANSPORTS = EnvironmentVariable("FASTDDS_BUILTIN_TRANSPORTS", default_value=LARGE)
OTHERS = {
    "params_file": (str(CONFIG), "Parameter file of the node; the arguments above come before it"),
    "namespace": ("", "Namespace of the node and of its topics"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "transports": (TRANSPORTS, "FASTDDS_BUILTIN_TRANSPORTS of the node, by default as set, else " + LARGE),
}


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the node."""
    defaults = yaml.safe_load(CONFIG.read_text())["/**"]["ros__parameters"]
    arguments = []
    for name, description in PARAMETERS.items():
        shown = f" (parameter file: {defaults[name]})" if defaults.get(name) not in (None, "") else ""
        arguments.append(DeclareLaunchArgument(name, default_value="", description=description + shown))
    for name, (default, description) in OTHERS.items():
        arguments.append(DeclareLaunchArgument(name, default_value=default, description=description))
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])


def start_node(context: LaunchContext) -> list[Node]:
    """Return the node, with the parameter file and on top of it the arguments that were given."""
    given = {name: LaunchConfiguration(name).perform(context).strip() for name in PARAMETERS}
    # The type is named, or launch would read the label "no" or the model "2024" as YAML.
    parameters = {name: ParameterValue(value, value_type=str) for name, value in given.items() if value}
    if given["labels"]:
        labels = [label.strip() for label in given["labels"].split(",")]
        parameters["labels"] = ParameterValue(labels, value_type=list[str])
    if given["threshold"]:
        parameters["threshold"] = ParameterValue(_number("threshold", given["threshold"]), value_type=float)
    return [
        Node(
            package="synseg_ros",
            executable="segment_node",
            name="synseg",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), parameters],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            additional_env={"FASTDDS_BUILTIN_TRANSPORTS": LaunchConfiguration("transports")},
            output="screen",
            emulate_tty=True,
        )
    ]


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}:={text}: expected a number, such as {name}:=0.5") from None
