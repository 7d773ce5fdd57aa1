"""One frame's way, from its camera's slot to its camera's outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from synseg_model import Segmenter
from synseg_model.engines.upgrading import UpgradingEngine
from synseg_model.result import Result
from synseg_model.vocabulary import Vocabulary
from synseg_ros.interfaces.image_encodings import FrameError
from synseg_ros.node.camera import Camera
from synseg_ros.node.frames import Frame, SegmentedFrame, Timing
from synseg_ros.node.looks import Look, Lookout
from synseg_ros.node.request_thread import RequestThread
from synseg_ros.node.vocabulary_clients import VocabularyClients
from synseg_ros.node.vocabulary_input import VocabularyRequest
from synseg_ros.node.vocabulary_switch import ActiveVocabulary, VocabularySwitch, own_thresholds
from synseg_ros.node.worker import Worker
from synseg_ros.parameters.tables import NodeSettings

STOP_SECONDS = 0.5  # to wait for each of the threads when the node ends


class _ReadFrame(NamedTuple):
    """A frame whose image (H, W, 3) uint8 RGB is read, and the milliseconds that it waited and that reading took."""

    frame: Frame
    image: np.ndarray
    wait_ms: float
    decode_ms: float


class _Turn(NamedTuple):
    """What is done with the frames of one turn: the vocabulary that is published, and looks with one of their own."""

    active: ActiveVocabulary
    publish: bool
    looks: Sequence[Look] = ()


class _Outcome(NamedTuple):
    """What came of one frame: for publishing, and for the looks."""

    read: _ReadFrame
    segmented: SegmentedFrame | None
    seen: Sequence[tuple[Look, Result]]


class Pipeline:
    """Segment the newest frame of every camera with the labels that clients want, and answer looks.

    Args:
        segmenter: Owned by the worker's thread from now on.
        cameras: By name; looked up on the worker's thread.
        settings: Returns the settings in force.
        announce: Publishes which vocabulary is in use now, see `VocabularySwitch`.
        on_error: Gets an exception that belongs to no camera.
        clients: What each client wants segmented.
        version: Version of the last vocabulary before this pipeline's first.

    Attributes:
        lookout: The requests that wait for frames.
        requests: Works on requests that come between.
        upgrade: The segmenter's engine, where a better one is being built in the background.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        cameras: Mapping[str, Camera],
        settings: Callable[[], NodeSettings],
        announce: Callable[[ActiveVocabulary, str], None],
        on_error: Callable[[Exception], None],
        clients: VocabularyClients,
        version: int = 0,
    ) -> None:
        self.segmenter: Segmenter | None = segmenter
        self.upgrade = segmenter.engine if isinstance(segmenter.engine, UpgradingEngine) else None
        self.worker = Worker(self._segment, on_error)
        self.worker.pause()
        self.vocabularies = VocabularySwitch(segmenter, self.worker, settings, announce, on_error, clients, version)
        self.lookout, self.requests = Lookout(), RequestThread(on_error)
        self._cameras, self._settings = cameras, settings

    @property
    def active(self) -> ActiveVocabulary:
        """The vocabulary in use."""
        return self.vocabularies.active

    def start(self) -> None:
        """Start the threads, paused: vocabularies are taken, frames are not."""
        self.worker.start()
        self.vocabularies.start()
        self.requests.start()
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
        ended &= self.requests.stop(timeout)  # the same
        # Whatever else holds this pipeline a little longer, such as an executor's lists.
        self.segmenter = self.upgrade = None
        return ended

    def prepare(self, labels: Sequence[str], thresholds: Sequence[float]) -> Vocabulary:
        """Check and encode labels between frames, without using them; called on a thread that may wait.

        Raises:
            VocabularyError: The labels or thresholds cannot be used.
        """
        segmenter, encoding = self.segmenter, self.vocabularies.encoding
        checked = segmenter.check_vocabulary(labels, thresholds)
        if not thresholds:
            own = map(own_thresholds(self._settings()), checked.labels, checked.thresholds.tolist())
            checked = checked._replace(thresholds=np.array(list(own), np.float32))
        encoding.encode(segmenter.unknown_labels(checked))
        return segmenter.encode_vocabulary(checked)

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
        """Read, segment and publish the frames that waited; called on the worker's thread.

        Looks are answered after that: nobody's masks come later because somebody else looks for something.
        """
        active, read = self.active, self._read(frames)
        publish = active.vocabulary is not None and any(self._cameras[one.frame.camera].wanted() for one in read)
        turn = _Turn(active, publish, self.lookout.due([one.frame for one in read]))
        outcomes = self._run_engine(read, turn)
        for outcome in outcomes:
            self._publish(outcome)
        for outcome in outcomes:
            for look, result in outcome.seen:
                frame = outcome.read.frame
                camera = self._cameras[frame.camera]
                look.see(frame, result, camera.positions_of, partial(camera.ids_of, outcome.segmented))

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

    def _run_engine(self, read: Sequence[_ReadFrame], turn: _Turn) -> list[_Outcome]:
        """Segment images for the vocabulary in use and for looks: in one call of the engine, where it can do that."""
        vocabularies = [turn.active.vocabulary] if turn.publish else []
        vocabularies += [look.vocabulary for look in turn.looks]
        if not read or not vocabularies:
            return [_Outcome(one, None, ()) for one in read]
        began = time.perf_counter()
        try:
            results = self.segmenter.segment_for_each([one.image for one in read], vocabularies)
        except Exception as error:  # whatever an engine throws, the next frame may succeed
            if turn.looks:  # which must cost nobody else a frame
                for look in turn.looks:
                    look.fail(f"the engine failed: {type(error).__name__}: {error}")
                return self._run_engine(read, turn._replace(looks=()))
            if len(read) > 1:  # one camera's frame must not cost the others theirs
                return [outcome for one in read for outcome in self._run_engine([one], turn)]
            self._cameras[read[0].frame.camera].log.failed(error)
            return []
        inference_ms = 1e3 * (time.perf_counter() - began)
        published = results.pop(0) if turn.publish else [None] * len(read)
        outcomes = []
        for index, (one, result) in enumerate(zip(read, published, strict=True)):
            seen = [(look, own[index]) for look, own in zip(turn.looks, results, strict=True) if look.wants(one.frame)]
            timing = Timing(one.wait_ms, one.decode_ms, inference_ms)
            outcome = _Outcome(one, None, seen)
            if result is not None:
                segmented = SegmentedFrame(one.frame, one.image, result, turn.active.version, timing)
                outcome = outcome._replace(segmented=segmented)
            outcomes.append(outcome)
        return outcomes

    def _publish(self, outcome: _Outcome) -> None:
        """Publish all that is wanted of a frame, unless the node was deactivated meanwhile; count it in any case."""
        camera = self._cameras[outcome.read.frame.camera]
        if self.worker.paused:
            camera.statistics.count("dropped")
        elif outcome.segmented is not None:
            camera.publish(outcome.segmented)
        else:
            camera.statistics.count("requested" if outcome.seen else "idle")
