"""Run the player: `python -m synseg_ros.player`."""

from synseg_ros.player.player import main
from synseg_ros.process.shutdown import run_program

if __name__ == "__main__":
    run_program(main)
