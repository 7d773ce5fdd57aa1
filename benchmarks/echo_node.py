"""A node that only decodes frames and publishes them again, as the least that any Python node takes."""

from __future__ import annotations

import contextlib

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from synseg_model.memory import keep_freed_memory
from synseg_ros.interfaces.image_encodings import image_to_rgb
from synseg_ros.qos import OUTPUT
from synseg_ros.ros_messages import image_from_array


def main() -> None:
    """Echo /CAMERA/image_raw on synseg/CAMERA/echo until interrupted, for each name in the parameter cameras."""
    keep_freed_memory()
    rclpy.init()
    node = Node("echo")
    for camera in node.declare_parameter("cameras", ["camera"]).value:
        _echo(node, camera)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    rclpy.try_shutdown()


def _echo(node: Node, camera: str) -> None:
    publisher = node.create_publisher(Image, f"synseg/{camera}/echo", OUTPUT)

    def echo(message: Image) -> None:
        publisher.publish(image_from_array(image_to_rgb(message), "rgb8", message.header))

    node.create_subscription(Image, f"/{camera}/image_raw", echo, qos_profile_sensor_data)


if __name__ == "__main__":
    main()
