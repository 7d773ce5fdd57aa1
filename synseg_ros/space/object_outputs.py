"""The outputs about objects: detections in the image, objects in space, and labelled points."""

from __future__ import annotations

from typing import Any

from synseg_ros.interfaces.frame_outputs import FrameOutput, Segmented
from synseg_ros.interfaces.object_messages import DETECTIONS, OBJECTS, POINTS, ObjectMessageMaker
from synseg_ros.space.object_finder import ObjectFinder

OBJECT_OUTPUTS = {"detections": DETECTIONS, "objects": OBJECTS, "points": POINTS}  # types by name


def object_outputs(finder: ObjectFinder, maker: ObjectMessageMaker) -> tuple[FrameOutput, ...]:
    """List the outputs about objects of one camera.

    Without a position for any object, `objects` and `points` have no message for a frame: an empty one would say that
    nothing is there.

    Args:
        finder: Finds the objects of the camera's frames.
        maker: Makes the messages.
    """

    def detections(_: Any, segmented: Segmented) -> Any:
        found = finder.find(segmented)
        return maker.detections(found.instances, found.ids, segmented.header)

    def objects(_: Any, segmented: Segmented) -> Any | None:
        found, positions = finder.find(segmented), finder.locate(segmented)
        if positions.problem:
            return None
        header = maker.header(segmented.header.stamp, positions.frame_id)
        return maker.objects(found.instances, found.ids, positions.each, header)

    def points(_: Any, segmented: Segmented) -> Any | None:
        found = finder.points(segmented)
        return None if isinstance(found, str) else maker.points(found, segmented.header)

    return (
        FrameOutput("detections", DETECTIONS, detections),
        FrameOutput("objects", OBJECTS, objects),
        FrameOutput("points", POINTS, points),
    )
