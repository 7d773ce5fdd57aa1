"""The transforms of /tf and /tf_static of the last seconds, and the way from one frame to another at a time.

It stands in for tf2_ros, whose core is C++ and not available as a wheel, and answers as it does: it interpolates
between two transforms, and never extrapolates.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from synseg_model.instances import transform_matrix

KEPT_SECONDS = 10.0  # the time tf2 keeps, too
MOST_PER_FRAME = 2000  # transforms of one moving frame: 200 Hz for 10 s
MOST_FRAMES = 2000
LONGEST_CHAIN = 100  # frames from one to the root; more is a circle
STILL_COMING = 1.0  # seconds by which a frame's newest transform may be late; after that it has stopped
_NS = 1e9
_PARALLEL = 0.9995  # cosine from which on two rotations are so close that a straight line will do


class TransformError(LookupError):
    """A transform is not available; the text says why.

    Args:
        reason: Why.
        late: Seconds by which the newest transform is older than the time that was asked for; 0 for other reasons.
    """

    def __init__(self, reason: str, late: float = 0.0) -> None:
        super().__init__(reason)
        self.late = late


@dataclass
class _Frame:
    """How a frame moved in its parent: times in nanoseconds, ascending, with translations and quaternions."""

    parent: str
    static: bool
    times: list[int] = field(default_factory=list)
    poses: list[np.ndarray] = field(default_factory=list)  # (7,) x, y, z and quaternion x, y, z, w

    def at(self, name: str, stamp: int) -> np.ndarray:
        """Return the (4,4) transform to the parent at a time; raise TransformError outside of what is known."""
        if self.static:
            return _matrix(self.poses[-1])
        first, last = self.times[0], self.times[-1]
        if stamp > last:
            late = (stamp - last) / _NS
            raise TransformError(f"the newest transform of {name!r} is {late:.3f} s older than the image", late)
        if stamp < first:
            raise TransformError(
                f"the oldest transform of {name!r} is {(first - stamp) / _NS:.3f} s newer than the image"
            )
        after = bisect.bisect_left(self.times, stamp)
        if self.times[after] == stamp:
            return _matrix(self.poses[after])
        begin, end = self.times[after - 1], self.times[after]
        return _matrix(_between(self.poses[after - 1], self.poses[after], (stamp - begin) / (end - begin)))


class TransformBuffer:
    """Keep transforms, and find the way between frames. Any thread may call.

    Args:
        kept_seconds: How long transforms of moving frames are kept, by their own stamps.
    """

    def __init__(self, kept_seconds: float = KEPT_SECONDS) -> None:
        self._kept = round(kept_seconds * _NS)
        self._frames: dict[str, _Frame] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Count the transforms that are kept."""
        with self._changed:
            return sum(len(frame.poses) for frame in self._frames.values())

    def add(
        self,
        parent: str,
        child: str,
        stamp: int,
        translation: Sequence[float],
        quaternion: Sequence[float],
        static: bool = False,
    ) -> None:
        """Keep a transform.

        Args:
            parent: The frame that it is given in.
            child: The frame whose place it gives.
            stamp: Its time in nanoseconds.
            translation: x, y, z in metres.
            quaternion: x, y, z, w.
            static: Whether it holds at all times.

        Raises:
            ValueError: It has no frame, a frame in itself, or numbers that are no transform.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if not parent or not child or parent == child:
            raise ValueError(f"transform from {child!r} to {parent!r}: expected two different frames")
        transform_matrix(quaternion, translation)  # raises for numbers that are none
        pose = np.array([*translation, *quaternion], np.float64)
        pose[3:] /= np.linalg.norm(pose[3:])
        with self._changed:
            frame = self._frames.get(child)
            if frame is None or (frame.parent, frame.static) != (parent, static):
                if frame is None and len(self._frames) >= MOST_FRAMES:
                    return
                frame = self._frames[child] = _Frame(parent, static)
            if static:
                frame.times, frame.poses = [stamp], [pose]
            else:
                self._insert(frame, stamp, pose)
            self._changed.notify_all()

    def _insert(self, frame: _Frame, stamp: int, pose: np.ndarray) -> None:
        times, poses = frame.times, frame.poses
        if times and stamp < times[-1] - self._kept:  # a recording that begins again
            times.clear()
            poses.clear()
        at = bisect.bisect_left(times, stamp)
        if at < len(times) and times[at] == stamp:
            poses[at] = pose
            return
        times.insert(at, stamp)
        poses.insert(at, pose)
        old = max(bisect.bisect_left(times, times[-1] - self._kept), len(times) - MOST_PER_FRAME)
        if old > 0:
            del times[:old], poses[:old]

    def lookup(self, target: str, source: str, stamp: int, timeout: float = 0.0) -> np.ndarray:
        """Find the transform from one frame to another at a time.

        Args:
            target: The frame to transform to.
            source: The frame to transform from.
            stamp: The time in nanoseconds.
            timeout: Seconds to wait for a transform that is a little late.

        Returns:
            (4, 4) float64; it takes points from `source` to `target`.

        Raises:
            TransformError: It is not known, and why.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                try:
                    return self._find(target, source, stamp)
                except TransformError as error:
                    left = deadline - time.monotonic()
                    if left <= 0 or not 0 < error.late <= STILL_COMING:
                        raise
                    self._changed.wait(left)

    def _find(self, target: str, source: str, stamp: int) -> np.ndarray:
        if target == source:
            return np.eye(4)
        up, down = self._chain(source), self._chain(target)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            unknown = [name for name in (source, target) if not self._known(name)]
            raise TransformError(
                f"no transform of the frame {unknown[0]!r} has arrived"
                if unknown
                else f"the frames {source!r} and {target!r} are not connected"
            )
        return np.linalg.inv(self._to(common, down, stamp)) @ self._to(common, up, stamp)

    def _known(self, name: str) -> bool:
        return name in self._frames or any(frame.parent == name for frame in self._frames.values())

    def _chain(self, name: str) -> list[str]:
        """List the frames from one to its root."""
        chain = [name]
        while chain[-1] in self._frames:
            chain.append(self._frames[chain[-1]].parent)
            if len(chain) > LONGEST_CHAIN:
                raise TransformError(f"the frames above {name!r} form a circle")
        return chain

    def _to(self, ancestor: str, chain: Sequence[str], stamp: int) -> np.ndarray:
        matrix = np.eye(4)
        for name in chain[: chain.index(ancestor)]:
            matrix = self._frames[name].at(name, stamp) @ matrix
        return matrix


def _matrix(pose: np.ndarray) -> np.ndarray:
    return transform_matrix(pose[3:], pose[:3])


def _between(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Interpolate: translations on a straight line, rotations at constant speed the short way round."""
    pose = one + share * (other - one)
    start, end = one[3:], other[3:] * (1 if one[3:] @ other[3:] >= 0 else -1)
    cosine = float(start @ end)
    if cosine > _PARALLEL:
        pose[3:] = start + share * (end - start)
    else:
        angle = np.arccos(cosine)
        pose[3:] = (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)
    return pose
