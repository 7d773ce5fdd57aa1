"""Single objects in what was segmented: instances, their ids from frame to frame, and where they are in metres.

    from synseg_model.instances import Intrinsics, Tracker, depth_in_metres, find_instances, locate
    instances = find_instances(result.label_map, result.confidence, result.labels, result.ids)
    ids = tracker.update(instances, stamp)                              # one Tracker per camera
    positions = locate(instances, depth_in_metres(pixels), intrinsics, image.shape[:2])

Functions of arrays and two small classes: nothing here knows of ROS or torch. Each name is imported where it is first
used; the tracker and the components need scipy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synseg_model.instances.cloud import POINT, NoCloudError, make_cloud
    from synseg_model.instances.depth import Intrinsics, depth_in_metres, disparity_in_metres, register
    from synseg_model.instances.find import FindSettings, Instance, find_in_masks, find_instances
    from synseg_model.instances.lens import Lens
    from synseg_model.instances.match import matching_ids
    from synseg_model.instances.positions import Position, locate
    from synseg_model.instances.track import Tracker, TrackSettings
    from synseg_model.instances.transforms import move_box, move_points, transform_matrix

_HOMES = {
    "POINT": "cloud",
    "FindSettings": "find",
    "Instance": "find",
    "Intrinsics": "depth",
    "Lens": "lens",
    "NoCloudError": "cloud",
    "Position": "positions",
    "TrackSettings": "track",
    "Tracker": "track",
    "depth_in_metres": "depth",
    "disparity_in_metres": "depth",
    "find_in_masks": "find",
    "find_instances": "find",
    "locate": "positions",
    "make_cloud": "cloud",
    "matching_ids": "match",
    "move_box": "transforms",
    "move_points": "transforms",
    "register": "depth",
    "transform_matrix": "transforms",
}
__all__ = [
    "POINT",
    "FindSettings",
    "Instance",
    "Intrinsics",
    "Lens",
    "NoCloudError",
    "Position",
    "TrackSettings",
    "Tracker",
    "depth_in_metres",
    "disparity_in_metres",
    "find_in_masks",
    "find_instances",
    "locate",
    "make_cloud",
    "matching_ids",
    "move_box",
    "move_points",
    "register",
    "transform_matrix",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
