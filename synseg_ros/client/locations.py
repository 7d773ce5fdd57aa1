"""What the node says of where things are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from std_msgs.msg import Header

from synseg_ros.interfaces.mask_encodings import mask_in_frame
from synseg_ros.msg import Instance, Located


@dataclass(frozen=True)
class Thing:
    """One object in one image.

    Attributes:
        label: Its label.
        camera: Name of the camera.
        header: Header of the image.
        size: (H, W) of the image in pixels.
        score: Mean activation inside its mask, 0 to 1.
        box: x, y, width, height in pixels, the smallest around its mask.
        center: x, y of the middle of its box, as shares of the image's width and height, 0 to 1.
        position: x, y, z in metres in the frame `frame_id`; None where that is not known.
        frame_id: Frame of the position.
        reason: Why the position is not known; "" where it is.
        track_id: Its id from frame to frame, as in `detections`; None where it is not followed.
        message: The message, with all that is not here.
    """

    label: str
    camera: str
    header: Header
    size: tuple[int, int]
    score: float
    box: tuple[int, int, int, int]
    center: tuple[float, float]
    position: tuple[float, float, float] | None
    frame_id: str
    reason: str
    track_id: int | None
    message: Instance

    @classmethod
    def from_message(cls, message: Instance) -> Thing:
        """Read a message."""
        roi, point = message.roi, message.position
        x, y, width, height = roi.x_offset, roi.y_offset, roi.width, roi.height
        return cls(
            message.label,
            message.camera,
            message.header,
            (message.height, message.width),
            message.score,
            (x, y, width, height),
            ((x + width / 2) / message.width, (y + height / 2) / message.height),
            (point.x, point.y, point.z) if message.has_position else None,
            message.position_frame_id,
            message.position_reason,
            message.track_id or None,
            message,
        )

    @property
    def mask(self) -> np.ndarray:
        """Its mask in the image, (H, W) bool, however the node encodes masks."""
        return mask_in_frame(self.message, self.size)


@dataclass(frozen=True)
class Location:
    """What was found of a label.

    Attributes:
        label: The label.
        in_view: Whether an instance was found.
        presence: How sure the model is that the label is in view at all: its largest activation, 0 to 1.
        camera: The camera of that.
        things: What was found, by camera, the largest first; empty where the label is not in view.
    """

    label: str
    in_view: bool
    presence: float
    camera: str
    things: tuple[Thing, ...]

    @classmethod
    def from_message(cls, message: Located) -> Location:
        """Read a message."""
        things = tuple(map(Thing.from_message, message.instances))
        return cls(message.label, message.in_view, message.presence, message.camera, things)
