"""The objects of one camera's frames: instances with ids that last, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from std_msgs.msg import Header

from synseg_model.instances import (
    Instance,
    NoCloudError,
    Position,
    Tracker,
    find_instances,
    locate,
    make_cloud,
)
from synseg_ros.node.depth_input import DepthInput
from synseg_ros.node.frames import Frame, SegmentedFrame
from synseg_ros.node.object_statistics import ObjectStatistics
from synseg_ros.node.stamped_messages import NS, nanoseconds
from synseg_ros.node.transform_buffer import TransformError
from synseg_ros.node.transform_source import TransformSource
from synseg_ros.parameters.tables import NodeSettings

NO_DEPTH = "the node takes no depth images of this camera: set depth_topics"


@dataclass(frozen=True)
class FoundObjects:
    """The objects of one frame.

    Attributes:
        header: Header of the frame.
        shape: (H, W) of the frame in pixels.
        instances: The objects, the largest first.
        ids: Per object its id, the same from frame to frame; from 1.
    """

    header: Header
    shape: tuple[int, int]
    instances: tuple[Instance, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Positions:
    """Where the objects of one frame are.

    Attributes:
        each: Per object its position, or why it is not known.
        frame_id: The frame that positions are in.
        problem: Why no object can have a position, "" where they can.
    """

    each: tuple[Position | str, ...]
    frame_id: str
    problem: str = ""


class ObjectFinder:
    """Find the objects of one camera's frames. All methods are called on the worker's thread.

    What is found is kept for the newest frame, so that several outputs share it.

    Args:
        settings: Returns the settings in force.
        depth: The camera's depth; None without.
        transforms: Where the way to target_frame comes from.

    Attributes:
        statistics: How many objects there were, and how many of them had a position.
    """

    def __init__(
        self, settings: Callable[[], NodeSettings], depth: DepthInput | None, transforms: TransformSource
    ) -> None:
        self._settings, self._depth, self._transforms = settings, depth, transforms
        self._tracker = Tracker()
        self._found: tuple[SegmentedFrame, FoundObjects] | None = None
        self.statistics = ObjectStatistics()

    def find(self, segmented: SegmentedFrame) -> FoundObjects:
        """Find the objects of a frame, and give them the ids that they had in the frames before.

        Args:
            segmented: The frame.
        """
        if self._found is None or self._found[0] is not segmented:
            result = segmented.result
            instances = find_instances(result.label_map, result.confidence, result.labels, result.ids)
            ids = self._tracker.update(instances, nanoseconds(segmented.header) / NS)
            self._found = (segmented, FoundObjects(segmented.header, result.shape, instances, ids))
        return self._found[1]

    def locate(self, segmented: SegmentedFrame) -> Positions:
        """Find where the objects of a frame are, in `target_frame`.

        Args:
            segmented: The frame.
        """
        found = self.find(segmented)
        positions = self.locate_instances(found.header, found.instances, found.shape, self._settings().target_frame)
        self.statistics.located(positions.each, positions.problem)
        return positions

    def locate_instances(
        self, header: Header, instances: Sequence[Instance], shape: tuple[int, int], target_frame: str = ""
    ) -> Positions:
        """Find where any instances of a frame are.

        Args:
            header: Header of the frame.
            instances: Instances of the frame.
            shape: (H, W) of the frame in pixels.
            target_frame: The frame that positions are wanted in; "" for the camera's optical frame.
        """
        frame_id = target_frame or header.frame_id
        view = self._depth.view(header, shape) if self._depth else NO_DEPTH
        if isinstance(view, str):
            return Positions((view,) * len(instances), frame_id, view)
        try:
            matrix = self._to(frame_id, header)
        except TransformError as error:
            return Positions((str(error),) * len(instances), frame_id, str(error))
        each = locate(instances, view.depth, view.intrinsics, shape)
        if matrix is not None:
            each = tuple(one.moved(matrix) if isinstance(one, Position) else one for one in each)
        return Positions(each, frame_id)

    def positions_of(
        self, frame: Frame, instances: Sequence[Instance], shape: tuple[int, int]
    ) -> tuple[Position | str, ...]:
        """Find where any instances of a frame are, in the frame's own frame_id.

        Args:
            frame: The frame.
            instances: Instances of the frame.
            shape: (H, W) of the frame in pixels.

        Returns:
            Per instance its position, or why it is not known.
        """
        return self.locate_instances(frame.header, instances, shape).each

    def points(self, segmented: SegmentedFrame) -> np.ndarray | str:
        """Make the labelled points of a frame, in the camera's optical frame.

        Args:
            segmented: The frame.

        Returns:
            (N,) `synseg_model.instances.POINT`, or why there are none.
        """
        found, result = self.find(segmented), segmented.result
        view = self._depth.view(found.header, found.shape) if self._depth else NO_DEPTH
        if isinstance(view, str):
            self.statistics.failed(view)
            return view
        try:
            return make_cloud(
                view.depth,
                view.intrinsics,
                segmented.image,
                result.label_map,
                found.instances,
                found.ids,
                background=self._settings().points_background,
            )
        except NoCloudError as error:
            self.statistics.failed(str(error))
            return str(error)

    def forget(self) -> None:
        """Let go of the newest frame, whose outputs are published."""
        self._found = None
        if self._depth:
            self._depth.forget_failure()

    def _to(self, frame_id: str, header: Header) -> np.ndarray | None:
        """Return the transform from a frame's optical frame to another; None for the same."""
        if frame_id == header.frame_id:
            return None
        wait = self._settings().position_wait
        return self._transforms.lookup(frame_id, header.frame_id, nanoseconds(header), wait)
