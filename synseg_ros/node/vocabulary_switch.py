"""From requested labels to the vocabulary in use: checked once, encoded meanwhile, switched between two frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from synseg_model import Segmenter
from synseg_model.vocabulary import CheckedLabels, Vocabulary
from synseg_ros.node.vocabulary_encoder import VocabularyEncoder
from synseg_ros.node.vocabulary_input import VocabularyRequest
from synseg_ros.node.worker import Worker
from synseg_ros.parameters.tables import NodeSettings

PROMPTS_AT_ONCE = 8  # encoded between two frames, at least
SHARE_OF_FRAME = 0.5  # of a frame's time, for encoding more than those
SHARE_FOR_NAMES = 0.1  # the same for the model's own names, which nobody waits for


@dataclass(frozen=True)
class ActiveVocabulary:
    """The vocabulary in use.

    Attributes:
        version: What all that is made with it carries; 0 while there is none.
        vocabulary: The vocabulary itself.
        request: The request that it answers.
        pedigree: How the model met each label, see `Segmenter.pedigree_of`; the nearest known names come later.
    """

    version: int = 0
    vocabulary: Vocabulary | None = None
    request: VocabularyRequest | None = None
    pedigree: tuple[str, ...] = ()


Prepared = tuple[VocabularyRequest, CheckedLabels, Vocabulary | None]  # no Vocabulary: labels are left to encode


class VocabularySwitch:
    """Prepare the vocabulary that was asked for last, and change to it between two frames.

    Args:
        segmenter: Checks and encodes labels.
        worker: The thread that owns the engine.
        settings: Returns the settings in force.
        announce: Publishes which vocabulary is in use now, and why the last request was refused ("" where it was not).
            Called on the worker's thread.
        on_error: Gets an exception that concerns no request.
        version: Version of the last vocabulary before the first one of this switch.

    Attributes:
        active: The vocabulary in use. Replaced as a whole, on the worker's thread only.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        worker: Worker,
        settings: Callable[[], NodeSettings],
        announce: Callable[[ActiveVocabulary, str], None],
        on_error: Callable[[Exception], None],
        version: int = 0,
    ) -> None:
        self.active = ActiveVocabulary()
        self._refusal = ""  # of the last request
        self._segmenter: Segmenter | None = segmenter
        self._worker, self._settings, self._version = worker, settings, version
        self._announce, self._on_error = announce, on_error
        self._encoder = VocabularyEncoder(
            self._prepare,
            on_ready=lambda prepared: worker.between_frames(partial(self._install, *prepared)),
            on_refused=lambda error: worker.between_frames(partial(self._refuse, error)),
            afterwards=self._find_nearest_names,
        )

    def start(self) -> None:
        """Start to take requests."""
        self._encoder.start()

    def request(self, request: VocabularyRequest) -> None:
        """Ask for a vocabulary.

        Args:
            request: Labels and thresholds, not checked yet.
        """
        self._encoder.request(request)

    def refresh(self) -> None:
        """Prepare the vocabulary in use again, because the thresholds in the settings have changed."""
        self._encoder.again()

    def stop(self, timeout: float) -> bool:
        """End the thread and let go of the model.

        Args:
            timeout: Seconds to wait for its end.

        Returns:
            False where it still works.
        """
        ended = self._encoder.stop(timeout)
        self._segmenter = None
        return ended

    # On the encoder's thread

    def _prepare(self, request: VocabularyRequest) -> Prepared:
        """Check the labels and encode them, but for the last few of those that the cache does not know.

        Those are left to the engine's thread: two threads that compute at once on a CPU hold up each other.
        """
        checked = self._with_own_thresholds(self._segmenter.check_vocabulary(*request), request)
        unknown = self._segmenter.unknown_labels(checked)
        if unknown:
            self._encode_between_frames(unknown)
            return request, checked, None
        return request, checked, self._segmenter.encode_vocabulary(checked)

    def _with_own_thresholds(self, checked: CheckedLabels, request: VocabularyRequest) -> CheckedLabels:
        """Put the thresholds in the settings before the model's, unless the request has its own."""
        if request.thresholds:
            return checked
        settings = self._settings()
        by_label = settings.thresholds_by_label()
        thresholds = [
            by_label.get(label.casefold(), settings.threshold or float(own))
            for label, own in zip(*checked, strict=True)
        ]
        return checked._replace(thresholds=np.array(thresholds, np.float32))

    def _encode_between_frames(self, labels: Sequence[str]) -> None:
        """Encode a few labels between two frames, as many as take a part of a frame's time; not the last.

        All at once would hold up the cameras.
        """
        start, count = 0, self._fewest_labels()
        while start + count < len(labels):
            encode = partial(self._segmenter.encode_labels, labels[start : start + count])
            start, count = start + count, self._next_count(count, encode, self._fewest_labels(), SHARE_OF_FRAME)

    def _find_nearest_names(self, busy: Callable[[], bool]) -> None:
        """Find the nearest known names of labels that the model never met, unless other work waits.

        For the first such label, the model's names are embedded between frames, too. A vocabulary never waits for that.
        """
        try:
            segmenter = self._segmenter
            if not segmenter.pedigree:
                return
            active = self._worker.in_turn(lambda: self.active)
            vocabulary = active.vocabulary
            if vocabulary is None or all(map(segmenter.pedigree.of, vocabulary.labels)):
                return
            names, count = segmenter.nearest_names, 1
            while names.missing:
                if busy():
                    return
                fewest = 1 if self._worker.round_seconds else self._fewest_labels()  # there were no frames yet
                count = self._next_count(count, partial(names.embed, count), fewest, SHARE_FOR_NAMES)
            pedigree = segmenter.pedigree_of(vocabulary)
        except Exception as error:  # what is only good to know must not end the thread
            self._worker.between_frames(partial(self._on_error, error))  # not at all where the pipeline is being ended
            return
        if pedigree != active.pedigree:
            self._worker.between_frames(partial(self._complete, active, pedigree))

    def _fewest_labels(self) -> int:
        return max(1, PROMPTS_AT_ONCE // len(self._segmenter.engine.config.templates))

    def _next_count(self, count: int, encode: Callable[[], object], fewest: int, share: float) -> int:
        """Encode `count` labels between two frames; return how many may follow, to take a share of a frame's time."""

        def seconds_to_encode() -> float:
            began = time.perf_counter()
            encode()
            return time.perf_counter() - began

        seconds = self._worker.in_turn(seconds_to_encode)
        return min(max(fewest, int(share * self._worker.round_seconds / seconds * count)), 2 * count)

    # On the worker's thread

    def _install(self, request: VocabularyRequest, checked: CheckedLabels, vocabulary: Vocabulary | None) -> None:
        """Use a prepared vocabulary from the next frame on."""
        try:
            vocabulary = vocabulary or self._segmenter.encode_vocabulary(checked)
        except Exception as error:  # whatever an engine throws, the running vocabulary stays
            self._refuse(error)
            return
        running = self.active.vocabulary
        if not vocabulary.same_as(running):
            self._version += 1
            pedigree = self._segmenter.pedigree_of(vocabulary, nearest=False)
            self.active = ActiveVocabulary(self._version, vocabulary.following(running), request, pedigree)
        self._refusal = ""
        self._announce(self.active, "")

    def _complete(self, active: ActiveVocabulary, pedigree: tuple[str, ...]) -> None:
        """Publish the nearest known names, if the vocabulary is still in use."""
        if self.active is active:
            self.active = replace(active, pedigree=pedigree)
            self._announce(self.active, self._refusal)

    def _refuse(self, error: Exception) -> None:
        """Publish why a request is refused; the vocabulary in use stays."""
        self._refusal = str(error) or type(error).__name__
        self._announce(self.active, self._refusal)
