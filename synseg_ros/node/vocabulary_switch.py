"""From what clients want to the vocabulary in use: checked once, encoded meanwhile, switched between two frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from synseg_model import Segmenter
from synseg_model.vocabulary import Vocabulary
from synseg_ros.node.label_encoding import LabelEncoding
from synseg_ros.node.label_ids import LabelIds
from synseg_ros.node.vocabulary_clients import TOPIC, Union, VocabularyClients
from synseg_ros.node.vocabulary_encoder import VocabularyEncoder
from synseg_ros.node.vocabulary_input import VocabularyRequest
from synseg_ros.node.worker import Worker
from synseg_ros.parameters.tables import NodeSettings

SHARE_FOR_NAMES = 0.1  # of a frame's time, for the model's own names, which nobody waits for


@dataclass(frozen=True)
class ActiveVocabulary:
    """The vocabulary in use.

    Attributes:
        version: What all that is made with it carries; 0 before the first.
        vocabulary: The vocabulary itself; None while nobody wants any label.
        wanted_by: Per label the names of the clients that want it.
        pedigree: How the model met each label, see `Segmenter.pedigree_of`; the nearest known names come later.
    """

    version: int = 0
    vocabulary: Vocabulary | None = None
    wanted_by: tuple[tuple[str, ...], ...] = ()
    pedigree: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Change:
    """Hold what changes the vocabulary.

    Attributes:
        client: Whose labels change; "" where only leases have ended or thresholds in the settings are others.
        request: What the client wants from now on; None: nothing.
        lease: Seconds for which that is kept.
        answer: Gets the vocabulary in use when the change is done, and why it was refused, "" where it was not. Called
            on the worker's thread, or on the caller's where a newer change of the same client comes first.
    """

    client: str = ""
    request: VocabularyRequest | None = None
    lease: float = math.inf
    answer: Callable[[ActiveVocabulary, str], None] = lambda active, refusal: None


class _Prepared(NamedTuple):
    """A change that is ready: what all clients want then, and how to take it back."""

    change: Change
    union: Union
    vocabulary: Vocabulary | None  # None: labels are left to encode, or there are none
    undo: Callable[[], None]


class VocabularySwitch:
    """Prepare what all clients want together, and change to it between two frames.

    Args:
        segmenter: Checks and encodes labels.
        worker: The thread that owns the engine.
        settings: Returns the settings in force.
        announce: Publishes which vocabulary is in use now, and why the topic's last request was refused ("" where it
            was not). Called on the worker's thread.
        on_error: Gets an exception that concerns no request.
        clients: What each client wants. It may hold labels already, which `refresh` then takes into use.
        version: Version of the last vocabulary before the first one of this switch.

    Attributes:
        active: The vocabulary in use. Replaced as a whole, on the worker's thread only.
        encoding: Encodes labels between frames.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        worker: Worker,
        settings: Callable[[], NodeSettings],
        announce: Callable[[ActiveVocabulary, str], None],
        on_error: Callable[[Exception], None],
        clients: VocabularyClients,
        version: int = 0,
    ) -> None:
        self.active = ActiveVocabulary()
        self.encoding = LabelEncoding(segmenter, worker)
        self._refusal = ""  # of the last request
        self._segmenter: Segmenter | None = segmenter
        self._worker, self._settings, self._version = worker, settings, version
        self._announce, self._on_error, self._clients = announce, on_error, clients
        self._ids = LabelIds()
        self._encoder: VocabularyEncoder[Change, _Prepared] = VocabularyEncoder(
            self._prepare,
            on_ready=lambda prepared: worker.between_frames(partial(self._install, prepared)),
            on_refused=lambda change, error: worker.between_frames(partial(self._refuse, change, error)),
            afterwards=self._find_nearest_names,
        )

    def start(self) -> None:
        """Start to take requests."""
        self._encoder.start()

    def request(self, request: VocabularyRequest) -> None:
        """Ask for the vocabulary of the topic.

        Args:
            request: Labels and thresholds, not checked yet.
        """
        self.change(Change(TOPIC, request))

    def change(self, change: Change) -> None:
        """Ask for what one client wants.

        Args:
            change: What it wants. One of the same client that still waits is answered that it is too old.
        """
        replaced = self._encoder.request(change, change.client)
        if replaced is not None:
            replaced.answer(self.active, f"a newer request of {change.client} came before this one's turn")

    def refresh(self) -> None:
        """Prepare what is wanted again, because leases have ended or the thresholds in the settings have changed."""
        if len(self._clients) or self.active.vocabulary is not None:
            self.change(Change())

    def expire(self) -> tuple[str, ...]:
        """Forget the labels of clients whose leases have ended; return their names."""
        ended = self._clients.expire()
        if ended:
            self.refresh()
        return ended

    def stop(self, timeout: float) -> bool:
        """End the thread and let go of the model.

        Args:
            timeout: Seconds to wait for its end.

        Returns:
            False where it still works.
        """
        ended = self._encoder.stop(timeout)
        self._segmenter = self.encoding = None
        return ended

    # On the encoder's thread

    def _prepare(self, change: Change) -> _Prepared:
        """Check a change and encode its labels, but for the last few of those that the cache does not know.

        Those are left to the engine's thread: two threads that compute at once on a CPU hold up each other.
        """
        undo = self._apply(change)
        try:
            union = self._clients.union(own_thresholds(self._settings()))
            if not union.checked.labels:
                return _Prepared(change, union, None, undo)
            unknown = self._segmenter.unknown_labels(union.checked)
            if unknown:
                self.encoding.encode(unknown, last=False)
                return _Prepared(change, union, None, undo)
            return _Prepared(change, union, self._segmenter.encode_vocabulary(union.checked), undo)
        except Exception:
            undo()
            raise

    def _apply(self, change: Change) -> Callable[[], None]:
        """Note what a client wants from now on; return what takes that back."""
        if change.request is None:
            self._clients.withdraw(change.client)
            return lambda: None
        labels, thresholds = change.request
        checked = self._segmenter.check_vocabulary(labels, thresholds)
        wish, before = self._clients.put(change.client, checked, bool(thresholds), change.request, change.lease)

        return lambda: self._clients.restore(change.client, wish, before)

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
                fewest = 1 if self._worker.round_seconds else self.encoding.fewest  # there were no frames yet
                count = self.encoding.next_count(count, partial(names.embed, count), fewest, SHARE_FOR_NAMES)
            pedigree = segmenter.pedigree_of(vocabulary)
        except Exception as error:  # what is only good to know must not end the thread
            self._worker.between_frames(partial(self._on_error, error))  # not at all where the pipeline is being ended
            return
        if pedigree != active.pedigree:
            self._worker.between_frames(partial(self._complete, active, pedigree))

    # On the worker's thread

    def _install(self, prepared: _Prepared) -> None:
        """Use a prepared vocabulary from the next frame on."""
        change, union, vocabulary, undo = prepared
        try:
            if vocabulary is None and union.checked.labels:
                vocabulary = self._segmenter.encode_vocabulary(union.checked)
        except Exception as error:  # whatever an engine throws, the running vocabulary stays
            undo()
            if change.request is not None:
                # What another client asked for meanwhile was prepared together with it. Before the answer: what its
                # client asks next must not be in what is prepared again.
                self.refresh()
            self._refuse(change, error)
            return
        self._use(vocabulary, union.wanted_by)
        if change.request is not None:
            self._clients.renew(change.client)  # a lease begins when its labels are in use
        if change.client:
            self._refusal = ""
        self._announce(self.active, self._refusal)
        change.answer(self.active, "")

    def _use(self, vocabulary: Vocabulary | None, wanted_by: tuple[tuple[str, ...], ...]) -> None:
        """Make a vocabulary the one in use, under a new version where it is another."""
        before = self.active
        if vocabulary is None:
            self._version += before.vocabulary is not None
            self.active = ActiveVocabulary(self._version)
        elif vocabulary.same_as(before.vocabulary):
            self.active = replace(before, wanted_by=wanted_by)
        else:
            self._version += 1
            clients = {client for clients in (*before.wanted_by, *wanted_by) for client in clients}
            vocabulary = replace(vocabulary, ids=self._ids.assign(vocabulary.labels, rest=clients != {TOPIC}))
            pedigree = self._segmenter.pedigree_of(vocabulary, nearest=False)
            self.active = ActiveVocabulary(self._version, vocabulary, wanted_by, pedigree)

    def _complete(self, active: ActiveVocabulary, pedigree: tuple[str, ...]) -> None:
        """Publish the nearest known names, if the vocabulary is still in use."""
        if self.active.vocabulary is active.vocabulary:
            self.active = replace(self.active, pedigree=pedigree)
            self._announce(self.active, self._refusal)

    def _refuse(self, change: Change, error: Exception) -> None:
        """Say why a change is refused; the vocabulary in use stays."""
        reason = str(error) or type(error).__name__
        if change.client in ("", TOPIC):
            self._refusal = reason
            self._announce(self.active, reason)
        change.answer(self.active, reason)


def own_thresholds(settings: NodeSettings) -> Callable[[str, float], float]:
    """Return what gives a label's threshold in the settings, which come before the model's own."""
    by_label = settings.thresholds_by_label()
    return lambda label, own: by_label.get(label.casefold(), settings.threshold or own)
