"""Labels are encoded between frames, a few at a time: all at once would hold up the cameras."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from synseg_model import Segmenter
from synseg_ros.node.worker import Worker

PROMPTS_AT_ONCE = 8  # encoded between two frames, at least
SHARE_OF_FRAME = 0.5  # of a frame's time, for encoding more than those


class LabelEncoding:
    """Encode labels on the engine's thread, between frames. Called on other threads, which wait meanwhile.

    Args:
        segmenter: Keeps what is encoded in its cache.
        worker: The thread that owns the engine.
    """

    def __init__(self, segmenter: Segmenter, worker: Worker) -> None:
        self._segmenter, self._worker = segmenter, worker

    @property
    def fewest(self) -> int:
        """Labels that are encoded between two frames at least."""
        return max(1, PROMPTS_AT_ONCE // len(self._segmenter.engine.config.templates))

    def encode(self, labels: Sequence[str], last: bool = True) -> None:
        """Encode labels into the cache, as many between two frames as take a part of a frame's time.

        Args:
            labels: Labels that were checked.
            last: Whether to encode the last few of them, too.
        """
        start, count = 0, self.fewest
        while start + count < len(labels) or (last and start < len(labels)):
            encode = partial(self._segmenter.encode_labels, labels[start : start + count])
            start, count = start + count, self.next_count(count, encode, self.fewest, SHARE_OF_FRAME)

    def next_count(self, count: int, encode: Callable[[], object], fewest: int, share: float) -> int:
        """Encode `count` labels between two frames; return how many may follow, to take a share of a frame's time."""

        def seconds_to_encode() -> float:
            began = time.perf_counter()
            encode()
            return time.perf_counter() - began

        seconds = self._worker.in_turn(seconds_to_encode)
        return min(max(fewest, int(share * self._worker.round_seconds / seconds * count)), 2 * count)
