"""From frames and requested labels to results: what happens on the worker's and the encoder's threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from synseg_model import Segmenter
from synseg_model.engines.upgrading import UpgradingEngine
from synseg_model.result import Result
from synseg_model.vocabulary import Vocabulary
from synseg_ros.interfaces.image_encodings import FrameError, to_rgb
from synseg_ros.node.vocabulary_input import Request, VocabularyEncoder
from synseg_ros.node.worker import Worker
from synseg_ros.parameters.tables import NodeSettings

PROMPTS_AT_ONCE = 8  # encoded between two frames, at least
SHARE_OF_FRAME = 0.5  # of a frame's time, for encoding more than those
SHARE_FOR_NAMES = 0.1  # the same for the model's own names, which nobody waits for
STOP_SECONDS = 0.5  # to wait for each of the three threads when the node ends


@dataclass(frozen=True)
class ActiveVocabulary:
    """The vocabulary in use, its version, which all made with it carries (0 while there is none), and its request.

    pedigree: how the model met each label, see `Segmenter.pedigree_of`; the nearest known names come later.
    """

    version: int = 0
    vocabulary: Vocabulary | None = None
    request: Request | None = None
    pedigree: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """A camera's message, how its image is read from it, and when it arrived, in monotonic seconds."""

    message: Any
    decode: Callable[[Any], np.ndarray]
    arrived: float

    def age(self) -> float:
        """Return the seconds since it arrived."""
        return time.monotonic() - self.arrived


@dataclass(frozen=True)
class Timing:
    """Where the time of one frame went, in milliseconds; inference is that of the whole batch."""

    wait: float
    decode: float
    inference: float


class Cameras(Protocol):
    """What the pipeline tells the cameras, by name."""

    def publish(
        self, camera: str, frame: Frame, image: np.ndarray, result: Result, version: int, timing: Timing
    ) -> None:
        """Publish a frame's result."""

    def failed(self, camera: str, kind: str, reason: str) -> None:
        """Note that a frame came to nothing: kind "bad" for the camera's fault, "failed" for the engine's."""

    def dropped(self, camera: str) -> None:
        """Note that a frame is no longer wanted."""

    def announce(self, active: ActiveVocabulary, refusal: str) -> None:
        """Tell everybody which vocabulary is in use now, or why the last request was refused."""


