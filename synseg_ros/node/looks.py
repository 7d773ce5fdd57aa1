"""Requests that wait for the next frames: where something is, asked without touching the running vocabulary."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from std_msgs.msg import Header

from synseg_model.instances import Instance, find_in_masks
from synseg_model.result import Result
from synseg_model.vocabulary import Vocabulary
from synseg_ros.node.frames import Frame
from synseg_ros.space.object_finder import Positions

ROUNDING = 1e-4  # how far an activation may rise when it is resampled
LABELS_AT_ONCE = 256  # of looks, that are decoded with one frame at most; other looks wait for the next one


# From a frame, its instances and its size (H, W): per instance where it is, or why that is not known.
PositionsOf = Callable[[Frame, Sequence[Instance], tuple[int, int]], Positions]
IdsOf = Callable[[Sequence[Instance]], tuple[int, ...]]  # from instances of a frame: per instance its id, or 0


@dataclass(frozen=True)
class Sighting:
    """Hold what one frame shows of one label.

    Attributes:
        camera: Name of the camera.
        header: Header of the frame.
        shape: (H, W) of the frame in pixels.
        presence: The label's largest activation, 0 to 1.
        instances: What was found, the largest first.
        positions: Per instance where it is, or why that is not known; None without instances.
        ids: Per instance the id that it has from frame to frame; 0 where it is not followed.
    """

    camera: str
    header: Header
    shape: tuple[int, int]
    presence: float
    instances: tuple[Instance, ...]
    positions: Positions | None
    ids: tuple[int, ...]


class Look:
    """Look for labels in the next frames of some cameras, until all are in view or the time is over.

    Args:
        vocabulary: The labels to look for.
        cameras: Names of the cameras whose frames are looked at.
        awaited: Those of them that must be looked at once before the answer, if they give a frame in time.
        until: When to stop to look for labels that are not in view, in seconds of `time.monotonic`.
        deadline: When to answer, even if not every camera was looked at.
        answer: Gets this look when it is over, once, on the thread on which that is noticed.

    Attributes:
        asked: Frames that arrived earlier are not looked at, in seconds of `time.monotonic`.
        error: Why the look came to nothing, "" where it did not.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        cameras: Iterable[str],
        awaited: Iterable[str],
        asked: float,
        until: float,
        deadline: float,
        answer: Callable[[Look], None],
    ) -> None:
        self.vocabulary = vocabulary
        self.cameras, self._awaited = frozenset(cameras), frozenset(awaited)
        self.asked, self.until, self.deadline = asked, until, deadline
        self.error = ""
        self._answer = answer
        self._lock = threading.Lock()
        self._over = False
        self._newest: dict[str, Header] = {}  # by camera
        self._best: list[Sighting | None] = [None] * len(vocabulary)  # per label, with the largest presence
        self._found: list[dict[str, Sighting]] = [{} for _ in vocabulary.labels]  # per label, newest by camera

    @property
    def over(self) -> bool:
        """Whether the look is answered."""
        return self._over

    @property
    def looked_at(self) -> dict[str, Header]:
        """The header of the newest frame that was looked at, by camera."""
        return dict(self._newest)

    @property
    def missing(self) -> list[str]:
        """The cameras that no frame has come from."""
        return sorted(self.cameras - self._newest.keys())

    def wants(self, frame: Frame) -> bool:
        """Tell whether a frame is to be looked at."""
        return not self._over and frame.camera in self.cameras and frame.received >= self.asked

    def best(self, index: int) -> Sighting | None:
        """Return the frame in which a label was most active; None before the first frame."""
        return self._best[index]

    def found(self, index: int) -> list[Sighting]:
        """Return the newest frame of each camera that shows a label, by the camera's name."""
        return [self._found[index][camera] for camera in sorted(self._found[index])]

    def see(self, frame: Frame, result: Result, positions_of: PositionsOf, ids_of: IdsOf) -> None:
        """Look at a frame that was segmented with this look's vocabulary.

        Args:
            frame: The frame.
            result: What was found in it.
            positions_of: Finds the positions of instances of the frame.
            ids_of: Finds the ids that instances of the frame have from frame to frame.
        """
        if self._over:
            return
        sightings = []
        for index, presence in enumerate(result.presence.tolist()):
            found = find_label(result, index)
            positions = positions_of(frame, found, result.shape) if found else None
            ids = ids_of(found) if found else ()
            sightings.append(Sighting(frame.camera, frame.header, result.shape, presence, found, positions, ids))
        with self._lock:
            if self._over:
                return
            self._newest[frame.camera] = frame.header
            for index, sighting in enumerate(sightings):
                best = self._best[index]
                if best is None or sighting.presence > best.presence:
                    self._best[index] = sighting
                if sighting.instances:
                    self._found[index][frame.camera] = sighting
        self.check(time.monotonic())

    def check(self, now: float) -> None:
        """Answer if all is found, or the time is over."""
        looked = self._awaited <= self._newest.keys()
        if now >= self.deadline or (looked and (now >= self.until or all(self._found))):
            self._end()

    def fail(self, error: str) -> None:
        """Answer that the look came to nothing."""
        self._end(error)

    def _end(self, error: str = "") -> None:
        with self._lock:
            over, self._over = self._over, True
            if not over:
                self.error = error
        if not over:
            self._answer(self)


class Lookout:
    """Keep the looks that wait for frames. Any thread may call."""

    def __init__(self) -> None:
        self._looks: tuple[Look, ...] = ()  # replaced as a whole
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the looks that wait."""
        return len(self._looks)

    def add(self, look: Look) -> None:
        """Begin to look."""
        with self._lock:
            self._looks = (*self._open(), look)

    def wants(self, frame: Frame) -> bool:
        """Tell whether a look waits for a frame."""
        return any(look.wants(frame) for look in self._looks)

    def due(self, frames: Sequence[Frame]) -> list[Look]:
        """Return the looks to answer from frames: the oldest, up to LABELS_AT_ONCE labels."""
        due, labels = [], 0
        for look in self._looks:
            if any(map(look.wants, frames)):
                labels += len(look.vocabulary)
                if due and labels > LABELS_AT_ONCE:
                    break
                due.append(look)
        return due

    def check(self, now: float) -> None:
        """Answer looks whose time is over, and forget those that are answered."""
        for look in self._looks:
            look.check(now)
        if self._looks:
            with self._lock:
                self._looks = self._open()

    def fail_all(self, error: str) -> None:
        """Answer all looks that they came to nothing."""
        for look in self._looks:
            look.fail(error)

    def _open(self) -> tuple[Look, ...]:
        return tuple(look for look in self._looks if not look.over)


def find_label(result: Result, index: int) -> tuple[Instance, ...]:
    """Find the instances of one label, whatever other labels cover them; the largest first."""
    threshold = result.vocabulary.thresholds[index]
    if result.presence[index] < threshold - ROUNDING:  # without resampling a map
        return ()
    activation = np.ascontiguousarray(result.activation(index))
    ids = [result.ids[index]]
    return find_in_masks([activation >= threshold], [activation], [result.labels[index]], ids)
