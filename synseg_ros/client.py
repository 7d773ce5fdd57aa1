"""The consumer's side: masks joined with their vocabulary, as full-size boolean arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Header

from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.msg import ClassMask, ClassMasks, Vocabulary, VocabularyStatus
from synseg_ros.qos import LATCHED, OUTPUT


class LabelMasks(Mapping[str, np.ndarray]):
    """The masks of one frame by label, (H, W) bool: all False for labels of the vocabulary that are not there.

    They are made when asked for. Raises KeyError for a label that is not in the vocabulary.
    """

    def __init__(self, message: ClassMasks) -> None:
        self._shape = message.height, message.width
        self._found: dict[str, ClassMask] = {mask.label: mask for mask in message.masks}
        self._labels = tuple(message.labels)

    def __getitem__(self, label: str) -> np.ndarray:
        if label not in self._labels:
            raise KeyError(f"{label!r} is not in the vocabulary: {', '.join(self._labels[:20])}")
        full = np.zeros(self._shape, bool)
        if label in self._found:
            box = self._found[label].roi
            rows = slice(box.y_offset, box.y_offset + box.height)
            columns = slice(box.x_offset, box.x_offset + box.width)
            full[rows, columns] = image_to_array(self._found[label].mask) == 255
        return full

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


@dataclass(frozen=True)
class Frame:
    """What the node found in one image.

    header: of the image. version, labels, ids: of the vocabulary it was segmented with. present: labels that are
    there. scores: mean activation of each of these in [0, 1]. presence: how sure the model is that each of these is in
    the image at all, in [0, 1]. masks: by label, see LabelMasks.
    """

    header: Header
    version: int
    labels: tuple[str, ...]
    ids: tuple[int, ...]
    present: tuple[str, ...]
    scores: Mapping[str, float]
    presence: Mapping[str, float]
    masks: LabelMasks

    @classmethod
    def from_message(cls, message: ClassMasks) -> Frame:
        """Read a message; it carries its whole vocabulary, so nothing needs to be joined."""
        return cls(
            message.header,
            message.vocabulary_version,
            tuple(message.labels),
            tuple(message.ids),
            tuple(mask.label for mask in message.masks),
            {mask.label: mask.score for mask in message.masks},
            {mask.label: mask.presence for mask in message.masks},
            LabelMasks(message),
        )


class MaskClient:
    """Ask for labels and hear where they are, as a part of any node.

    on_frame gets every Frame of the camera (a name as in synseg/<camera>/masks). on_refusal gets the reason when the
    node refused what was asked for last. status is the newest VocabularyStatus, None before the first. close() ends it.
    """

    def __init__(
        self,
        node: Node,
        camera: str = "camera",
        on_frame: Callable[[Frame], None] | None = None,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        self.status: VocabularyStatus | None = None
        self._node, self._on_frame, self._on_refusal = node, on_frame, on_refusal
        self._vocabulary = node.create_publisher(Vocabulary, "synseg/vocab", LATCHED)
        self._subscriptions = [
            node.create_subscription(VocabularyStatus, "synseg/active_vocab", self._take_status, LATCHED)
        ]
        if on_frame is not None:  # the node segments for those who listen
            take = lambda message: on_frame(Frame.from_message(message))  # noqa: E731
            self._subscriptions.append(node.create_subscription(ClassMasks, f"synseg/{camera}/masks", take, OUTPUT))

    @property
    def pedigree(self) -> dict[str, str]:
        """How the model met each label of the running vocabulary, for people; empty where it does not say.

        Of labels that it never met, the nearest known name is in a later status.
        """
        return dict(zip(self.status.labels, self.status.pedigree, strict=False)) if self.status else {}

    def ask(self, labels: Sequence[str], thresholds: Sequence[float] = ()) -> None:
        """Ask for labels; thresholds in [0, 1], none or one per label. They replace everybody's.

        Raise ValueError for a label with a NUL, at which ROS would cut it in silence.
        """
        for label in labels:
            if "\0" in label:
                raise ValueError(f"label {label!r} has a NUL, which no ROS message carries: leave it out")
        self._vocabulary.publish(Vocabulary(labels=list(labels), thresholds=list(thresholds)))

    def close(self) -> None:
        """End publisher and subscriptions."""
        self._node.destroy_publisher(self._vocabulary)
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _take_status(self, message: VocabularyStatus) -> None:
        self.status = message
        if not message.accepted and self._on_refusal is not None:
            self._on_refusal(message.message)
