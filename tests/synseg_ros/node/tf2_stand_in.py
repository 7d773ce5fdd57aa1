"""What the node uses of tf2_ros, with its signatures, where tf2_ros is not installed: its core is C++, without a wheel.

Signatures, classes of errors and QoS are those of ros2/geometry2, tf2_ros_py 0.39.1. The transforms themselves are
those of the node's own buffer, so a test with this module tests how tf2_ros is called, and not what it answers.
"""

import time as clock

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from scipy.spatial.transform import Rotation

from synseg_ros.space.transform_buffer import TransformBuffer, TransformError


class TransformException(Exception):  # noqa: N818
    pass


class LookupException(TransformException):
    pass


class ExtrapolationException(TransformException):
    pass


class Buffer:
    def __init__(self, cache_time=None, node=None):
        self._transforms = TransformBuffer((cache_time or Duration(seconds=10)).nanoseconds / 1e9)

    def set_transform(self, transform, authority):
        self._add(transform, static=False)

    def set_transform_static(self, transform, authority):
        self._add(transform, static=True)

    def lookup_transform(self, target_frame, source_frame, time, timeout=Duration()):  # noqa: B008
        deadline = clock.monotonic() + timeout.nanoseconds / 1e9
        while True:
            try:
                matrix = self._transforms.lookup(target_frame, source_frame, time.nanoseconds)
                break
            except TransformError as error:
                if clock.monotonic() >= deadline:
                    kind = ExtrapolationException if "than the image" in str(error) else LookupException
                    raise kind(str(error)) from None
            clock.sleep(0.02)  # as tf2_ros does
        x, y, z = matrix[:3, 3].tolist()
        a, b, c, d = Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()
        place = Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=a, y=b, z=c, w=d))
        return TransformStamped(child_frame_id=source_frame, transform=place)

    def _add(self, one, static):
        stamp, r, t = one.header.stamp, one.transform.rotation, one.transform.translation
        nanoseconds = stamp.sec * 10**9 + stamp.nanosec
        place = (t.x, t.y, t.z), (r.x, r.y, r.z, r.w)
        self._transforms.add(one.header.frame_id, one.child_frame_id, nanoseconds, *place, static)


class TransformListener:
    def __init__(
        self,
        buffer,
        node,
        *,
        spin_thread=False,
        qos=None,
        static_qos=None,
        tf_topic="/tf",
        tf_static_topic="/tf_static",
    ):
        from tf2_msgs.msg import TFMessage

        self.buffer, self.node = buffer, node
        static_qos = static_qos or QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_sub = node.create_subscription(TFMessage, tf_topic, self.callback, qos or QoSProfile(depth=100))
        self.tf_static_sub = node.create_subscription(TFMessage, tf_static_topic, self.static_callback, static_qos)

    def unregister(self):
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def callback(self, data):
        for transform in data.transforms:
            self.buffer.set_transform(transform, "default_authority")

    def static_callback(self, data):
        for transform in data.transforms:
            self.buffer.set_transform_static(transform, "default_authority")
