"""Objects as vision_msgs and points as PointCloud2, with any library's classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from synseg_model.instances import POINT, Instance, Position

# sensor_msgs/PointField's numbers for the types of POINT.
_UINT32, _FLOAT32 = 6, 7
DETECTIONS, OBJECTS = "vision_msgs/msg/Detection2DArray", "vision_msgs/msg/Detection3DArray"
POINTS = "sensor_msgs/msg/PointCloud2"


class ObjectMessageMaker:
    """Make messages of objects.

    Headers are of the library's own classes and are passed on as they are.

    Args:
        type_of: Returns the class of a type such as "vision_msgs/msg/Detection2D"; it is called with all of its fields
            as keywords.
        sequence: Turns an array (N) of uint8 into what those classes hold in such fields.
    """

    def __init__(self, type_of: Callable[[str], type], sequence: Callable[[np.ndarray], Any]) -> None:
        self._type_of, self._sequence = type_of, sequence
        self._besides: dict[str, tuple[type, list[tuple[str, Any]]]] = {}
        self._known: dict[tuple[str, tuple[str, ...]], tuple[type, ...]] = {}

    def header(self, stamp: Any, frame_id: str) -> Any:
        """Make a Header.

        Args:
            stamp: Its stamp, of the library's own class.
            frame_id: Its frame.
        """
        return self._type_of("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)

    def detections(self, instances: Sequence[Instance], ids: Sequence[int], header: Any) -> Any:
        """Make the Detection2DArray of one frame.

        Args:
            instances: The objects.
            ids: Per object its id.
            header: Header of the frame.
        """
        (point,) = self._all("vision_msgs", "Point2D")
        nowhere = self._pose_with_covariance((0.0, 0.0, 0.0), 0.0)
        detections = []
        for instance, number in zip(instances, ids, strict=True):
            x, y, width, height = instance.box
            middle = point(x=x + width / 2, y=y + height / 2)
            center = self._new("vision_msgs/msg/Pose2D", position=middle, theta=0.0)
            box = self._new("vision_msgs/msg/BoundingBox2D", center=center, size_x=float(width), size_y=float(height))
            results = [self._result(instance, nowhere)]
            detections.append(
                self._new("vision_msgs/msg/Detection2D", header=header, results=results, bbox=box, id=str(number))
            )
        return self._type_of(DETECTIONS)(header=header, detections=detections)

    def objects(
        self, instances: Sequence[Instance], ids: Sequence[int], positions: Sequence[Position | str], header: Any
    ) -> Any:
        """Make the Detection3DArray of one frame; objects without a position are left out.

        Args:
            instances: The objects.
            ids: Per object its id.
            positions: Per object its position in the header's frame, or a text where it has none.
            header: Header with the frame's stamp and the positions' frame_id.
        """
        (vector,) = self._all("geometry_msgs", "Vector3")
        detections = []
        for instance, number, position in zip(instances, ids, positions, strict=True):
            if isinstance(position, str):
                continue
            x, y, z = position.box_size
            pose = self._pose_with_covariance(position.point, position.spread**2)
            center, size = self._pose(position.box_center), vector(x=x, y=y, z=z)
            box = self._new("vision_msgs/msg/BoundingBox3D", center=center, size=size)
            results = [self._result(instance, pose)]
            detections.append(
                self._new("vision_msgs/msg/Detection3D", header=header, results=results, bbox=box, id=str(number))
            )
        return self._type_of(OBJECTS)(header=header, detections=detections)

    def points(self, points: np.ndarray, header: Any) -> Any:
        """Make the PointCloud2 of one frame.

        Args:
            points: (N,) `synseg_model.instances.POINT`.
            header: Header of the frame.
        """
        field = self._type_of("sensor_msgs/msg/PointField")
        fields = [
            # Readers of clouds know rgb as a float32 that holds the bytes of the color.
            field(name=name, offset=offset, datatype=_FLOAT32 if name in ("x", "y", "z", "rgb") else _UINT32, count=1)
            for name, (_, offset) in POINT.fields.items()
        ]
        return self._type_of(POINTS)(
            header=header,
            height=1,
            width=len(points),
            fields=fields,
            is_bigendian=False,
            point_step=POINT.itemsize,
            row_step=POINT.itemsize * len(points),
            data=self._sequence(points.view(np.uint8)),
            is_dense=True,
        )

    def _result(self, instance: Instance, pose: Any) -> Any:
        (hypothesis,) = self._all("vision_msgs", "ObjectHypothesis")
        named = hypothesis(class_id=instance.label, score=instance.score)
        return self._new("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=named, pose=pose)

    def _pose_with_covariance(self, point: Sequence[float], variance: float) -> Any:
        covariance = np.zeros(36)
        covariance[0:15:7] = variance  # of x, y and z
        return self._new("geometry_msgs/msg/PoseWithCovariance", pose=self._pose(point), covariance=covariance)

    def _pose(self, point: Sequence[float]) -> Any:
        position, orientation = self._all("geometry_msgs", "Point", "Quaternion")
        x, y, z = point
        level = orientation(x=0.0, y=0.0, z=0.0, w=1.0)
        return self._new("geometry_msgs/msg/Pose", position=position(x=x, y=y, z=z), orientation=level)

    def _new(self, name: str, **fields: Any) -> Any:
        """Make a message of messages; all fields are given.

        Only the first one comes from its constructor. rclpy's make a default of every field, given or not, which takes
        longer than all else; what they set besides the fields is copied from the first one.
        """
        if name not in self._besides:
            kind = self._type_of(name)
            state = kind(**fields).__reduce_ex__(2)[2]  # as copy.copy takes it: a dict, or one and the slots
            held = state[1] if isinstance(state, tuple) else state
            self._besides[name] = kind, [one for one in held.items() if one[0].removeprefix("_") not in fields]
        kind, besides = self._besides[name]
        message = kind.__new__(kind)
        for field, value in besides:
            setattr(message, field, value)
        for field, value in fields.items():
            setattr(message, field, value)
        return message

    def _all(self, package: str, *names: str) -> tuple[type, ...]:
        """Return classes of one package."""
        key = (package, names)
        if key not in self._known:
            self._known[key] = tuple(self._type_of(f"{package}/msg/{name}") for name in names)
        return self._known[key]
