"""Find a thing: ask the node where it is, and print where in the image, and in metres where the node knows that.

    python examples/find_object.py "red ball" --camera front

Exit status: 0 the thing was found; 1 it was not seen in time; 2 the node refused the request, or there is no node.
"""

from __future__ import annotations

import argparse
import sys
import time

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from synseg_ros.client import Location, RequestRefusedError, SynSegClient, Thing

FOUND, NOT_SEEN, REFUSED = 0, 1, 2
LONGEST_LOOK = 60.0  # seconds of one request


def find(client: SynSegClient, label: str, camera: str, seconds: float) -> Location:
    """Look for a label, in one request after the other, until it is in view or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        left = max(0.0, deadline - time.monotonic())
        location = client.locate(label, camera, min(left, LONGEST_LOOK))
        if location.in_view or time.monotonic() >= deadline:
            return location


def describe(thing: Thing) -> str:
    """Say where a thing is."""
    x, y = thing.center
    share = thing.message.area / (thing.size[0] * thing.size[1])
    lines = [
        f"{thing.label}: {direction(x, y)}, at {100 * x:.0f} % of the width and {100 * y:.0f} % of the height,",
        f"{100 * share:.1f} % of the image of {thing.camera}, score {thing.score:.2f}",
    ]
    if thing.position:
        x, y, z = thing.position
        lines.append(f"at x {x:.2f}, y {y:.2f}, z {z:.2f} m in the frame {thing.frame_id}")
    else:
        lines.append(f"its distance is not known: {thing.reason}")
    return "\n".join(lines)


def direction(x: float, y: float) -> str:
    """Name the third of the image that holds a point. x goes right and y goes down, both in [0, 1]."""
    across = ("left", "centre", "right")[min(2, int(3 * x))]
    down = ("above", "", "below")[min(2, int(3 * y))]
    return f"{across}, {down}" if down else across


def main() -> int:
    """Search until the thing is found, the request is refused, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("label", help="what to look for, such as: red ball")
    parser.add_argument("--camera", default="", help="the camera's name in synseg/<camera>/masks; default: all cameras")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to look (%(default)s)")
    options = parser.parse_args(rclpy.utilities.remove_ros_args(sys.argv)[1:])
    label = " ".join(options.label.split())
    rclpy.init()
    try:
        location = find(SynSegClient(Node("find_object")), label, options.camera, options.seconds)
    except (RequestRefusedError, TimeoutError) as error:
        print(f"the node refused {label!r}: {error}", file=sys.stderr)
        return REFUSED
    except (KeyboardInterrupt, ExternalShutdownException):
        return NOT_SEEN
    finally:
        rclpy.try_shutdown()
    if not location.in_view:
        close = f"the best score is {location.presence:.2f}"
        print(f"{label}: not seen within {options.seconds:.0f} s; {close}", file=sys.stderr)
        return NOT_SEEN
    print("\n".join(map(describe, location.things)))
    return FOUND


if __name__ == "__main__":
    sys.exit(main())
