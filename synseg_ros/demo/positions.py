"""Compare the objects that the node finds in space with where the scene's things really are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Header

from synseg_ros.interfaces.object_messages import OBJECTS
from synseg_ros.interfaces.optional_types import optional_type
from synseg_ros.qos import EVERY_MESSAGE

WAITING_FRAMES = 100  # what belongs to frames that the node skipped is forgotten after so many newer ones


class PositionErrors:
    """Measure how far objects are from the nearest thing that their label names.

    Nothing is measured without vision_msgs, and where the truth is not known.

    Args:
        node: The node that subscribes.
        objects: Topic of the objects.
        truth: Topic of the things.
        add: Gets the stamp of a frame in nanoseconds, and the errors of its objects in metres.
    """

    def __init__(self, node: Node, objects: str, truth: str, add: Callable[[int, list[float]], None]) -> None:
        self._add = add
        self._waiting: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
        kind = optional_type(OBJECTS)
        if kind is not None:
            for side, topic in enumerate((objects, truth)):
                node.create_subscription(
                    kind, topic, lambda message, side=side: self._take(side, message), EVERY_MESSAGE
                )

    def _take(self, side: int, message: Any) -> None:
        stamp, own, other = _stamp(message.header), self._waiting[side], self._waiting[1 - side]
        own[stamp] = message
        if stamp in other:
            found, truth = (waiting.pop(stamp) for waiting in self._waiting)
            self._add(stamp, position_errors(found, truth))
        elif len(own) > WAITING_FRAMES:
            del own[next(iter(own))]


def position_errors(found: Any, truth: Any) -> list[float]:
    """Return the distance of each object to the nearest thing that its label names, in metres.

    Args:
        found: The objects, a Detection3DArray in the camera's frame.
        truth: The things, a Detection3DArray in the camera's frame; their labels are as "red ball".

    Returns:
        One distance per object whose label names a thing.
    """
    things = [(set(_labels(one)), _place(one)) for one in truth.detections]
    errors = []
    for one in found.detections:
        label = one.results[0].hypothesis.class_id.lower()
        distances = [float(np.linalg.norm(_place(one) - place)) for names, place in things if label in names]
        errors += [min(distances)] if distances else []
    return errors


def _labels(thing: Any) -> tuple[str, ...]:
    """Return what a thing may be called: "ball" and "red ball"."""
    name = thing.results[0].hypothesis.class_id.lower()
    return name, name.partition(" ")[2] or name


def _place(one: Any) -> np.ndarray:
    position = one.results[0].pose.pose.position
    return np.array((position.x, position.y, position.z))


def _stamp(header: Header) -> int:
    return header.stamp.sec * 10**9 + header.stamp.nanosec
