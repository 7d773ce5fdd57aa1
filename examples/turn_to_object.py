"""Turn a robot towards a thing: ask the node where it is, and publish how to turn on cmd_vel.

    python examples/turn_to_object.py "red ball" --camera front --ros-args -r cmd_vel:=/robot/cmd_vel

The camera must look forward. The robot turns on the spot while the thing is in view, and stops at the end. Ctrl-C and
SIGTERM stop it, too.

Exit status: 0 the robot faces the thing; 1 it does not in time; 2 the node refused the request.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

import rclpy
from geometry_msgs.msg import Twist
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from synseg_ros.client import RequestRefusedError, SynSegClient

FACING, NOT_FACING, REFUSED = 0, 1, 2
PERIOD = 0.2  # seconds between two requests
PATIENCE = 1.0  # seconds without an answer, after which the robot stops
GAIN = 1.0  # rad/s of turning for a thing at the edge of the image, twice that far from its middle
FASTEST = 0.5  # rad/s
STOP_SECONDS = 2.0  # for the command to stop to arrive, before the process ends and takes its messages with it
CENTERED = 0.05  # distance from the image's middle that counts as facing, as a share of its width


class Turner(Node):
    """Turn towards one label. `result` is None meanwhile, then the exit status; `interrupted` ends it without one."""

    def __init__(self, label: str, camera: str) -> None:
        super().__init__("turn_to_object")
        self.label, self.camera, self.result = label, camera, None
        self.interrupted = False
        self._client = SynSegClient(self)
        self._publisher = self.create_publisher(Twist, "cmd_vel", 10)
        self._answer: Future | None = None
        self._asked = time.monotonic()
        self.create_timer(PERIOD, self._ask)

    def _ask(self) -> None:
        if self._answer is not None:
            if time.monotonic() - self._asked > PATIENCE:
                self.turn(0.0)
            return
        try:
            self._answer = self._client.locate_async([self.label], self.camera)
        except RequestRefusedError:  # the node is not there yet, or not any more
            self.turn(0.0)
            return
        self._asked = time.monotonic()
        self._answer.add_done_callback(self._steer)

    def _steer(self, answer: Future) -> None:
        self._answer = None
        try:
            (location,) = answer.result().values()
        except RequestRefusedError as error:
            print(f"the node refused {self.label!r}: {error}", file=sys.stderr)
            self.turn(0.0)
            self.result = REFUSED
            return
        if not location.in_view:
            self.turn(0.0)
            return
        x = location.things[0].center[0]
        self.turn(turning(x))
        if turning(x) == 0:
            print(f"facing {self.label}", flush=True)
            self.result = FACING

    def turn(self, speed: float) -> None:
        """Turn to the left at `speed` rad/s; 0 stops."""
        message = Twist()
        message.angular.z = speed
        self._publisher.publish(message)

    def stop(self) -> None:
        """Stop the robot, and wait until its base has the command."""
        self.turn(0.0)
        self._publisher.wait_for_all_acked(Duration(seconds=STOP_SECONDS))


def turning(x: float) -> float:
    """Return how fast to turn to the left, in rad/s, for a thing at x of the image's width, 0 to 1."""
    if abs(x - 0.5) <= CENTERED:
        return 0.0
    return max(-FASTEST, min(FASTEST, GAIN * (1 - 2 * x)))


def main() -> int:
    """Turn until the robot faces the thing, the request is refused, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("label", help="what to turn to, such as: red ball")
    parser.add_argument("--camera", default="", help="the camera's name in synseg/<camera>/masks; default: all cameras")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to try (%(default)s)")
    options = parser.parse_args(rclpy.utilities.remove_ros_args(sys.argv)[1:])
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # its own end ROS at once: nothing could be published
    turner = Turner(" ".join(options.label.split()), options.camera)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(turner, "interrupted", True))
    deadline = time.monotonic() + options.seconds
    try:
        while turner.result is None and not turner.interrupted and time.monotonic() < deadline:
            rclpy.spin_once(turner, timeout_sec=0.1)
    finally:
        turner.stop()
        rclpy.shutdown()
    return NOT_FACING if turner.result is None else turner.result


if __name__ == "__main__":
    sys.exit(main())
