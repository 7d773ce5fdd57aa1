"""What the node says about itself on /diagnostics: counts, rates and latencies of each camera, and memory."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

WINDOW_SECONDS = 5.0
WARNING_SECONDS = 5.0
KINDS = ("received", "lost", "segmented", "dropped", "skipped", "idle", "requested", "bad", "failed")
STAGES = ("latency", "wait", "decode", "inference", "publish")
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
    subscribed or no vocabulary yet; requested: segmented for a request alone; skipped: above the rate limit; dropped:
    replaced by a newer frame before its turn; failed: the engine raised; segmented: published.
    """

    clock: Callable[[], float] = time.monotonic
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    last_error: str = ""
    share_lost: float = 0.0  # of the camera's frames, in the seconds before the last status
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
        """Forget the newest message's number: what a new subscription has not heard before its first is not lost."""
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
        """Count one message and, by its publisher's numbering in rclpy's message info, those lost before it."""
        publisher, number = info.get("publisher_gid"), info.get("publication_sequence_number")
        with self._lock:
            self._heard = self.clock()
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

    def segmented(
        self,
        latency_ms: float,
        inference_ms: float,
        wait_ms: float = 0.0,
        decode_ms: float = 0.0,
        publish_ms: float = 0.0,
    ) -> None:
        """Count one published frame and where its time went.

        latency_ms: from its stamp to its publication; no number without a stamp, and none is kept where the clock was
        set back meanwhile.
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
    ) -> DiagnosticStatus:
        """Summarise the last seconds, with values added.

        ready is False while there is no vocabulary. ERROR: a frame was bad or failed. WARN: no vocabulary, no frame for
        stale_seconds, many lost on the way, or a latency (p99) over slow_ms, if that is not 0.
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
            rows["latency"] = "unknown: the frames' stamps are of another clock, or not set"
        slowest = 0.0
        for stage, times in zip(STAGES, np.array(recent).T[1:] if recent else (), strict=False):
            known = times[np.isfinite(times)]
            if len(known):
                middle, high = np.percentile(known, (50, 99))
                rows[f"{stage} p50 (ms)"], rows[f"{stage} p99 (ms)"] = f"{middle:.1f}", f"{high:.1f}"
                slowest = high if stage == "latency" else slowest
        rows["last error"] = error
        silent = self.silence()
        warnings = [] if ready else ["waiting for a vocabulary"]
        if silent > stale_seconds:
            warnings.append(f"no frame for {silent:.0f} s")
        if lost > MANY_LOST:
            warnings.append(f"{lost:.0%} of the camera's frames are lost on the way (are DDS buffers too small?)")
        if slow_ms and slowest > slow_ms:
            warnings.append(f"latency p99 is {slowest:.0f} ms, over {slow_ms:.0f}")
        if fresh:
            level, message = DiagnosticStatus.ERROR, error
        elif warnings:
            level, message = DiagnosticStatus.WARN, "; ".join(warnings)
        elif recent:
            level, message = DiagnosticStatus.OK, f"segmenting at {rows['frames per second']} frames per second"
        else:
            level, message = DiagnosticStatus.OK, "idle: no frame arrived, or nobody subscribes to an output"
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
    """Write values as the rows of a DiagnosticStatus."""
    return [KeyValue(key=key, value=value) for key, value in values.items()]


def worst(statuses: Iterable[DiagnosticStatus]) -> bytes:
    """Return the highest level among statuses."""
    return max((status.level for status in statuses), default=DiagnosticStatus.OK)


def memory() -> dict[str, str]:
    """Return the memory that this process holds, and on a GPU that torch holds, as rows."""
    rows = {}
    with contextlib.suppress(OSError):  # not on every system
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rows["memory (MB)"] = f"{pages * os.sysconf('SC_PAGESIZE') / 1e6:.0f}"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        rows["GPU memory (MB)"] = f"{torch.cuda.memory_reserved() / 1e6:.0f}"
    return rows
