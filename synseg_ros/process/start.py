"""The beginning of a process: ROS's own arguments, refused in one line where they cannot be read."""

from __future__ import annotations

import sys

import rclpy

from synseg_ros.process.shutdown import leave_ending_to_ros

WRONG_START = 2  # exit status for a model, a parameter or an argument that cannot work


def begin(name: str, args: list[str] | None) -> bool:
    """Initialise ROS; where its arguments cannot be read, such as a parameter file, say so and return False."""
    try:
        rclpy.init(args=args)
    except Exception as error:  # rclpy's own kinds, which share no base but Exception
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return False
    leave_ending_to_ros()
    return True
