"""A camera of the node: what arrives from it, what is published for it, and what is counted meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node

from synseg_ros.node.camera_input import CameraInput
from synseg_ros.node.camera_log import CameraLog
from synseg_ros.node.camera_outputs import CameraOutputs
from synseg_ros.node.camera_statistics import CameraStatistics
from synseg_ros.node.frames import Frame, SegmentedFrame
from synseg_ros.parameters.tables import NodeSettings


class Camera:
    """One source of frames, with its outputs.

    Args:
        node: The node that subscribes and publishes.
        name: Name of the camera, as in synseg/<camera>/...
        topic: Topic of its frames.
        settings: Returns the settings in force.
        ready: Tells whether there is a vocabulary to segment with.
        offer: Takes a frame for the engine; returns False when it replaced one that still waited.

    Attributes:
        input: What arrives. Used on the executor's thread.
        outputs: What is published. Used on the worker's thread.
        log: Counts frames and logs what goes wrong. Used on both.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        topic: str,
        settings: Callable[[], NodeSettings],
        ready: Callable[[], bool],
        offer: Callable[[Frame], bool],
    ) -> None:
        self.name, self.topic = name, node.resolve_topic_name(topic)
        self.log = CameraLog(node, self.topic)
        self.outputs = CameraOutputs(node, name, settings)
        self.input = CameraInput(
            node, name, self.topic, settings, self.log, lambda: ready() and self.outputs.wanted(), offer
        )

    @property
    def statistics(self) -> CameraStatistics:
        """The counts and times of the camera's frames."""
        return self.log.statistics

    def publish(self, segmented: SegmentedFrame) -> None:
        """Publish a frame and count it; an error costs this frame and no other.

        Args:
            segmented: The frame.
        """
        began = time.perf_counter()
        try:
            self.outputs.publish(segmented)
            self.log.segmented(segmented, 1e3 * (time.perf_counter() - began))
        except Exception as error:
            self.log.failed(error)

    def destroy(self) -> None:
        """End the subscription and all outputs."""
        self.input.ignore()
        self.outputs.destroy()
