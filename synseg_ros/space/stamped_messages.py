"""The newest messages of a topic, found by their stamps."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

STILL_COMING = 1.0  # seconds without a message after which nobody waits for the next one
NS = 10**9


def nanoseconds(header: Any) -> int:
    """Return a header's stamp in nanoseconds.

    Args:
        header: A std_msgs/Header.
    """
    return header.stamp.sec * NS + header.stamp.nanosec


class StampedMessages:
    """Keep the newest messages of a topic, and find the one that belongs to a frame. Any thread may call.

    message_filters has no wheel, and joins topics in a callback; here the frame is there first and asks.

    Args:
        name: What the messages are, as in "no depth image has arrived".
        most: Number of messages that are kept.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._messages: deque[tuple[int, Any]] = deque(maxlen=most)
        self._changed = threading.Condition()
        self._arrived = -float("inf")

    def __len__(self) -> int:
        """Count the messages that are kept."""
        return len(self._messages)

    def add(self, message: Any) -> None:
        """Keep a message; the oldest one that arrived makes room.

        Args:
            message: A message with a header.
        """
        stamp = nanoseconds(message.header)
        with self._changed:
            if self._messages and stamp < self._messages[-1][0] - 10 * NS:  # a recording that begins again
                self._messages.clear()
            self._messages.append((stamp, message))
            self._arrived = time.monotonic()
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget all messages."""
        with self._changed:
            self._messages.clear()
            self._arrived = -float("inf")

    def age(self) -> float:
        """Return for how many seconds no message has arrived; inf before the first one."""
        return time.monotonic() - self._arrived

    def newest(self) -> Any | None:
        """Return the message that arrived last, None before the first one."""
        with self._changed:
            return self._messages[-1][1] if self._messages else None

    def nearest(self, stamp: int, tolerance: float, timeout: float = 0.0) -> Any | str:
        """Find the message nearest to a stamp.

        Args:
            stamp: The stamp in nanoseconds.
            tolerance: Largest difference, in seconds.
            timeout: Seconds to wait for a message that may still be under way: one later than all that are there.

        Returns:
            The message, or why there is none.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = min(self._messages, key=lambda kept: abs(kept[0] - stamp), default=None)
                if found is not None and abs(found[0] - stamp) <= tolerance * NS:
                    return found[1]
                left = deadline - time.monotonic()
                under_way = found is not None and found[0] < stamp and self.age() < STILL_COMING
                if left <= 0 or not under_way:
                    return self._absence(found, stamp, tolerance)
                self._changed.wait(left)

    def _absence(self, found: tuple[int, Any] | None, stamp: int, tolerance: float) -> str:
        if found is None:
            return f"no {self._name} has arrived"
        seconds = (found[0] - stamp) / NS
        return (
            f"no {self._name} within {tolerance:g} s of the image: the nearest is {abs(seconds):.3f} s "
            f"{'newer' if seconds > 0 else 'older'}"
        )
