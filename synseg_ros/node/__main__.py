"""Run the node: `python -m synseg_ros.node`."""

from synseg_ros.node.node import main
from synseg_ros.program import run_ros_program

if __name__ == "__main__":
    run_ros_program(main)
