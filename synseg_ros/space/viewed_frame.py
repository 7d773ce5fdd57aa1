"""A segmented frame as a viewer shows it: with its objects, and where they are."""

from __future__ import annotations

import numpy as np

from synseg_model.instances import Instance, move_points
from synseg_model.viewer.frame import Space, ViewedFrame
from synseg_ros.interfaces.frame_outputs import Segmented
from synseg_ros.space.object_finder import ObjectFinder
from synseg_ros.space.stamped_messages import nanoseconds
from synseg_ros.space.transform_buffer import TransformError


def view_frame(camera: str, number: int, segmented: Segmented, finder: ObjectFinder) -> ViewedFrame:
    """Make what a viewer shows of a frame.

    Args:
        camera: Name of the camera.
        number: Number of the frame among those of its camera.
        segmented: The frame.
        finder: Finds the objects of this camera's frames. Nobody else uses it, as it counts what it finds.

    Returns:
        The frame. It has a space where depth and transforms say where things are.
    """
    instances = finder.find(segmented).instances
    try:
        space = _space(segmented, finder, instances)
    finally:
        finder.forget()
    stamp = nanoseconds(segmented.header) or None
    return ViewedFrame(camera, number, segmented.image, segmented.result, instances, stamp=stamp, space=space)


def _space(segmented: Segmented, finder: ObjectFinder, instances: tuple[Instance, ...]) -> Space | None:
    header = segmented.header
    positions = finder.locate_instances(header, instances, segmented.result.shape)
    points = finder.points(segmented) if not positions.problem else positions.problem
    if isinstance(points, str):
        return None
    try:
        matrix = finder.to_target(header)
    except TransformError:  # it was known a moment ago
        return None
    if matrix is not None:
        moved = move_points(matrix, np.stack([points[name] for name in "xyz"], axis=1))
        for name, column in zip("xyz", moved.T, strict=True):
            points[name] = column
    return Space(positions.frame_id, matrix is None, positions.each, points)
