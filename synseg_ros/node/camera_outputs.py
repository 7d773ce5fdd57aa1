"""What is published for one camera.

A further output is a line in `FRAME_OUTPUTS`. One that keeps a state for each camera, such as tracks, is a class with
the methods of `OutputTopic`, in the list of `CameraOutputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Header

from synseg_model.vocabulary import Vocabulary
from synseg_ros.interfaces.frame_outputs import FRAME_OUTPUTS, FrameOutput
from synseg_ros.interfaces.mask_kinds import MONO8
from synseg_ros.interfaces.optional_types import optional_type, required_type
from synseg_ros.node.class_topics import MOST_CLASS_TOPICS, ClassTopics
from synseg_ros.node.frames import SegmentedFrame
from synseg_ros.node.publishers import create_output, has_subscriber
from synseg_ros.node.viewer_output import ViewerOutput
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.qos import LATCHED, OUTPUT
from synseg_ros.ros_messages import MAKER, OBJECT_MAKER, cdr_is_used
from synseg_ros.space.object_finder import ObjectFinder
from synseg_ros.space.object_outputs import object_outputs


class OutputTopic:
    """Publish one output of a camera while it is switched on and has a subscriber.

    The setting publish_<name>, where there is one, switches the output off, and overlay/compressed with overlay. The
    setting mask_encoding says how masks are encoded.

    Args:
        node: The node that publishes.
        base: What all topics of the camera begin with.
        kind: Class of its messages.
        output: What is published. Where it makes None of a frame, nothing is published.
        settings: Returns the settings in force.
    """

    def __init__(
        self, node: Node, base: str, kind: type, output: FrameOutput, settings: Callable[[], NodeSettings]
    ) -> None:
        self._node, self._output, self._settings = node, output, settings
        self._publisher = create_output(node, kind, f"{base}/{output.name}", OUTPUT)

    def wanted(self) -> bool:
        """Return True while the topic is switched on and has a subscriber."""
        switch = f"publish_{self._output.name.partition('/')[0]}"
        switched_on = getattr(self._settings(), switch, True)  # not every output has a switch
        return switched_on and has_subscriber(self._publisher)

    def publish(self, segmented: SegmentedFrame) -> None:
        """Make and publish the message, if it is wanted.

        Args:
            segmented: The frame.
        """
        if not self.wanted():
            return
        encoding, serialize = self._settings().mask_encoding, self._output.serialize
        if serialize and encoding == MONO8 and cdr_is_used():
            self._publisher.publish(serialize(segmented))
            return
        message = self._output.make(MAKER.with_masks(encoding), segmented)
        if message is not None:
            self._publisher.publish(message)

    def destroy(self) -> None:
        """End the topic."""
        self._node.destroy_publisher(self._publisher)


class CameraOutputs:
    """All topics of one camera.

    `announce` and `publish` are called on the worker's thread.

    Args:
        node: The node that publishes.
        camera: Name of the camera, as in synseg/<camera>/...
        settings: Returns the settings in force.
        objects: Finds the objects of its frames.
        others: What else the frames go to, after the topics.

    Attributes:
        missing: Names of the topics that are not there, because their package is not installed.
    """

    def __init__(
        self,
        node: Node,
        camera: str,
        settings: Callable[[], NodeSettings],
        objects: ObjectFinder,
        others: Sequence[ViewerOutput] = (),
    ) -> None:
        base = f"synseg/{camera}"
        self._node, self._settings = node, settings
        self._classes = ClassTopics(node, base)
        kinds = [(MAKER.type(output.type), output) for output in FRAME_OUTPUTS]
        kinds += [(optional_type(output.type), output) for output in object_outputs(objects, OBJECT_MAKER)]
        self._topics = (
            *(OutputTopic(node, base, kind, output, settings) for kind, output in kinds if kind is not None),
            self._classes,
            *others,
        )
        self.missing = [output.name for kind, output in kinds if kind is None]
        label_info = optional_type("vision_msgs/msg/LabelInfo")
        self._label_info = create_output(node, label_info, f"{base}/label_info", LATCHED, False) if label_info else None

    def wanted(self) -> bool:
        """Return True while one of the topics that are switched on has a subscriber."""
        return any(topic.wanted() for topic in self._topics)

    def announce(self, vocabulary: Vocabulary | None, stamp: object) -> None:
        """Publish what ids mean, and offer a topic per label if the settings ask for it.

        It is called before any mask with these labels is published.

        Args:
            vocabulary: The vocabulary in use from now on; None for none.
            stamp: The time now, a builtin_interfaces/Time.
        """
        if vocabulary is not None and self._label_info is not None:
            self._label_info.publish(_label_info(vocabulary, stamp))
        offered = vocabulary.labels if vocabulary is not None and self._settings().publish_class_topics else ()
        self._classes.offer(offered[:MOST_CLASS_TOPICS])

    def publish(self, segmented: SegmentedFrame) -> None:
        """Publish the outputs that are wanted, with the frame's own header.

        Args:
            segmented: The frame.
        """
        for topic in self._topics:
            topic.publish(segmented)

    def destroy(self) -> None:
        """End all topics."""
        for topic in self._topics:
            topic.destroy()
        if self._label_info is not None:
            self._node.destroy_publisher(self._label_info)


def _label_info(vocabulary: Vocabulary, stamp: object) -> Any:
    """Make the LabelInfo that says which label an id means."""
    label_info, vision_class = (required_type(f"vision_msgs/msg/{name}") for name in ("LabelInfo", "VisionClass"))
    classes = [
        vision_class(class_id=number, class_name=label)
        for number, label in zip(vocabulary.ids, vocabulary.labels, strict=True)
    ]
    threshold = float(vocabulary.thresholds.min())
    return label_info(header=Header(stamp=stamp), class_map=classes, threshold=threshold)
