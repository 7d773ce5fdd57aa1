"""What services answer, as messages."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Vector3
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from synseg_model.instances import Instance, Position
from synseg_model.result import Result
from synseg_ros.interfaces.message_maker import MessageMaker
from synseg_ros.msg import Instance as InstanceMessage
from synseg_ros.msg import Located
from synseg_ros.node.looks import Look, Sighting
from synseg_ros.ros_messages import MAKER, sequence
from synseg_ros.srv import Locate, Segment


def locate_response(look: Look, mask_encoding: str) -> Locate.Response:
    """Say what a look found of each label."""
    maker = MAKER.with_masks(mask_encoding)
    looked_at = look.looked_at
    if look.error:
        return Locate.Response(success=False, message=look.error)
    missing = sorted(look.cameras - looked_at.keys())
    message = f"no frame came from {', '.join(missing)} in time" if missing else ""
    if not looked_at:
        return Locate.Response(success=False, message=message)
    return Locate.Response(
        success=True,
        message=message,
        results=[_located(look, index, maker) for index in range(len(look.vocabulary))],
        cameras=sorted(looked_at),
        headers=[looked_at[camera] for camera in sorted(looked_at)],
    )


def segment_response(result: Result, header: Header, mask_encoding: str) -> Segment.Response:
    """Say what was found in an image."""
    return Segment.Response(
        success=True,
        masks=MAKER.with_masks(mask_encoding).class_masks(result, header, 0),
        label_map=MAKER.label_map(result, header),
        presence=sequence(result.presence),
    )


def instance_message(
    instance: Instance,
    position: Position | str,
    frame_id: str,
    camera: str,
    header: Header,
    shape: tuple[int, int],
    maker: MessageMaker,
    track_id: int = 0,
) -> InstanceMessage:
    """Make the message of one instance.

    Args:
        instance: The instance.
        position: Where it is, in metres, or why that is not known.
        frame_id: The frame that the position is in.
        camera: Name of the camera.
        header: Header of the frame.
        shape: (H, W) of the frame in pixels.
        maker: Encodes the mask.
        track_id: Its id from frame to frame; 0 where it is not followed.
    """
    x, y, width, height = instance.box
    message = InstanceMessage(
        header=header,
        camera=camera,
        height=shape[0],
        width=shape[1],
        label=instance.label,
        label_id=instance.label_id,
        track_id=track_id,
        score=min(1.0, instance.score),
        area=instance.area,
        roi=RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height),
        has_position=isinstance(position, Position),
        position_frame_id=frame_id,
        **maker.mask_fields(instance.mask * np.uint8(255), header),
    )
    if isinstance(position, Position):
        message.position = _point(position.point)
        message.position_spread, message.valid_depth = position.spread, position.valid
        message.box_center, message.box_size = _point(position.box_center), _vector(position.box_size)
    else:
        message.position_reason = position
    return message


def _located(look: Look, index: int, maker: MessageMaker) -> Located:
    """Say what a look found of one label."""
    best, found = look.best(index), look.found(index)
    return Located(
        label=look.vocabulary.labels[index],
        in_view=bool(found),
        presence=best.presence,
        camera=best.camera,
        threshold=float(look.vocabulary.thresholds[index]),
        instances=[message for sighting in found for message in _instances(sighting, maker)],
    )


def _instances(sighting: Sighting, maker: MessageMaker) -> list[InstanceMessage]:
    frame_id, frame = sighting.positions.frame_id, (sighting.camera, sighting.header, sighting.shape)
    return [
        instance_message(instance, position, frame_id, *frame, maker, track_id)
        for instance, position, track_id in zip(sighting.instances, sighting.positions.each, sighting.ids, strict=True)
    ]


def _point(values: tuple[float, float, float]) -> Point:
    x, y, z = values
    return Point(x=x, y=y, z=z)


def _vector(values: tuple[float, float, float]) -> Vector3:
    x, y, z = values
    return Vector3(x=x, y=y, z=z)