class Pipeline:
    """Segment frames with the vocabulary that was asked for last.

    settings: gives the node's settings in force. version: of the last vocabulary before this pipeline's first. Cameras
    are called on the worker's thread only. start() begins; stop() ends it. upgrade: the segmenter's engine, where a
    better one is to be built beside the frames.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        cameras: Cameras,
        settings: Callable[[], NodeSettings],
        on_error: Callable[[Exception], None],
        version: int = 0,
    ) -> None:
        self.segmenter: Segmenter | None = segmenter
        self.upgrade = segmenter.engine if isinstance(segmenter.engine, UpgradingEngine) else None
        self.active = ActiveVocabulary()  # replaced as a whole, on the worker's thread only
        self._refusal = ""  # of the last request
        self.worker: Worker[Frame] = Worker(self._segment, on_error)
        self.worker.pause()
        self._cameras, self._settings, self._version, self._on_error = cameras, settings, version, on_error
        self._encoder = VocabularyEncoder(
            self._prepare,
            on_ready=lambda ready: self.worker.between_frames(partial(self._install, *ready)),
            on_refused=lambda error: self.worker.between_frames(partial(self._refuse, error)),
            afterwards=self._find_nearest_names,
        )

    def start(self) -> None:
        """Start the threads, paused: vocabularies are taken, frames are not."""
        self.worker.start()
        self._encoder.start()
        if self.upgrade:
            self.upgrade.start()

    def request(self, request: Request) -> None:
        """Ask for a vocabulary."""
        self._encoder.request(request)

    def refresh(self) -> None:
        """Prepare the vocabulary in use again, because the thresholds in the settings have changed."""
        self._encoder.again()

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """End the threads and let go of the model.

        Returns False where one still works after the timeout, as a call of an engine may be long.
        """
        ended = self.upgrade is None or self.upgrade.stop(timeout)
        ended &= self.worker.stop(timeout)
        ended &= self._encoder.stop(timeout)  # may wait for the worker
        # Whatever else holds this pipeline a little longer, such as an executor's lists.
        self.segmenter = self.upgrade = None
        return ended

    # On the encoder's thread

    def _prepare(self, request: Request) -> tuple[Request, Callable[[], Vocabulary]]:
        """Return a request with what makes its vocabulary; of unknown labels only the last few are left to encode.

        Those are encoded on the engine's thread: two threads that compute at once on a CPU hold up each other.
        """
        labels, thresholds = request
        unknown = self.segmenter.unknown_labels(self.segmenter.check_vocabulary(labels, thresholds or None))
        if unknown:
            self._encode_between_frames(unknown)
            return request, partial(self._make, request)
        vocabulary = self._make(request)
        return request, lambda: vocabulary

    def _encode_between_frames(self, labels: Sequence[str]) -> None:
        """Let the cache embed a few labels between two frames, as many as take a part of a frame's time; not the last.

        All at once would hold up the cameras.
        """
        start, count = 0, self._fewest_labels()
        while start + count < len(labels):
            embed = partial(self.segmenter.prepare_vocabulary, labels[start : start + count])
            start, count = start + count, self._next_count(count, embed, self._fewest_labels(), SHARE_OF_FRAME)

    def _find_nearest_names(self, busy: Callable[[], bool]) -> None:
        """Say of labels that the model never met which names it knows are nearest, unless something else is to be done.

        For the first such label, the model's names are embedded between frames, too: a vocabulary never waits for that.
        """
        try:
            segmenter = self.segmenter
            if not segmenter.pedigree:
                return
            active = self.worker.in_turn(lambda: self.active)
            vocabulary = active.vocabulary
            if vocabulary is None or all(map(segmenter.pedigree.of, vocabulary.labels)):
                return
            names, count = segmenter.nearest_names, 1
            while names.missing:
                if busy():
                    return
                fewest = 1 if self.worker.round_seconds else self._fewest_labels()  # there were no frames yet
                count = self._next_count(count, partial(names.embed, count), fewest, SHARE_FOR_NAMES)
            pedigree = segmenter.pedigree_of(vocabulary)
        except Exception as error:  # what is only good to know must not end the thread
            self.worker.between_frames(partial(self._on_error, error))  # not at all where the pipeline is being ended
            return
        if pedigree != active.pedigree:
            self.worker.between_frames(partial(self._complete, active, pedigree))

    def _fewest_labels(self) -> int:
        return max(1, PROMPTS_AT_ONCE // len(self.segmenter.engine.config.templates))

    def _next_count(self, count: int, embed: Callable[[], object], fewest: int, share: float) -> int:
        """Embed so many labels between two frames; returns how many may follow, to take a share of a frame's time."""

        def seconds_to_embed() -> float:
            began = time.perf_counter()
            embed()
            return time.perf_counter() - began

        seconds = self.worker.in_turn(seconds_to_embed)
        return min(max(fewest, int(share * self.worker.round_seconds / seconds * count)), 2 * count)

    def _make(self, request: Request) -> Vocabulary:
        labels, thresholds = request
        vocabulary = self.segmenter.prepare_vocabulary(labels, thresholds or None)
        if thresholds:
            return vocabulary
        settings = self._settings()
        by_label = settings.thresholds_by_label()
        limits = [
            by_label.get(label.casefold(), settings.threshold or float(own))
            for label, own in zip(vocabulary.labels, vocabulary.thresholds, strict=True)
        ]
        return replace(vocabulary, thresholds=np.array(limits, np.float32))

    # On the worker's thread

    def _install(self, request: Request, make: Callable[[], Vocabulary]) -> None:
        try:
            vocabulary = make()
        except Exception as error:  # whatever an engine throws, the running vocabulary stays
            self._refuse(error)
            return
        running = self.active.vocabulary
        if not vocabulary.same_as(running):
            self._version += 1
            pedigree = self.segmenter.pedigree_of(vocabulary, nearest=False)
            self.active = ActiveVocabulary(self._version, vocabulary.following(running), request, pedigree)
        self._refusal = ""
        self._cameras.announce(self.active, "")

    def _complete(self, active: ActiveVocabulary, pedigree: tuple[str, ...]) -> None:
        if self.active is active:
            self.active = replace(active, pedigree=pedigree)
            self._cameras.announce(self.active, self._refusal)

    def _refuse(self, error: Exception) -> None:
        self._refusal = str(error) or type(error).__name__
        self._cameras.announce(self.active, self._refusal)

    def _segment(self, frames: Mapping[str, Frame]) -> None:
        active, taken = self.active, time.monotonic()
        images, decoding = {}, {}
        for name, frame in frames.items():
            began = time.perf_counter()
            try:
                images[name] = to_rgb(frame.decode, frame.message)
            except FrameError as error:
                self._failed(name, "bad", str(error))
            decoding[name] = 1e3 * (time.perf_counter() - began)
        began = time.perf_counter()
        try:
            results = self.segmenter.segment_batch(list(images.values()), vocabulary=active.vocabulary)
        except Exception as error:  # whatever an engine throws, the next frame may succeed
            if len(images) > 1:  # one camera's frame must not cost the others theirs
                for name in images:
                    self._segment({name: frames[name]})
            else:
                self._failed(*images, "failed", f"{type(error).__name__}: {error}")
            return
        inference = 1e3 * (time.perf_counter() - began)
        for (name, image), result in zip(images.items(), results, strict=True):
            if self.worker.paused:  # deactivated meanwhile
                self._cameras.dropped(name)
                continue
            timing = Timing(1e3 * (taken - frames[name].arrived), decoding[name], inference)
            try:
                self._cameras.publish(name, frames[name], image, result, active.version, timing)
            except Exception as error:  # one camera's frame must not cost the others theirs
                self._failed(name, "failed", f"{type(error).__name__}: {error}")

    def _failed(self, camera: str, kind: str, reason: str) -> None:
        """Note that a frame came to nothing, whatever goes wrong in that."""
        try:
            self._cameras.failed(camera, kind, reason)
        except Exception as error:
            self._on_error(error)
