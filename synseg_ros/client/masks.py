"""The consumer's side: masks joined with their vocabulary, as boolean arrays of the image's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Header

from synseg_ros.client.calls import check_no_nul
from synseg_ros.interfaces.mask_encodings import mask_in_frame
from synseg_ros.msg import ClassMask, ClassMasks, Vocabulary, VocabularyStatus
from synseg_ros.qos import LATCHED, OUTPUT


class LabelMasks(Mapping[str, np.ndarray]):
    """The masks of one frame by label: (H, W) bool arrays, all False for labels that are not in the image.

    A mask is made when it is asked for, however the node encodes masks.

    Args:
        message: The message as the node publishes it.

    Raises:
        KeyError: The label is not in the vocabulary.
        FrameError: Its mask is damaged.
    """

    def __init__(self, message: ClassMasks) -> None:
        self._shape = message.height, message.width
        self._found: dict[str, ClassMask] = {mask.label: mask for mask in message.masks}
        self._labels = tuple(message.labels)

    def __getitem__(self, label: str) -> np.ndarray:
        if label not in self._labels:
            raise KeyError(f"{label!r} is not in the vocabulary: {', '.join(self._labels[:20])}")
        if label not in self._found:
            return np.zeros(self._shape, bool)
        return mask_in_frame(self._found[label], self._shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


@dataclass(frozen=True)
class FrameMasks:
    """What the node found in one image.

    Attributes:
        header: Header of the image.
        version: Version of the vocabulary that the image was segmented with.
        labels: Labels of that vocabulary.
        ids: Their numbers in label maps, one per label.
        present: Labels that are in the image.
        scores: By label that is present, the mean activation inside its mask, 0 to 1.
        presence: By label that is present, how sure the model is that it is in the image at all, 0 to 1.
        masks: By label, (H, W) bool, see `LabelMasks`.
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
    def from_message(cls, message: ClassMasks) -> FrameMasks:
        """Read a message; it carries its whole vocabulary, so nothing needs to be joined.

        Args:
            message: From the topic synseg/<camera>/masks.
        """
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
    """Ask the segmentation node for labels and get their masks, as a part of any node.

    Args:
        node: The node that publishes and subscribes. Its executor calls `on_frame` and `on_refusal`.
        camera: Name of the camera, as in synseg/<camera>/masks.
        on_frame: Called with every frame of the camera. Without it the client only asks for labels.
        on_refusal: Called with the reason when the node refuses a vocabulary.

    Attributes:
        status: The newest VocabularyStatus, None before the first.

    Example:
        In a program with a `node` that is being spun:

        >>> from synseg_ros.client import MaskClient
        >>> def on_frame(frame):
        ...     for label in frame.present:
        ...         print(label, frame.scores[label], frame.masks[label].sum(), "pixels")
        >>> client = MaskClient(node, camera="camera", on_frame=on_frame)
        >>> client.ask(["cup", "table"], thresholds=[0.5, 0.4])
        >>> client.close()  # when the masks are no longer needed
    """

    def __init__(
        self,
        node: Node,
        camera: str = "camera",
        on_frame: Callable[[FrameMasks], None] | None = None,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        self.status: VocabularyStatus | None = None
        self._node, self._on_frame, self._on_refusal = node, on_frame, on_refusal
        self._vocabulary = node.create_publisher(Vocabulary, "synseg/vocab", LATCHED)
        self._subscriptions = [
            node.create_subscription(VocabularyStatus, "synseg/active_vocab", self._take_status, LATCHED)
        ]
        if on_frame is not None:  # the node segments only what has a subscriber
            self._subscriptions.append(
                node.create_subscription(ClassMasks, f"synseg/{camera}/masks", self._take_masks, OUTPUT)
            )

    @property
    def pedigree(self) -> dict[str, str]:
        """How the model met each label of the running vocabulary, as text for users; empty where it does not say.

        For labels that the model never met, a later status adds the nearest name that it knows.
        """
        return dict(zip(self.status.labels, self.status.pedigree, strict=False)) if self.status else {}

    def ask(self, labels: Sequence[str], thresholds: Sequence[float] = ()) -> None:
        """Ask for labels; they replace those that any client asked for before.

        Args:
            labels: Any texts.
            thresholds: Activation from which on a pixel belongs to a label, 0 to 1: one per label, or none for the
                node's own.

        Raises:
            ValueError: A label has a NUL, at which ROS would cut it without a word.
        """
        check_no_nul(labels)
        self._vocabulary.publish(Vocabulary(labels=list(labels), thresholds=list(thresholds)))

    def close(self) -> None:
        """End the publisher and the subscriptions."""
        self._node.destroy_publisher(self._vocabulary)
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _take_masks(self, message: ClassMasks) -> None:
        self._on_frame(FrameMasks.from_message(message))

    def _take_status(self, message: VocabularyStatus) -> None:
        self.status = message
        if not message.accepted and self._on_refusal is not None:
            self._on_refusal(message.message)
