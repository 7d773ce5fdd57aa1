"""Run the node: `python -m synseg_ros.node`."""

from __future__ import annotations

import os
import sys

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from synseg_model.memory import keep_freed_memory
from synseg_ros.node.node import SynSegNode
from synseg_ros.parameters.given import warn_of_other_nodes_files
from synseg_ros.program import POLL_SECONDS, WRONG_START, ending_with_ros, init_ros, run_ros_program


def spin(node: SynSegNode, executor: SingleThreadedExecutor) -> None:
    """Take messages until ROS is shut down; an error in one, such as a message that cannot be read, ends nothing.

    Args:
        node: The node.
        executor: Takes the messages.
    """
    executor.add_node(node)
    while node.context.ok():
        try:
            executor.spin_once(timeout_sec=POLL_SECONDS)  # a shutdown just before it begins to wait does not wake it
        except ExternalShutdownException:
            return
        except Exception as error:
            node.report(error)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted.

    Args:
        args: Command line arguments; None for those of the process.

    Returns:
        0, or 2 for a model or a parameter that cannot work.
    """
    keep_freed_memory()
    if not init_ros("synseg", args):
        return WRONG_START
    node, status = None, 0
    try:
        executor = SingleThreadedExecutor()  # now, as rclpy shows a traceback where ROS is shut down while it is made
        node = SynSegNode()
        warn_of_other_nodes_files(node, sys.argv if args is None else args)
        with ending_with_ros(node.context):
            if node.settings.autostart and not node.start():
                status = WRONG_START if rclpy.ok() else 0
            else:
                spin(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ParameterException as error:
        print(f"synseg: {' '.join(str(error).split())}", file=sys.stderr)
        status = WRONG_START
    except Exception:
        if rclpy.ok():  # else the interrupt closed ROS below a node that was still starting
            raise
    ended = node is None or node.close()
    rclpy.try_shutdown()
    if not ended:  # the engine may take long to return, and Python would end below it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    run_ros_program(main)
