"""The objects of one camera's frames: instances with ids that last, and where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from synseg_model.folding import case_key
from synseg_model.instances import (
    Instance,
    NoCloudError,
    Position,
    Tracker,
    find_instances,
    locate,
    make_cloud,
    matching_ids,
)
from synseg_ros.interfaces.frame_outputs import Segmented
from synseg_ros.space.depth_view import DepthView
from synseg_ros.space.object_statistics import ObjectStatistics
from synseg_ros.space.stamped_messages import NS, nanoseconds
from synseg_ros.space.transform_buffer import TransformError

NO_DEPTH = "no depth images of this camera are taken: set depth_topics"


class Surroundings(Protocol):
    """What says how far away things are, and where frames are to each other."""

    def view(self, header: Any, size: tuple[int, int]) -> DepthView | str:
        """Find the depth of a frame, or why there is none."""

    def lookup(self, target: str, source: str, stamp: int) -> np.ndarray:
        """Find the (4, 4) transform from one frame to another; raise TransformError where it is not known."""


class ObjectSettings(Protocol):
    """What can be chosen.

    Attributes:
        target_frame: The frame that positions are in; "" for the camera's optical frame.
        points_background: Whether the background has points, too.
    """

    target_frame: str
    points_background: bool


@dataclass(frozen=True)
class FoundObjects:
    """The objects of one frame.

    Attributes:
        header: Header of the frame.
        shape: (H, W) of the frame in pixels.
        instances: The objects, the largest first.
        ids: Per object its id, the same from frame to frame; from 1.
    """

    header: Any
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
        surroundings: The depth of this camera's frames; None without.

    Attributes:
        statistics: How many objects there were, and how many of them had a position.
    """

    def __init__(self, settings: Callable[[], ObjectSettings], surroundings: Surroundings | None) -> None:
        self._settings, self._surroundings = settings, surroundings
        self._tracker = Tracker()
        self._found: tuple[Segmented, FoundObjects] | None = None
        self._newest: FoundObjects | None = None  # without its image, which `forget` lets go of
        self.statistics = ObjectStatistics()

    def find(self, segmented: Segmented) -> FoundObjects:
        """Find the objects of a frame, and give them the ids that they had in the frames before.

        Args:
            segmented: The frame.
        """
        if self._found is None or self._found[0] is not segmented:
            result = segmented.result
            instances = find_instances(result.label_map, result.confidence, result.labels, result.ids)
            ids = self._tracker.update(instances, nanoseconds(segmented.header) / NS)
            self._newest = FoundObjects(segmented.header, result.shape, instances, ids)
            self._found = (segmented, self._newest)
        return self._found[1]

    def ids_of(self, segmented: Segmented | None, instances: Sequence[Instance]) -> tuple[int, ...]:
        """Find the ids that instances, however they were found, have among the objects of a frame.

        An instance is the object with its label whose mask it shares most pixels with, and more than half of the
        smaller of both. Two instances are never the same object.

        Args:
            segmented: The frame; None where it was not segmented for the outputs.
            instances: Instances of the frame, of any labels.

        Returns:
            Per instance the id of the object; 0 where it is none of them.
        """
        labels = {case_key(label) for label in segmented.result.labels} if segmented is not None else ()
        if not any(case_key(one.label) in labels for one in instances):
            return (0,) * len(instances)
        newest = self._newest
        found = newest if newest is not None and newest.header is segmented.header else self.find(segmented)
        return matching_ids(instances, found.instances, found.ids)

    def locate(self, segmented: Segmented) -> Positions:
        """Find where the objects of a frame are, in `target_frame`.

        Args:
            segmented: The frame.
        """
        found = self.find(segmented)
        positions = self.locate_instances(found.header, found.instances, found.shape)
        self.statistics.located(positions.each, positions.problem)
        return positions

    def locate_instances(self, header: Any, instances: Sequence[Instance], shape: tuple[int, int]) -> Positions:
        """Find where any instances of a frame are, in `target_frame`.

        Args:
            header: Header of the frame.
            instances: Instances of the frame.
            shape: (H, W) of the frame in pixels.
        """
        frame_id = self._target(header)
        view = self._view(header, shape)
        if isinstance(view, str):
            return Positions((view,) * len(instances), frame_id, view)
        try:
            matrix = self.to_target(header)
        except TransformError as error:
            return Positions((str(error),) * len(instances), frame_id, str(error))
        each = locate(instances, view.depth, view.intrinsics, shape)
        if matrix is not None:
            each = tuple(one.moved(matrix) if isinstance(one, Position) else one for one in each)
        return Positions(each, frame_id)

    def to_target(self, header: Any) -> np.ndarray | None:
        """Find the (4, 4) transform from a frame's optical frame to `target_frame`; None where they are the same.

        Args:
            header: Header of the frame.

        Raises:
            TransformError: It is not known; the text says why.
        """
        frame_id = self._target(header)
        if frame_id == header.frame_id:
            return None
        return self._surroundings.lookup(frame_id, header.frame_id, nanoseconds(header))

    def points(self, segmented: Segmented) -> np.ndarray | str:
        """Make the labelled points of a frame, in the camera's optical frame.

        Args:
            segmented: The frame.

        Returns:
            (N,) `synseg_model.instances.POINT`, or why there are none.
        """
        found, result = self.find(segmented), segmented.result
        view = self._view(found.header, found.shape)
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
        """Let go of the newest frame, whose outputs are made."""
        self._found = None

    def _view(self, header: Any, size: tuple[int, int]) -> DepthView | str:
        return self._surroundings.view(header, size) if self._surroundings else NO_DEPTH

    def _target(self, header: Any) -> str:
        return self._settings().target_frame or header.frame_id
