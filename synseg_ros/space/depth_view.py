"""The depth of one frame, as its camera sees it, from messages about depth and cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from synseg_model.instances import Intrinsics, register
from synseg_model.instances.positions import depth_problem
from synseg_ros.interfaces.depth_images import depth_of, intrinsics_of, is_rectified
from synseg_ros.interfaces.image_encodings import FrameError
from synseg_ros.space.stamped_messages import StampedMessages, nanoseconds
from synseg_ros.space.transform_buffer import TransformError

MOST_DEPTH_IMAGES = 45  # 1.5 s at 30 Hz, so that a frame still finds its own after a slow engine
MOST_DEPTH_BYTES = 64_000_000  # of them; half a second of 1280x720 in 32FC1
SAME_CAMERA = 0.01  # relative difference of focal lengths up to which two cameras of one frame show the same view
SAME_CENTER = 0.01  # the same for principal points, as a share of the image's width

# Target frame, source frame and time in nanoseconds to the (4, 4) transform; raises TransformError.
Lookup = Callable[[str, str, int], np.ndarray]


@dataclass(frozen=True)
class DepthTopics:
    """The topics that one camera's positions come from.

    Attributes:
        depth: Topic of the depth images.
        info: Topic of the camera's camera_info.
        depth_info: Topic of the depth camera's camera_info.
        image: Topic of the camera's images, whose name says whether they are rectified.
    """

    depth: str
    info: str
    depth_info: str
    image: str = ""


@dataclass(frozen=True)
class DepthView:
    """The depth of one frame, as its camera sees it.

    Attributes:
        depth: (h, w) float32 in metres, NaN where there is none; of the whole frame, at any resolution.
        intrinsics: The camera's.
    """

    depth: np.ndarray
    intrinsics: Intrinsics


class DepthMessages:
    """Keep the newest messages about depth of one camera, and find what belongs to a frame.

    Args:
        topics: The messages' topics.

    Attributes:
        images: The depth images.
        infos: The camera's camera_info.
        depth_infos: The depth camera's, where it has another topic.
    """

    def __init__(self, topics: DepthTopics) -> None:
        self.topics = topics
        self.images = StampedMessages("depth image", MOST_DEPTH_IMAGES, _bytes_of, MOST_DEPTH_BYTES)
        self.infos = StampedMessages("camera_info", 1)
        self.depth_infos = StampedMessages("camera_info of the depth camera", 1)

    def clear(self) -> None:
        """Forget all messages."""
        for messages in (self.images, self.infos, self.depth_infos):
            messages.clear()

    def view(
        self, header: Any, size: tuple[int, int], tolerance: float, lookup: Lookup, wait: float = 0.0
    ) -> DepthView | str:
        """Find the depth of a frame.

        Args:
            header: Header of the frame.
            size: (H, W) of the frame in pixels.
            tolerance: Seconds that may lie between the stamps of the frame and of its depth image.
            lookup: Finds the transform between the two cameras.
            wait: Seconds to wait for a depth image that is late.

        Returns:
            The depth, or why there is none.
        """
        try:
            return self._find(header, size, tolerance, lookup, wait)
        except (FrameError, TransformError, ValueError) as error:
            return str(error)

    def _find(
        self, header: Any, size: tuple[int, int], tolerance: float, lookup: Lookup, wait: float
    ) -> DepthView | str:
        stamp, topics = nanoseconds(header), self.topics
        if not stamp:
            return "the image has no stamp, so that no depth image can belong to it"
        message = self.images.nearest(stamp, tolerance, wait)
        if isinstance(message, str):
            return f"{message} on {topics.depth}"
        info = self.infos.newest()
        if info is None:
            return f"no camera_info has arrived on {topics.info}"
        if info.header.frame_id and info.header.frame_id != header.frame_id:
            return (
                f"the camera_info on {topics.info} is of the frame {info.header.frame_id!r}, and the image of "
                f"{header.frame_id!r}: set camera_info_topics"
            )
        camera = intrinsics_of(info, is_rectified(topics.image))
        if camera.problem:
            return f"{topics.info}: {camera.problem}"
        depth, depth_frame = depth_of(message), message.header.frame_id or header.frame_id
        depth_info = info if topics.depth_info == topics.info else self.depth_infos.newest()
        depth_camera = None if depth_info is None else intrinsics_of(depth_info, is_rectified(topics.depth))
        if depth_frame == header.frame_id and (depth_camera is None or _same_view(depth_camera, camera)):
            return depth_problem(depth, camera, size) or DepthView(depth, camera)
        if depth_camera is None:
            return f"no camera_info of the depth camera has arrived on {topics.depth_info}"
        # The two cameras are on one robot: where they are to each other hardly changes between their stamps.
        matrix = lookup(header.frame_id, depth_frame, nanoseconds(message.header))
        height, width = size
        return DepthView(register(depth, depth_camera, camera.scaled(width, height), matrix), camera)


def _bytes_of(message: Any) -> int:
    """Return the bytes of a depth image; a disparity image has its pixels in another image."""
    return len(getattr(message, "image", message).data)


def _same_view(one: Intrinsics, other: Intrinsics) -> bool:
    """Tell whether two cameras in one place see the same, at whatever resolutions."""
    if one.problem or other.problem:
        return True  # whatever is wrong is said where the camera is used
    one = one.scaled(other.width, other.height)
    return (
        one.lens == other.lens
        and abs(one.fx / other.fx - 1) <= SAME_CAMERA
        and abs(one.fy / other.fy - 1) <= SAME_CAMERA
        and max(abs(one.cx - other.cx), abs(one.cy - other.cy)) <= SAME_CENTER * other.width
    )
