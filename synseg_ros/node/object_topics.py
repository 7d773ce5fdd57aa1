"""The outputs about objects: detections in the image, objects in space, and labelled points."""

from __future__ import annotations

from typing import Any

from std_msgs.msg import Header

from synseg_ros.interfaces.frame_outputs import FrameOutput
from synseg_ros.interfaces.object_messages import DETECTIONS, OBJECTS, POINTS
from synseg_ros.node.frames import SegmentedFrame
from synseg_ros.node.object_finder import ObjectFinder
from synseg_ros.ros_messages import OBJECT_MAKER


def object_outputs(finder: ObjectFinder) -> tuple[FrameOutput, ...]:
    """List the outputs about objects of one camera.

    Without a position for any object, `objects` and `points` have no message for a frame: an empty one would say that
    nothing is there.

    Args:
        finder: Finds the objects of the camera's frames.
    """

    def detections(_: Any, segmented: SegmentedFrame) -> Any:
        found = finder.find(segmented)
        return OBJECT_MAKER.detections(found.instances, found.ids, segmented.header)

    def objects(_: Any, segmented: SegmentedFrame) -> Any | None:
        found, positions = finder.find(segmented), finder.locate(segmented)
        if positions.problem:
            return None
        header = Header(stamp=segmented.header.stamp, frame_id=positions.frame_id)
        return OBJECT_MAKER.objects(found.instances, found.ids, positions.each, header)

    def points(_: Any, segmented: SegmentedFrame) -> Any | None:
        found = finder.points(segmented)
        return None if isinstance(found, str) else OBJECT_MAKER.points(found, segmented.header)

    return (
        FrameOutput("detections", DETECTIONS, detections),
        FrameOutput("objects", OBJECTS, objects),
        FrameOutput("points", POINTS, points),
    )
