"""One frame's way, from its camera's slot to its camera's outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from synseg_model import Segmenter
from synseg_model.engines.upgrading import UpgradingEngine
from synseg_ros.interfaces.image_encodings import FrameError
from synseg_ros.node.camera import Camera
from synseg_ros.node.frames import Frame, SegmentedFrame, Timing
from synseg_ros.node.vocabulary_input import VocabularyRequest
from synseg_ros.node.vocabulary_switch import ActiveVocabulary, VocabularySwitch
from synseg_ros.node.worker import Worker
from synseg_ros.parameters.tables import NodeSettings

STOP_SECONDS = 0.5  # to wait for each of the three threads when the node ends


class _ReadFrame(NamedTuple):
    """A frame whose image (H, W, 3) uint8 RGB is read, and the milliseconds that it waited and that reading took."""

    frame: Frame
    image: np.ndarray
    wait_ms: float
    decode_ms: float


class Pipeline:
    """Segment the newest frame of every camera with the vocabulary that was asked for last.

    Args:
        segmenter: Owned by the worker's thread from now on.
        cameras: By name; looked up on the worker's thread.
        settings: Returns the settings in force.
        announce: Publishes which vocabulary is in use now, see `VocabularySwitch`.
        on_error: Gets an exception that belongs to no camera.
        version: Version of the last vocabulary before this pipeline's first.

    Attributes:
        upgrade: The segmenter's engine, where a better one is being built in the background.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        cameras: Mapping[str, Camera],
        settings: Callable[[], NodeSettings],
        announce: Callable[[ActiveVocabulary, str], None],
        on_error: Callable[[Exception], None],
        version: int = 0,
    ) -> None:
        self.segmenter: Segmenter | None = segmenter
        self.upgrade = segmenter.engine if isinstance(segmenter.engine, UpgradingEngine) else None
        self.worker = Worker(self._segment, on_error)
        self.worker.pause()
        self.vocabularies = VocabularySwitch(segmenter, self.worker, settings, announce, on_error, version)
        self._cameras = cameras

    @property
    def active(self) -> ActiveVocabulary:
        """The vocabulary in use."""
        return self.vocabularies.active

    def start(self) -> None:
        """Start the threads, paused: vocabularies are taken, frames are not."""
        self.worker.start()
        self.vocabularies.start()
        if self.upgrade:
            self.upgrade.start()

    def request(self, request: VocabularyRequest) -> None:
        """Ask for a vocabulary.

        Args:
            request: Labels and thresholds, not checked yet.
        """
        self.vocabularies.request(request)

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """End the threads and let go of the model.

        Args:
            timeout: Seconds to wait for each thread.

        Returns:
            False where a thread still works, as a call of an engine may take long.
        """
        ended = self.upgrade is None or self.upgrade.stop(timeout)
        ended &= self.worker.stop(timeout)
        ended &= self.vocabularies.stop(timeout)  # may wait for the worker
        # Whatever else holds this pipeline a little longer, such as an executor's lists.
        self.segmenter = self.upgrade = None
        return ended

    # One frame's way

    def offer(self, frame: Frame) -> bool:
        """Let a frame wait for its turn.

        Args:
            frame: A frame that passed its checks.

        Returns:
            False when it replaced an older frame of its camera that still waited.
        """
        return self.worker.offer(frame)

    def _segment(self, frames: Sequence[Frame]) -> None:
        """Read, segment and publish the frames that waited; called on the worker's thread."""
        active = self.active
        for segmented in self._run_engine(self._read(frames), active):
            self._publish(segmented)

    def _read(self, frames: Sequence[Frame]) -> list[_ReadFrame]:
        """Read the images; one that cannot be read costs its camera this frame only."""
        read, taken = [], time.monotonic()
        for frame in frames:
            began = time.perf_counter()
            try:
                image = frame.to_rgb()
            except FrameError as error:
                self._cameras[frame.camera].log.bad(str(error))
                continue
            read.append(_ReadFrame(frame, image, 1e3 * (taken - frame.received), 1e3 * (time.perf_counter() - began)))
        return read

    def _run_engine(self, read: Sequence[_ReadFrame], active: ActiveVocabulary) -> list[SegmentedFrame]:
        """Segment images in one call of the engine, with any vocabulary.

        A request with labels of its own would be answered here: from the same images, by another call with its
        vocabulary, which leaves the one in use as it is.
        """
        if not read:
            return []
        began = time.perf_counter()
        try:
            results = self.segmenter.segment_batch([one.image for one in read], vocabulary=active.vocabulary)
        except Exception as error:  # whatever an engine throws, the next frame may succeed
            if len(read) > 1:  # one camera's frame must not cost the others theirs
                return [segmented for one in read for segmented in self._run_engine([one], active)]
            self._cameras[read[0].frame.camera].log.failed(error)
            return []
        inference_ms = 1e3 * (time.perf_counter() - began)
        return [
            SegmentedFrame(frame, image, result, active.version, Timing(wait_ms, decode_ms, inference_ms))
            for (frame, image, wait_ms, decode_ms), result in zip(read, results, strict=True)
        ]

    def _publish(self, segmented: SegmentedFrame) -> None:
        """Publish all that is wanted of a frame, unless the node was deactivated meanwhile."""
        camera = self._cameras[segmented.frame.camera]
        if self.worker.paused:
            camera.statistics.count("dropped")
        else:
            camera.publish(segmented)
