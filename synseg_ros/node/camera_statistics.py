"""Counts, rates and latencies of one camera, and what /diagnostics says of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

WINDOW_SECONDS = 5.0
KINDS = ("received", "lost", "segmented", "dropped", "skipped", "idle", "requested", "bad", "failed")
STAGES = ("latency", "wait", "decode", "inference", "publish")
MANY_LOST = 0.2  # share of a camera's frames that is worth a warning


@dataclass
class CameraStatistics:
    """Count the frames of one camera; called on the executor's and on the worker's thread.

    Attributes:
        clock: Returns the time in seconds.
        counts: Number of frames so far, by kind. received: all messages. lost: sent by the camera and never received.
            bad: cannot be read. idle: no output has a subscriber, or there is no vocabulary yet.
            requested: segmented for a request alone. skipped: above the rate limit. dropped: replaced by a newer frame
            before its turn. failed: the engine or an output raised. segmented: published.
        last_error: Why the last frame was bad or failed.
        share_lost: Share of the camera's frames that were lost in the seconds before the last status, 0 to 1.
    """

    clock: Callable[[], float] = time.monotonic
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    last_error: str = ""
    share_lost: float = 0.0
    _error_time: float = -float("inf")
    _recent: deque[tuple[float, ...]] = field(default_factory=deque)  # time, latency ms, ms of each stage
    _newest: tuple[Any, int] = (None, 0)  # publisher and number of the newest message
    _heard: float = float("inf")  # when the newest message came, or listening began
    _reported: deque[tuple[float, int, int]] = field(default_factory=deque)  # time, received and lost of statuses
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def listen(self) -> None:
        """Begin to expect frames."""
        self._heard = self.clock()

    def restart_numbering(self) -> None:
        """Forget the newest message's number: what came before a new subscription's first message is not lost."""
        with self._lock:
            self._newest = (None, 0)

    def silence(self) -> float:
        """Return for how many seconds no frame has come; negative while none is expected."""
        return self.clock() - self._heard

    def count(self, *kinds: str) -> None:
        """Count one frame under each of the kinds."""
        with self._lock:
            for kind in kinds:
                self.counts[kind] += 1

    def received(self, info: Mapping[str, Any]) -> None:
        """Count one message, and those that were lost before it.

        Args:
            info: The message's info as rclpy gives it; its publisher numbers its messages there.
        """
        publisher, number = info.get("publisher_gid"), info.get("publication_sequence_number")
        with self._lock:
            self._heard = self.clock()
            self.counts["received"] += 1
            if number is not None:
                before, self._newest = self._newest, (publisher, number)
                if before[0] == publisher and number > before[1] > 0:
                    self.counts["lost"] += number - before[1] - 1

    def error(self, kind: str, reason: str) -> None:
        """Count one frame that was bad or failed, and keep the reason.

        Args:
            kind: "bad" or "failed".
            reason: Why, for /diagnostics.
        """
        with self._lock:
            self.counts[kind] += 1
            self.last_error, self._error_time = reason, self.clock()

    def segmented(
        self,
        latency_ms: float,
        inference_ms: float,
        wait_ms: float = 0.0,
        decode_ms: float = 0.0,
        publish_ms: float = 0.0,
    ) -> None:
        """Count one published frame and where its time went, in milliseconds.

        Args:
            latency_ms: From the frame's stamp to its publication. nan where it is not known; a negative one, of a clock
                that was set back meanwhile, is not kept.
            inference_ms: In the engine.
            wait_ms: From the frame's arrival until its turn.
            decode_ms: To read the image.
            publish_ms: To make and publish the outputs.
        """
        latency_ms = latency_ms if latency_ms >= 0 else float("nan")
        with self._lock:
            self.counts["segmented"] += 1
            self._recent.append((self.clock(), latency_ms, wait_ms, decode_ms, inference_ms, publish_ms))

    def status(
        self,
        name: str,
        values: dict[str, str],
        ready: bool,
        stale_seconds: float = float("inf"),
        slow_ms: float = 0.0,
        warnings: Iterable[str] = (),
    ) -> DiagnosticStatus:
        """Summarise the last seconds.

        The level is ERROR if a frame was bad or failed. It is WARN without a vocabulary, without a frame for
        `stale_seconds`, with many frames lost on the way, and with a latency (p99) over `slow_ms`.

        Args:
            name: Name of the status.
            values: Rows to add.
            ready: Whether there is a vocabulary.
            stale_seconds: Seconds without a frame that are worth a warning.
            slow_ms: Latency that is worth a warning, in milliseconds; 0: none.
            warnings: What else is to be warned of.
        """
        with self._lock:
            now = self.clock()
            while self._recent and self._recent[0][0] < now - WINDOW_SECONDS:
                self._recent.popleft()
            recent, counts = list(self._recent), dict(self.counts)
            error, fresh = self.last_error, now - self._error_time < WINDOW_SECONDS
            self.share_lost = lost = self._share_lost()
        rows = {f"frames {kind}": str(count) for kind, count in counts.items()}
        rows["frames per second"] = f"{len(recent) / WINDOW_SECONDS:.1f}"
        if recent and not any(np.isfinite(row[1]) for row in recent):
            rows["latency"] = "unknown: the frames' stamps come from another clock, or are not set"
        slowest = 0.0
        for stage, times in zip(STAGES, np.array(recent).T[1:] if recent else (), strict=False):
            known = times[np.isfinite(times)]
            if len(known):
                middle, high = np.percentile(known, (50, 99))
                rows[f"{stage} p50 (ms)"], rows[f"{stage} p99 (ms)"] = f"{middle:.1f}", f"{high:.1f}"
                slowest = high if stage == "latency" else slowest
        rows["last error"] = error
        silent = self.silence()
        warnings = [*([] if ready else ["waiting for a vocabulary"]), *warnings]
        if silent > stale_seconds:
            warnings.append(f"no frame for {silent:.0f} s")
        if lost > MANY_LOST:
            warnings.append(f"{lost:.0%} of the camera's frames are lost on the way: the DDS buffers may be too small")
        if slow_ms and slowest > slow_ms:
            warnings.append(f"latency p99 is {slowest:.0f} ms, over {slow_ms:.0f}")
        if fresh:
            level, message = DiagnosticStatus.ERROR, error
        elif warnings:
            level, message = DiagnosticStatus.WARN, "; ".join(warnings)
        elif recent:
            level, message = DiagnosticStatus.OK, f"segmenting at {rows['frames per second']} frames per second"
        else:
            level, message = DiagnosticStatus.OK, "idle: no frame arrived, or no output has a subscriber"
        return DiagnosticStatus(name=name, level=level, message=message, values=pairs({**values, **rows}))

    def _share_lost(self) -> float:
        """Return which share of the last seconds' frames was lost; the lock is held.

        What was lost shows when the next frame arrives, which may be seconds later.
        """
        now = self.clock()
        while len(self._reported) > 1 and self._reported[1][0] <= now - WINDOW_SECONDS:
            self._reported.popleft()
        received, lost = self.counts["received"], self.counts["lost"]
        self._reported.append((now, received, lost))
        began, received_before, lost_before = self._reported[0]
        if began <= now - WINDOW_SECONDS:
            received, lost = received - received_before, lost - lost_before
        return lost / max(1, received + lost)


def pairs(values: Mapping[str, str]) -> list[KeyValue]:
    """Write values by name as the rows of a DiagnosticStatus.

    Args:
        values: Texts by name.
    """
    return [KeyValue(key=key, value=value) for key, value in values.items()]
