"""What the node says about itself on /diagnostics: counts, rates and latencies of one camera."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

WINDOW_SECONDS = 5.0
WARNING_SECONDS = 5.0
KINDS = ("received", "lost", "segmented", "dropped", "idle", "bad", "failed")
MANY_LOST = 0.2  # share of a camera's frames that is worth a warning


class RateLimit:
    """Let one event through per period and count the others."""

    def __init__(self, period: float = WARNING_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._period, self._clock = period, clock
        self._last: float | None = None
        self._held_back = 0

    def admit(self) -> int | None:
        """Return how many events were held back since the last admitted one; None: hold this one back."""
        now = self._clock()
        if self._last is not None and now - self._last < self._period:
            self._held_back += 1
            return None
        self._last, held_back, self._held_back = now, self._held_back, 0
        return held_back


@dataclass
class CameraStatistics:
    """Count the frames of one camera; called from the receiving and the working thread.

    received: all messages; lost: sent by the camera, but never received; bad: refused ones; idle: nobody
    subscribed or no vocabulary yet; dropped: replaced by a newer frame before its turn; failed: the engine
    raised; segmented: published.
    """

    clock: Callable[[], float] = time.monotonic
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    last_error: str = ""
    _error_time: float = -float("inf")
    _recent: deque[tuple[float, float, float]] = field(default_factory=deque)  # time, latency ms, inference ms
    _newest: tuple[Any, int] = (None, 0)  # publisher and number of the newest message
    _reported: tuple[int, int] = (0, 0)  # received and lost at the last status
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *kinds: str) -> None:
        """Count one frame under each of the kinds."""
        with self._lock:
            for kind in kinds:
                self.counts[kind] += 1

    def received(self, info: Mapping[str, Any]) -> None:
        """Count one message and, by its publisher's numbering in rclpy's message info, those lost before it."""
        publisher, number = info.get("publisher_gid"), info.get("publication_sequence_number")
        with self._lock:
            self.counts["received"] += 1
            if number is not None:
                before, self._newest = self._newest, (publisher, number)
                if before[0] == publisher and number > before[1] > 0:
                    self.counts["lost"] += number - before[1] - 1

    def error(self, kind: str, reason: str) -> None:
        """Count one frame that was bad or failed, and keep the reason."""
        with self._lock:
            self.counts[kind] += 1
            self.last_error, self._error_time = reason, self.clock()

    def segmented(self, latency_ms: float, inference_ms: float) -> None:
        """Count one published frame; latency is from its stamp to its publication, NaN without a stamp."""
        with self._lock:
            self.counts["segmented"] += 1
            self._recent.append((self.clock(), latency_ms, inference_ms))

    def status(self, name: str, values: dict[str, str], ready: bool) -> DiagnosticStatus:
        """Summarise the last seconds, with values added; ready is False while there is no vocabulary."""
        with self._lock:
            now = self.clock()
            while self._recent and self._recent[0][0] < now - WINDOW_SECONDS:
                self._recent.popleft()
            recent, counts = list(self._recent), dict(self.counts)
            error, fresh = self.last_error, now - self._error_time < WINDOW_SECONDS
            lost = self._share_lost()
        rows = {f"frames {kind}": str(count) for kind, count in counts.items()}
        rows["frames per second"] = f"{len(recent) / WINDOW_SECONDS:.1f}"
        if recent:
            _, latency, inference = np.array(recent).T
            rows["inference p50 (ms)"] = f"{np.median(inference):.1f}"
            stamped = latency[np.isfinite(latency)]
            for percent in (50, 99) if len(stamped) else ():
                rows[f"latency p{percent} (ms)"] = f"{np.percentile(stamped, percent):.1f}"
        rows["last error"] = error
        if fresh:
            level, message = DiagnosticStatus.ERROR, error
        elif not ready:
            level, message = DiagnosticStatus.WARN, "waiting for a vocabulary"
        elif recent:
            level, message = (
                DiagnosticStatus.OK,
                f"segmenting at {rows['frames per second']} frames per second",
            )
        else:
            level, message = DiagnosticStatus.OK, "idle: no frame arrived, or nobody subscribes to an output"
        if level == DiagnosticStatus.OK and lost > MANY_LOST:
            level = DiagnosticStatus.WARN
            message += f"; {lost:.0%} of the camera's frames are lost on the way (are DDS buffers too small?)"
        pairs = [KeyValue(key=key, value=value) for key, value in {**values, **rows}.items()]
        return DiagnosticStatus(name=name, level=level, message=message, values=pairs)

    def _share_lost(self) -> float:
        """Return which share of the frames since the last status was lost; the lock is held."""
        now = self.counts["received"], self.counts["lost"]
        received, lost = np.subtract(now, self._reported)
        self._reported = now
        return lost / max(1, received + lost)
