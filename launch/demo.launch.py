"""Start the player and the segmentation node: ros2 launch synseg_ros demo.launch.py."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EqualsSubstitution, IfElseSubstitution, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

LAUNCH = Path(get_package_share_directory("synseg_ros"), "launch")

ARGUMENTS = {
    "source": (
        "photographs",
        "What the player shows: photographs (its own), scenes (generated, for model:=synseg-tiny), an image, "
        "a folder, a video, or a device",
    ),
    "fps": ("15.0", "Frames per second of the player"),
    "camera": ("/camera/image_raw", "Topic of the frames"),
    "labels": (
        "person, cat, bird, cup, table, tree, building, mountain, water, sky",
        "The vocabulary at the start, separated by commas",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """Return the player and, included with all its arguments, the node."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    camera = Node(
        package="synseg_ros",
        executable="player",
        name="camera",
        parameters=[
            {
                "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
                "topic": ParameterValue(LaunchConfiguration("camera"), value_type=str),
                "fps": ParameterValue(LaunchConfiguration("fps"), value_type=float),
            }
        ],
        # An argument of the node's launch file, which is therefore included before.
        additional_env={"FASTDDS_BUILTIN_TRANSPORTS": LaunchConfiguration("transports")},
        output="screen",
        emulate_tty=True,
    )
    scenes = EqualsSubstitution(LaunchConfiguration("source"), "scenes")
    domain = IfElseSubstitution(scenes, if_value="generated scenes", else_value="photographs")
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH / "segment.launch.py")),
        launch_arguments=[
            *((name, LaunchConfiguration(name)) for name in ("camera", "labels")),
            ("expect_domain", domain),
        ],
    )
    return LaunchDescription([*arguments, RegisterEventHandler(OnProcessExit(on_exit=end_all)), node, camera])


def end_all(event: ProcessExited, context: LaunchContext) -> list[Shutdown]:
    """End the demo with the camera or the node, whichever ends first; a second shutdown would be an error."""
    return [] if context.is_shutdown else [Shutdown(reason=f"{event.process_name} has ended")]
