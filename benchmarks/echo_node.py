"""A node that only decodes frames and publishes them again: what a node costs before it does anything.

By default it is written as any node with rclpy is: it gets message objects and publishes such, with the copies that
rclpy makes of them. The node under test does without those for frames and masks, so it may be faster than this one.
With the parameter serialized this node does without them, too: the least that a Python node takes.
"""

from __future__ import annotations

import contextlib

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from synseg_model.memory import keep_freed_memory
from synseg_ros.interfaces.image_encodings import image_to_rgb
from synseg_ros.node.serialized_images import read_image
from synseg_ros.qos import OUTPUT
from synseg_ros.ros_messages import image_from_array


def main() -> None:
    """Echo /CAMERA/image_raw on synseg/CAMERA/echo until interrupted, for each name in the parameter cameras."""
    keep_freed_memory()
    rclpy.init()
    node = Node("echo")
    serialized = node.declare_parameter("serialized", False).value
    for camera in node.declare_parameter("cameras", ["camera"]).value:
        _echo(node, camera, serialized)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    rclpy.try_shutdown()


def _echo(node: Node, camera: str, serialized: bool) -> None:
    publisher = node.create_publisher(Image, f"synseg/{camera}/echo", OUTPUT)

    def echo_bytes(message: bytes) -> None:
        image = read_image(message)
        head = message[: len(message) - len(image.data)]  # images of noise have a size without padding behind it
        publisher.publish(b"".join((head, image_to_rgb(image).data)))

    def echo(message: Image) -> None:
        publisher.publish(image_from_array(image_to_rgb(message), "rgb8", message.header))

    callback = echo_bytes if serialized else echo
    node.create_subscription(Image, f"/{camera}/image_raw", callback, qos_profile_sensor_data, raw=serialized)


if __name__ == "__main__":
    main()
