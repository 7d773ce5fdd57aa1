"""A feed of a camera device, a video or images: one thread reads, one segments, one encodes new labels."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from synseg_model.io.image_file import MediaError
from synseg_model.io.sources import Source
from synseg_model.live.feed import FeedListener, Found, LiveFrame, LiveLabels, shrink
from synseg_model.segmenter import Segmenter
from synseg_model.vocabulary import Vocabulary, VocabularyError

__all__ = ["SourceFeed"]

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0  # until a source that failed is tried again
IMAGE_SECONDS = 2.0  # that each image of a folder is shown
VIDEO_FPS = 25.0  # of a video that names no rate
_REASONS = 3  # that a message has
JOIN_SECONDS = 5.0  # a camera that was unplugged may hold its reader longer


class SourceFeed:
    """Play a source as a camera and segment its newest frame. Videos and folders start again at their end.

    Args:
        source: where images come from.
        segmenter: a Segmenter without a vocabulary.
        name: what users read.
        fps: frames per second; 0 for the source's own. A device sets its own rate.
    """

    def __init__(self, source: Source, segmenter: Segmenter, name: str, fps: float = 0.0) -> None:
        self.name = name
        engine = segmenter.engine
        self.model = f"{engine.config.name} ({engine.name} on {engine.device})"
        self._source, self._segmenter = source, segmenter
        self._fps = fps or source.fps or (1 / IMAGE_SECONDS if source.kind == "images" else VIDEO_FPS)
        self._listener: FeedListener | None = None
        self._ending = threading.Event()
        self._changed = threading.Condition()  # guards all below
        self._resting = True
        self._image: np.ndarray | None = None
        self._captured = 0.0
        self._is_new = False  # the image, the vocabulary or both
        self._vocabulary: Vocabulary | None = None
        self._request: tuple[list[str], list[float | None]] | None = None
        self._threads: list[threading.Thread] = []
        self._encoder = ThreadPoolExecutor(1, "synseg-live-labels")

    def start(self, listener: FeedListener) -> None:
        """Start to read and to segment, resting at first.

        Args:
            listener: what is told of frames, labels and trouble.
        """
        self._listener = listener
        for name, target in (("reader", self._read), ("engine", self._work)):
            # A reader may hang in a driver for good, which must not keep the process.
            thread = threading.Thread(target=target, name=f"synseg-live-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def ask(self, labels: list[str], thresholds: list[float | None]) -> None:
        """Ask for labels; a request that is still waiting is replaced.

        Args:
            labels: any texts.
            thresholds: one per label, in [0, 1]; None for the model's own.
        """
        with self._changed:
            if self._ending.is_set():
                return
            self._request = labels, thresholds
            self._encoder.submit(self._encode)

    def rest(self, resting: bool) -> None:
        """Give no new frames while resting; a video stands still meanwhile.

        Args:
            resting: whether to rest.
        """
        with self._changed:
            self._resting = resting
            self._changed.notify_all()

    def close(self) -> None:
        """End all threads; a reader that hangs in a driver is left behind."""
        with self._changed:
            self._ending.set()
            self._changed.notify_all()
        self._encoder.shutdown(cancel_futures=True)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def _read(self) -> None:
        """Read the source again and again, at its pace; after an error, try again later."""
        broken = False
        while not self._ending.is_set():
            due, count = time.monotonic(), 0
            try:
                for count, (_, image) in enumerate(self._source, start=1):  # noqa: B007
                    if broken:
                        broken = False
                        self._listener.on_trouble("source", "")
                    if not self._offer(shrink(image)):
                        return
                    due = max(due + 1 / self._fps, time.monotonic() - 1 / self._fps)
                    if self._source.kind != "device" and self._ending.wait(max(0.0, due - time.monotonic())):
                        return
                self._listener.on_trouble("source", _joined([reason for _, reason in self._source.skipped]))
                if not count:
                    self._ending.wait(RETRY_SECONDS)
            except Exception as error:  # whatever a driver does, the page stays and the source may come back
                broken = True
                expected = isinstance(error, (MediaError, OSError))
                self._listener.on_trouble("source", str(error) if expected else f"{type(error).__name__}: {error}")
                self._ending.wait(RETRY_SECONDS)

    def _offer(self, image: np.ndarray) -> bool:
        """Replace the newest image, and wait while a file rests; return False at the end."""
        with self._changed:
            if self._source.kind != "device":
                self._changed.wait_for(lambda: not self._resting or self._ending.is_set())
            if not self._resting:
                self._image, self._captured, self._is_new = image, time.monotonic(), True
                self._changed.notify_all()
        return not self._ending.is_set()

    def _work(self) -> None:
        """Segment the newest image whenever it or the vocabulary is new."""
        failed = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_new or self._ending.is_set())
                if self._ending.is_set():
                    return
                self._is_new = False
                image, captured, vocabulary = self._image, self._captured, self._vocabulary
            try:
                frame = self._segment(image, vocabulary, captured)
            except Exception as error:
                failed = True
                logger.debug("the engine failed", exc_info=True)
                self._listener.on_trouble("engine", f"the engine failed: {type(error).__name__}: {error}")
                continue
            if failed:
                failed = False
                self._listener.on_trouble("engine", "")
            self._listener.on_frame(frame)

    def _segment(self, image: np.ndarray, vocabulary: Vocabulary | None, captured: float) -> LiveFrame:
        if vocabulary is None:
            return LiveFrame(image, captured=captured)
        start = time.perf_counter()
        result = self._segmenter.segment(image, vocabulary)
        milliseconds = 1000 * (time.perf_counter() - start)
        pixels = image.shape[0] * image.shape[1]
        present = set(result.present)
        found = {
            number: Found(
                result.score(index) if index in present else 0.0,
                float(result.presence[index]),
                result.area(index) / pixels if index in present else 0.0,
            )
            for index, number in enumerate(vocabulary.ids)
        }
        return LiveFrame(image, _described(vocabulary), result.label_map, found, captured, milliseconds)

    def _encode(self) -> None:
        """Check and encode the newest request, and use it from the next frame on."""
        with self._changed:
            request, self._request = self._request, None
        if request is None:  # an earlier call has taken it
            return
        labels, thresholds = request
        default = self._segmenter.engine.config.threshold
        values = [default if threshold is None else threshold for threshold in thresholds]
        try:
            vocabulary = self._segmenter.prepare_vocabulary(labels, values).following(self._vocabulary)
        except VocabularyError as error:
            self._listener.on_refusal(str(error))
            return
        except Exception as error:
            self._listener.on_refusal(f"the labels cannot be encoded: {type(error).__name__}: {error}")
            return
        self._listener.on_labels(_described(vocabulary))  # before the first frame that has them
        with self._changed:
            self._vocabulary = vocabulary
            self._is_new = self._image is not None
            self._changed.notify_all()


def _joined(reasons: list[str]) -> str:
    more = f"; and {len(reasons) - _REASONS} more" if len(reasons) > _REASONS else ""
    return "; ".join(reasons[:_REASONS]) + more


def _described(vocabulary: Vocabulary) -> LiveLabels:
    # A threshold of 0.4 is 0.4000000059604645 as float32.
    thresholds = tuple(round(float(threshold), 6) for threshold in vocabulary.thresholds)
    return LiveLabels(vocabulary.labels, vocabulary.ids, thresholds, (True,) * len(vocabulary))
