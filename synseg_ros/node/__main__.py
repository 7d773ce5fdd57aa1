"""Run the node: `python -m synseg_ros.node`."""

from synseg_ros.node.node import main
from synseg_ros.process.shutdown import run_program

if __name__ == "__main__":
    run_program(main)
