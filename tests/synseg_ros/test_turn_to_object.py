"""The example turns a robot until it faces the thing, and stops it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("synseg_ros.srv", reason="needs ROS 2 and the built messages: use scripts/with_env")

from geometry_msgs.msg import Twist

from tests.synseg_ros.paint import PaintEngine, painted
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "turn_to_object.py"
VIEW = 1.0  # rad, the camera's field of view
STEP = 0.2  # seconds that the robot turns as each cmd_vel says: however slow the machine is, it turns no further


class Robot:
    """Turn on the spot as cmd_vel says; a red thing is at a bearing, in rad to the left of where it looks at first."""

    def __init__(self, rig, bearing):
        self.rig, self.bearing, self.heading, self.speed = rig, bearing, 0.0, 0.0
        self.turns = True  # False: its wheels slip
        self.heard = []
        rig.bench.node.create_subscription(Twist, "/cmd_vel", self.take, 10)

    def take(self, message):
        self.heard.append(message)
        self.speed = message.angular.z
        self.heading += STEP * self.speed * self.turns

    def step(self):
        column = int(WIDTH * (0.5 - (self.bearing - self.heading) / VIEW))
        columns = (max(0, column - 4), min(WIDTH, column + 4))
        seen = [("red", (HEIGHT // 2, HEIGHT // 2 + 10), columns)] if columns[0] < columns[1] - 2 else []
        self.rig.show(painted(*seen))


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parents[1]), os.environ["PYTHONPATH"]])}
    command = [sys.executable, str(EXAMPLE), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def run(rig, meanwhile, *arguments):
    process = start(*arguments)
    rig.bench.spin_until(lambda: process.poll() is not None, meanwhile, "the example's end")
    return process.returncode, "".join(process.communicate())


@pytest.mark.parametrize("bearing", [0.4, -0.4], ids=["left", "right"])
def test_the_robot_turns_until_it_faces_the_thing_and_stops(make_rig, bearing):
    rig = make_rig(engine=PaintEngine())
    robot = Robot(rig, bearing)
    status, said = run(rig, robot.step, "red", "--seconds", "120")
    assert (status, said) == (0, "facing red\n")
    rig.bench.spin_until(lambda: robot.speed == 0, what="the robot to stop")
    assert abs(robot.bearing - robot.heading) < 0.15
    speeds = [message.angular.z for message in robot.heard if message.angular.z]
    assert speeds and all(speed * bearing > 0 and abs(speed) <= 0.5 for speed in speeds)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_robot_stops(make_rig, number):
    rig = make_rig(engine=PaintEngine())
    robot = Robot(rig, 0.4)
    robot.turns = False
    process = start("red", "--seconds", "600")
    rig.bench.spin_until(lambda: robot.speed > 0, robot.step, "the robot to turn")
    process.send_signal(number)
    rig.bench.spin_until(lambda: process.poll() is not None, robot.step, "the example's end")
    rig.bench.spin_until(lambda: robot.speed == 0, what="the robot to stop")
    assert (process.returncode, *process.communicate()) == (1, "", "")


def test_a_thing_that_is_not_in_view_does_not_move_the_robot(make_rig):
    rig = make_rig(engine=PaintEngine())
    robot = Robot(rig, 3.0)
    process = start("red", "--seconds", "600")
    asked = lambda: rig.counts()["requested"] >= 3 and len(robot.heard) >= 3  # noqa: E731
    rig.bench.spin_until(asked, robot.step, "commands after three looks")
    process.send_signal(signal.SIGINT)
    rig.bench.spin_until(lambda: process.poll() is not None, robot.step, "the example's end")
    process.communicate()
    assert (process.returncode, robot.heading) == (1, 0)


def test_a_label_that_is_refused_ends_it(make_rig):
    rig = make_rig(engine=PaintEngine())
    status, said = run(rig, rig.show, "")
    assert (status, "refused" in said) == (2, True)
