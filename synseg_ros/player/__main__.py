"""Run the player: `python -m synseg_ros.player`."""

from synseg_ros.player.player import main
from synseg_ros.program import run_ros_program

if __name__ == "__main__":
    run_ros_program(main)
