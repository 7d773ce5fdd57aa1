"""Which vocabulary is in use, or why a request was refused: published on a latched topic, and logged."""

from __future__ import annotations

from rclpy.node import Node

from synseg_model.weights.pedigree import NEVER_MET
from synseg_ros.msg import VocabularyStatus
from synseg_ros.node.vocabulary_switch import ActiveVocabulary
from synseg_ros.qos import LATCHED
from synseg_ros.ros_messages import MAKER

LABELS_SHOWN = 20


class VocabularyOutput:
    """Publish synseg/active_vocab, and log each vocabulary once.

    Args:
        node: The node that publishes.
        before: The vocabulary that an earlier output published last.
    """

    def __init__(self, node: Node, before: ActiveVocabulary) -> None:
        self._node, self._told, self._refusal = node, before, ""
        self._publisher = node.create_publisher(VocabularyStatus, "synseg/active_vocab", LATCHED)
        self._publish(ActiveVocabulary(), "")

    def announce(self, active: ActiveVocabulary, refusal: str) -> None:
        """Publish and log which vocabulary is in use.

        Args:
            active: The vocabulary in use.
            refusal: Why the last request was refused, "" where it was not.
        """
        if active.version == self._told.version and active.pedigree != self._told.pedigree:
            self._log_strange(active)  # all else is told already
        elif refusal and refusal != self._refusal:
            self._node.get_logger().warning(f"refused a vocabulary, version {active.version} stays: {refusal}")
        elif active.version != self._told.version:
            labels = active.vocabulary.labels if active.vocabulary else ("nobody wants any label",)
            self._node.get_logger().info(f"vocabulary {active.version}: {_shortened(labels, ' and')}")
        self._told, self._refusal = active, refusal
        self._publish(active, refusal)

    def destroy(self) -> None:
        """End the topic."""
        self._node.destroy_publisher(self._publisher)

    def _log_strange(self, active: ActiveVocabulary) -> None:
        """Name the labels that the model never met, with the nearest names that it knows."""
        every = zip(active.vocabulary.labels, active.pedigree, strict=True)
        strange = [f"{label!r} {met}" for label, met in every if met.startswith(NEVER_MET)]
        self._node.get_logger().info(f"labels that the model does not know: {_shortened(strange, ', and')}")

    def _publish(self, active: ActiveVocabulary, refusal: str) -> None:
        now = self._node.get_clock().now().to_msg()
        self._publisher.publish(
            MAKER.vocabulary_status(active.vocabulary, active.version, now, refusal, active.pedigree, active.wanted_by)
        )


def _shortened(texts: tuple[str, ...] | list[str], joint: str) -> str:
    """List the first texts, and say how many more there are."""
    more = f"{joint} {len(texts) - LABELS_SHOWN} more" if len(texts) > LABELS_SHOWN else ""
    return ", ".join(texts[:LABELS_SHOWN]) + more
