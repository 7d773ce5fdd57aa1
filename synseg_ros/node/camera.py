"""A camera of the node: what arrives from it, what is published for it, and what is counted meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rclpy.node import Node

from synseg_model.instances import Instance
from synseg_ros.node.camera_input import CameraInput
from synseg_ros.node.camera_log import CameraLog
from synseg_ros.node.camera_outputs import CameraOutputs
from synseg_ros.node.camera_statistics import CameraStatistics
from synseg_ros.node.depth_input import DepthInput
from synseg_ros.node.frames import Frame, SegmentedFrame
from synseg_ros.node.transform_source import TransformSource
from synseg_ros.node.viewer_output import ViewerOutput, ViewerThread
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.space.depth_view import DepthTopics
from synseg_ros.space.object_finder import ObjectFinder, Positions


class Camera:
    """One source of frames, with its outputs.

    Args:
        node: The node that subscribes and publishes.
        name: Name of the camera, as in synseg/<camera>/...
        topic: Topic of its frames.
        settings: Returns the settings in force.
        ready: Tells whether there is a vocabulary to segment with.
        asked_for: Tells whether a request waits for a frame.
        offer: Takes a frame for the engine; returns False when it replaced one that still waited.
        depth: The topics that say how far away things are; None without.
        transforms: Where the transforms between frames come from.
        viewer: Shows the frames in Rerun; None where they are not shown.

    Attributes:
        input: What arrives. Used on the executor's thread.
        depth: The depth that arrives; None without.
        objects: Finds the objects of frames. Used on the worker's thread.
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
        asked_for: Callable[[Frame], bool],
        offer: Callable[[Frame], bool],
        depth: DepthTopics | None,
        transforms: TransformSource,
        viewer: ViewerThread | None = None,
    ) -> None:
        self.name, self.topic = name, node.resolve_topic_name(topic)
        self.log = CameraLog(node, self.topic)
        self.depth = DepthInput(node, depth, settings, transforms) if depth else None
        self.objects = ObjectFinder(settings, self.depth.of_frames if self.depth else None)
        shown = []
        if viewer:
            aside = ObjectFinder(settings, self.depth.for_another_thread() if self.depth else None)
            shown.append(ViewerOutput(name, viewer, aside))
        self.outputs = CameraOutputs(node, name, settings, self.objects, shown)
        self._ready = ready
        self.input = CameraInput(node, name, self.topic, settings, self.log, self.wanted, asked_for, offer)

    @property
    def statistics(self) -> CameraStatistics:
        """The counts and times of the camera's frames."""
        return self.log.statistics

    def wanted(self) -> bool:
        """Tell whether a frame would be segmented and published now."""
        return self._ready() and self.outputs.wanted()

    def listen(self) -> None:
        """Subscribe to the camera and to its depth."""
        self.input.listen()
        if self.depth:
            self.depth.listen()

    def ignore(self) -> None:
        """End the subscriptions."""
        self.input.ignore()
        if self.depth:
            self.depth.ignore()

    def follow(self) -> None:
        """Subscribe anew where other types of messages turn out to be published."""
        self.input.follow()
        if self.depth:
            self.depth.follow()

    def watch(self) -> None:
        """Log when something fails, or works again."""
        self.input.watch()
        self.log.positions(self.objects.statistics.problem)

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
        finally:
            self.objects.forget()
            if self.depth:
                self.depth.of_frames.forget_failure()

    def positions_of(self, frame: Frame, instances: Sequence[Instance], shape: tuple[int, int]) -> Positions:
        """Find where any instances of a frame are, in `target_frame`.

        Args:
            frame: The frame.
            instances: Instances of the frame.
            shape: (H, W) of the frame in pixels.

        Returns:
            Per instance its position, or why it is not known.
        """
        return self.objects.locate_instances(frame.header, instances, shape)

    def ids_of(self, segmented: SegmentedFrame | None, instances: Sequence[Instance]) -> tuple[int, ...]:
        """Find the ids that any instances of a frame have in detections, objects and points.

        Args:
            segmented: What was published of the frame; None where nothing was.
            instances: Instances of the frame.

        Returns:
            Per instance its id; 0 where its label is not in the vocabulary, or it is none of the objects.
        """
        return self.objects.ids_of(segmented, instances)

    def destroy(self) -> None:
        """End the subscriptions and all outputs."""
        self.ignore()
        self.outputs.destroy()
