"""What each client wants segmented, and what all of them want together. Knows nothing of ROS."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from synseg_model.config import MAX_LABELS
from synseg_model.folding import case_key
from synseg_model.vocabulary import CheckedLabels

TOPIC = "topic"  # what the topic synseg/vocab and the parameter `labels` want: a client whose lease never ends
_NAME = re.compile(r"[\w./-]{1,64}", re.ASCII)


class ClientError(ValueError):
    """What a client asks for cannot be granted; the text says why, and what can."""


@dataclass(frozen=True)
class ClientLimits:
    """Say what clients may have.

    Args:
        labels: Labels of one client at most. The topic may have as many as there is room for.
        total: Labels of all clients at most, those that several want counted once.
        clients: Clients at most, besides the topic.
        default_lease: Seconds of a lease that says 0.
        longest_lease: Seconds that a lease may have at most.
    """

    labels: int = 64
    total: int = MAX_LABELS
    clients: int = 16
    default_lease: float = 30.0
    longest_lease: float = 3600.0


@dataclass(frozen=True, eq=False)
class Wish:
    """Hold what one client wants.

    Args:
        checked: Its labels, tidied, and their thresholds.
        own_thresholds: Whether the client gave the thresholds; else those of the settings come before them.
        given: The request as it was made, by which a client that only renews its lease is known.
        lease: Seconds for which the labels are kept.
        ends: When they are forgotten, by the clock of `VocabularyClients`.
    """

    checked: CheckedLabels
    own_thresholds: bool
    given: object
    lease: float
    ends: float


@dataclass(frozen=True)
class Union:
    """Hold what all clients want together.

    Args:
        checked: K labels with the lowest threshold that a client asks for, spelled as the first client spells them.
        wanted_by: Per label the names of the clients that want it.
    """

    checked: CheckedLabels
    wanted_by: tuple[tuple[str, ...], ...]


class VocabularyClients:
    """Keep the labels of each client until it withdraws them or its lease ends. Any thread may call.

    No client of a service can starve another: as many as there may be at most fit into the default limits with all
    their labels.

    Args:
        limits: What clients may have; None: the defaults of ClientLimits.
        clock: Returns seconds, on a clock that nobody sets back.

    Example:
        >>> clients = VocabularyClients()
        >>> clients.put("tidy_up", segmenter.check_vocabulary(["mug"]), own_thresholds=False, lease=30.0)
        >>> clients.union(lambda label, own: own).wanted_by
        (('tidy_up',),)
    """

    def __init__(self, limits: ClientLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or ClientLimits()
        self._clock = clock
        self._wishes: dict[str, Wish] = {}  # in the order of arrival
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the clients that want something."""
        return len(self._wishes)

    @property
    def names(self) -> tuple[str, ...]:
        """The clients that want something, in the order of arrival."""
        with self._lock:
            return tuple(self._wishes)

    def wish(self, client: str) -> Wish | None:
        """Return what a client wants, None where that is nothing."""
        with self._lock:
            return self._wishes.get(client)

    def check(self, client: str, count: int, lease: float) -> float:
        """Check all of a request that shows without reading its labels.

        Args:
            client: Name of the client.
            count: Number of its labels.
            lease: Seconds that it asks for, 0 for the default.

        Returns:
            The seconds of its lease.

        Raises:
            ClientError: The request is refused.
        """
        limits = self.limits
        if not _NAME.fullmatch(client) or client == TOPIC:
            raise ClientError(
                f"client {client[:80]!r}: expected a name of 1 to 64 letters, digits and _ . / -, and not {TOPIC!r}, "
                "which is the topic synseg/vocab"
            )
        if count > limits.labels:
            raise ClientError(f"{count} labels: one client may have {limits.labels} at most (parameter client_labels)")
        if not (lease == 0 or 1 <= lease <= limits.longest_lease):  # nan is in no order
            raise ClientError(f"lease of {lease:g} s: expected 1 to {limits.longest_lease:g}, or 0 for the default")
        return lease or limits.default_lease

    def put(
        self,
        client: str,
        checked: CheckedLabels,
        own_thresholds: bool,
        given: object = None,
        lease: float = math.inf,
    ) -> tuple[Wish, Wish | None]:
        """Let a client want these labels, in place of what it wanted before.

        Args:
            client: Name of the client.
            checked: Its labels and thresholds.
            own_thresholds: Whether the client gave the thresholds.
            given: The request as it was made.
            lease: Seconds for which the labels are kept.

        Returns:
            What it wants now, and what it wanted before, for `restore`.

        Raises:
            ClientError: There is no room for the client or its labels; what it wanted before stays.
        """
        wish = Wish(checked, own_thresholds, given, lease, self._clock() + lease)
        with self._lock:
            others = {name: other for name, other in self._wishes.items() if name != client}
            if client != TOPIC and len(others.keys() - {TOPIC}) >= self.limits.clients:
                raise ClientError(
                    f"{self.limits.clients} clients have labels, and there may be no more: {', '.join(sorted(others))}"
                )
            held = _keys(others)
            new = len(_keys({client: wish}) - held)
            if len(held) + new > self.limits.total:
                raise ClientError(
                    f"{new} labels more than the {len(held)} of other clients ({', '.join(sorted(others)) or 'none'}): "
                    f"the node takes {self.limits.total} in all (parameter max_labels)"
                )
            before = self._wishes.get(client)
            self._wishes[client] = wish
        return wish, before

    def restore(self, client: str, wish: Wish, before: Wish | None) -> None:
        """Take back a `put` whose labels turned out not to be usable, unless the client has asked again since."""
        with self._lock:
            if self._wishes.get(client) is wish:
                if before is None:
                    self._wishes.pop(client, None)
                else:
                    self._wishes[client] = before

    def renew(self, client: str) -> None:
        """Begin a client's lease anew."""
        with self._lock:
            wish = self._wishes.get(client)
            if wish is not None:
                self._wishes[client] = replace(wish, ends=self._clock() + wish.lease)

    def withdraw(self, client: str) -> bool:
        """Forget what a client wants; return False where that was nothing."""
        with self._lock:
            return self._wishes.pop(client, None) is not None

    def expire(self) -> tuple[str, ...]:
        """Forget the clients whose leases have ended, and return their names."""
        now = self._clock()
        with self._lock:
            ended = tuple(name for name, wish in self._wishes.items() if wish.ends <= now)
            for name in ended:
                del self._wishes[name]
        return ended

    def union(self, threshold_of: Callable[[str, float], float]) -> Union:
        """Return what all clients want together: the topic's labels first, then by the clients' order of arrival.

        Args:
            threshold_of: Returns the threshold for a label whose client gave none, from the label and the model's own.
        """
        with self._lock:
            wishes = dict(self._wishes)
        labels: dict[str, str] = {}  # by what makes labels equal
        thresholds: dict[str, float] = {}
        wanted_by: dict[str, list[str]] = {}
        for client in sorted(wishes, key=lambda name: name != TOPIC):
            wish = wishes[client]
            for label, threshold in zip(wish.checked.labels, wish.checked.thresholds.tolist(), strict=True):
                key = case_key(label)
                value = threshold if wish.own_thresholds else threshold_of(label, threshold)
                labels.setdefault(key, label)
                thresholds[key] = min(value, thresholds.get(key, math.inf))
                wanted_by.setdefault(key, []).append(client)
        checked = CheckedLabels(tuple(labels.values()), np.array(list(thresholds.values()), np.float32))
        return Union(checked, tuple(map(tuple, wanted_by.values())))


def _keys(wishes: dict[str, Wish]) -> set[str]:
    """Return what the labels of several wishes are known by."""
    return {case_key(label) for wish in wishes.values() for label in wish.checked.labels}
