"""Where the player's camera is, and what it shows: camera_info, and for scenes depth, a transform and the truth.

For scenes there are depth/image_raw (32FC1), truth/objects (vision_msgs/Detection3DArray, where things are) and the
camera's place in /tf_static. The last two are there where vision_msgs and tf2_msgs are installed.
"""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from synseg_model.instances import Instance, Intrinsics, Position
from synseg_ros.interfaces.object_messages import OBJECTS
from synseg_ros.interfaces.optional_types import optional_type
from synseg_ros.parameters.tables import PlayerSettings
from synseg_ros.player.sources import Shot, ShotSource
from synseg_ros.qos import EVERY_MESSAGE, EVERY_MESSAGE_SO_FAR, LATCHED
from synseg_ros.ros_messages import OBJECT_MAKER, sequence

HEIGHT = 1.0  # metres from the parent frame up to the camera
# From x right, y down, z forward to x forward, y left, z up (REP 103).
FORWARD = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)


class SpaceTopics:
    """Publish camera_info with every frame, and for scenes what depth cameras and a robot would.

    Args:
        node: The node that publishes.
        base: The namespace of the frames' topic.
        settings: The player's settings.
        source: What is played.

    Attributes:
        info: The publisher of camera_info.
    """

    def __init__(self, node: Node, base: str, settings: PlayerSettings, source: ShotSource) -> None:
        self._source, self._intrinsics = source, source.intrinsics
        self.info = node.create_publisher(CameraInfo, f"{base}/camera_info", EVERY_MESSAGE_SO_FAR)
        self._depth = self._objects = None
        if self._intrinsics is None:
            return
        self._names = source.names
        self._depth = node.create_publisher(Image, f"{base}/depth/image_raw", qos_profile_sensor_data)
        objects, transforms = optional_type(OBJECTS), optional_type("tf2_msgs/msg/TFMessage")
        if objects:
            self._objects = node.create_publisher(objects, f"{base}/truth/objects", EVERY_MESSAGE)
        if transforms and settings.parent_frame:
            self._transforms = node.create_publisher(transforms, "/tf_static", LATCHED)
            self._transforms.publish(transforms(transforms=[_place(settings.parent_frame, settings.frame_id)]))

    def inform(self, shot: Shot, header: Header) -> None:
        """Publish camera_info.

        Args:
            shot: What is shown.
            header: Its header.
        """
        height, width = shot.image.shape[:2]
        info = CameraInfo(header=header, height=height, width=width)
        if self._intrinsics is not None:
            _calibrate(info, self._intrinsics)
        self.info.publish(info)

    def publish(self, shot: Shot, header: Header) -> None:
        """Publish depth and where things are, for those who subscribe.

        Args:
            shot: What is shown.
            header: Its header.
        """
        if self._depth is not None and self._depth.get_subscription_count():
            self._depth.publish(_depth_message(shot.measure(), header))
        if self._objects is not None and self._objects.get_subscription_count():
            self._objects.publish(self._truth(shot, header))

    def _truth(self, shot: Shot, header: Header) -> object:
        """Say where the things are that can be seen; an object's id is the index of its segment."""
        seen = [index for index in np.unique(shot.index_map) if np.isfinite(shot.centers[index]).all()]
        centers = [tuple(shot.centers[index].tolist()) for index in seen]
        instances = [
            Instance(int(index), self._names[index], (0, 0, 0, 0), 0, 1.0, np.zeros((0, 0), bool), (0.0, 0.0))
            for index in seen
        ]
        positions = [Position(center, 0.0, 1.0, center, (0.0, 0.0, 0.0)) for center in centers]
        return OBJECT_MAKER.objects(instances, seen, positions, header)


def _calibrate(info: CameraInfo, camera: Intrinsics) -> None:
    """Write a camera without distortion into its camera_info."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    info.distortion_model, info.d = "plumb_bob", [0.0] * 5
    info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]


def _depth_message(depth: np.ndarray, header: Header) -> Image:
    height, width = depth.shape
    message = Image(header=header, height=height, width=width, encoding="32FC1", step=4 * width)
    message.data = sequence(np.ascontiguousarray(depth, "<f4").reshape(-1).view(np.uint8))
    return message


def _place(parent: str, child: str) -> TransformStamped:
    return TransformStamped(
        header=Header(stamp=Time(), frame_id=parent),
        child_frame_id=child,
        transform=Transform(translation=Vector3(z=HEIGHT), rotation=FORWARD),
    )
