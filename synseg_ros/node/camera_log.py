"""The log of one camera: its frames are counted, and what goes wrong with them is logged, not too often."""

from __future__ import annotations

from rclpy.node import Node
from std_msgs.msg import Header

from synseg_ros.node.camera_statistics import CameraStatistics
from synseg_ros.node.frames import SegmentedFrame
from synseg_ros.node.rate_limit import RateLimit

# How old a frame may be at its publication, by its stamp; beyond these the stamp comes from another clock.
EARLIEST_SECONDS, LATEST_SECONDS = -1.0, 60.0


class CameraLog:
    """Count the frames of one camera, and log why some of them came to nothing.

    Args:
        node: Whose logger and clock are used.
        topic: The camera's topic, as log lines name it.

    Attributes:
        statistics: The counts and times so far.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self.statistics = CameraStatistics()
        self._node, self._topic = node, topic
        self._warnings = RateLimit()
        self._clock_told = False
        self._problem = ""

    def bad(self, reason: str) -> None:
        """Count a frame that cannot be read, by the camera's fault.

        Args:
            reason: Why it cannot be read.
        """
        self._failed("bad", "skipped a frame of", reason)

    def failed(self, error: Exception) -> None:
        """Count a frame that the engine, or an output, failed on.

        Args:
            error: What was raised.
        """
        self._failed("failed", "could not segment a frame of", f"{type(error).__name__}: {error}")

    def segmented(self, segmented: SegmentedFrame, publish_ms: float) -> None:
        """Count a frame that is published.

        Args:
            segmented: The frame.
            publish_ms: Milliseconds that it took to make and publish the outputs.
        """
        timing = segmented.timing
        self.statistics.segmented(
            self._age_ms(segmented.header),
            timing.inference,
            wait_ms=timing.wait,
            decode_ms=timing.decode,
            publish_ms=publish_ms,
        )

    def positions(self, problem: str) -> None:
        """Log when objects stop having positions, and when they have them again.

        Args:
            problem: Why a frame of the last seconds had no positions; "" where all had.
        """
        had, self._problem = bool(self._problem), problem
        if problem and not had:
            self._node.get_logger().warning(f"no positions in frames of {self._topic}: {problem}")
        if had and not problem:
            self._node.get_logger().info(f"positions in frames of {self._topic} again")

    def _failed(self, kind: str, done: str, reason: str) -> None:
        if not self._node.context.ok():  # the process is being ended
            return
        self.statistics.error(kind, reason)
        held_back = self._warnings.admit()
        if held_back is not None:
            more = f" ({held_back} more warnings held back)" if held_back else ""
            self._node.get_logger().warning(f"{done} {self._topic}: {reason}{more}")

    def _age_ms(self, header: Header) -> float:
        """Return the milliseconds since a frame's stamp, nan where the stamp comes from another clock.

        Such are stamps that are not set, negative, counted from a boot, or wrong by an hour.
        """
        stamp = header.stamp.sec + header.stamp.nanosec / 1e9  # rclpy's Time refuses negative ones
        age = self._node.get_clock().now().nanoseconds / 1e9 - stamp
        if stamp and EARLIEST_SECONDS <= age <= LATEST_SECONDS:
            return 1e3 * age
        if not self._clock_told:
            self._clock_told = True
            wrong = f"are {abs(age):.0f} s {'old' if age > 0 else 'ahead'}" if stamp else "are not set"
            self._node.get_logger().warning(
                f"the stamps of {self._topic} {wrong} (the first such: {stamp:.3f} s): they come from another clock, "
                "so the latency is not known. Masks keep the frame's own stamp"
            )
        return float("nan")
