"""Find a thing: publish its label, wait for its mask, print where in the image it is.

    python examples/find_object.py "red ball" --camera front

Exit status: 0 the thing was found; 1 it was not seen in time; 2 the node refused the label.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from synseg_ros.client import FrameMasks, MaskClient

FOUND, NOT_SEEN, REFUSED = 0, 1, 2


class Finder(Node):
    """Look for one label. `result` is None during the search, then the exit status."""

    def __init__(self, label: str, camera: str) -> None:
        super().__init__("find_object")
        self.label, self.result = label, None
        self._client = MaskClient(self, camera, self._look, self._give_up)
        self._client.ask([label])

    def _look(self, frame: FrameMasks) -> None:
        if self.label not in frame.present or self.result is not None:
            return
        rows, columns = np.nonzero(frame.masks[self.label])
        height, width = frame.masks[self.label].shape
        x, y = float(columns.mean()) / width, float(rows.mean()) / height
        score = frame.scores[self.label]
        print(f"{self.label}: {direction(x, y)}, at {100 * x:.0f} % of the width and {100 * y:.0f} % of the height,")
        print(f"{100 * len(rows) / (height * width):.1f} % of the image, score {score:.2f}", flush=True)
        self.result = FOUND

    def _give_up(self, reason: str) -> None:
        print(f"the node refused {self.label!r}: {reason}", file=sys.stderr)
        self.result = REFUSED


def direction(x: float, y: float) -> str:
    """Name the third of the image that holds a point. x goes right and y goes down, both in [0, 1]."""
    across = ("left", "centre", "right")[min(2, int(3 * x))]
    down = ("above", "", "below")[min(2, int(3 * y))]
    return f"{across}, {down}" if down else across


def main() -> int:
    """Search until the thing is found, the label is refused, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("label", help="what to look for, such as: red ball")
    parser.add_argument("--camera", default="camera", help="the camera's name in synseg/<camera>/masks (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to look (%(default)s)")
    options = parser.parse_args(rclpy.utilities.remove_ros_args(sys.argv)[1:])
    rclpy.init()
    finder = Finder(" ".join(options.label.split()), options.camera)
    deadline = time.monotonic() + options.seconds
    try:
        while finder.result is None and time.monotonic() < deadline:
            rclpy.spin_once(finder, timeout_sec=0.1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    if finder.result is None:
        print(f"{finder.label}: not seen within {options.seconds:.0f} s", file=sys.stderr)
    return NOT_SEEN if finder.result is None else finder.result


if __name__ == "__main__":
    sys.exit(main())
