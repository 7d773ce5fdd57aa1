"""Show frames in Rerun; a viewer that goes away costs a warning and no frame of whoever shows them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from synseg_model.viewer.frame import ViewedFrame
from synseg_model.viewer.target import ViewerTarget
from synseg_model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from synseg_model.viewer.stream import RerunStream

__all__ = ["Viewer"]

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0  # for a viewer to take a frame
RETRY_SECONDS = 5.0  # from the loss of a viewer to the next try
END_SECONDS = 5.0  # for a viewer to take what is under way at the end


class Viewer:
    """Show frames in one viewer, or write them into one file. All methods but `wants` are called on one thread.

    Args:
        target: where frames go.
        footer: whether a file gets an index at its end, which takes memory for as long as it is written.
        warn: takes a warning for users.
        clock: returns the time in seconds.

    Attributes:
        target: where frames go.
        shown: number of frames that went there.
        missed: number of frames that did not.
        problem: why frames do not go there; "" where they do.

    Raises:
        ModuleNotFoundError: without rerun-sdk.
        ValueError: for a target that cannot be used on this machine.
    """

    def __init__(
        self,
        target: ViewerTarget,
        footer: bool = True,
        warn: Callable[[str], None] = logger.warning,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import rerun  # noqa: F401 (the modules below may have been imported before it was lost)

        from synseg_model.viewer import entities, stream

        target.check()
        self.target, self.shown, self.missed, self.problem = target, 0, 0, ""
        self._entities, self._streams = entities, stream
        self._footer, self._warn, self._clock = footer, warn, clock
        self._recording, self._retry_at = stream.new_recording(), -float("inf")
        self._stream: RerunStream | None = None
        self._named: dict[tuple[str, ...], Vocabulary] = {}  # whose labels the viewer knows, by the entity's name
        self._spaces: dict[str, list[str]] = {}  # where each camera's newest things in space are

    def connect(self) -> None:
        """Open the file, or find or start the viewer, unless that is done.

        Raises:
            ConnectionError: where no viewer is found, or the file cannot be written.
        """
        if self._stream is None:
            self._stream = self._streams.RerunStream(self._target_now(), self._recording, self._footer)
            self._named.clear()  # this viewer may be another one
            self._spaces.clear()

    def wants(self) -> bool:
        """Tell whether a frame would be shown, or a lost viewer is to be looked for. Any thread may ask."""
        return not self.problem or self._clock() >= self._retry_at

    def show(self, frame: ViewedFrame) -> bool:
        """Show a frame, and wait until it has gone out.

        Args:
            frame: the frame.

        Returns:
            False where it has not, because the viewer went away.
        """
        if not self.wants():
            self.missed += 1
            return False
        try:
            self.connect()
            self._log(frame)
            self._stream.settle(SETTLE_SECONDS)
        except self._streams.ViewerGoneError as error:
            self._lose(str(error))
            return False
        if self.problem:
            self._warn(f"Rerun shows frames again: {self.target}")
            self.problem = ""
        self.shown += 1
        return True

    def close(self, seconds: float = END_SECONDS) -> bool:
        """End the file or the connection.

        Args:
            seconds: longest time to wait for a viewer to take what is under way.

        Returns:
            False where the viewer hangs. It may lack the last frames then.
        """
        stream, self._stream = self._stream, None
        return stream is None or stream.close(seconds)

    def _target_now(self) -> ViewerTarget:
        """Return the target; a viewer that users closed is not started again."""
        return ViewerTarget(url=self.target.url) if self.target.spawn and (self.shown or self.problem) else self.target

    def _lose(self, problem: str) -> None:
        self.missed += 1
        told, self.problem = bool(self.problem), problem
        # A file that is opened again would lose what is in it.
        self._retry_at = float("inf") if self.target.file else self._clock() + RETRY_SECONDS
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close(0.0)
        if not told:
            self._warn(f"frames are not shown in Rerun any more: {problem}")

    def _log(self, frame: ViewedFrame) -> None:
        stream, entities = self._stream, self._entities
        stream.at(frame.number, frame.stamp, frame.seconds)
        self._name([frame.camera], frame.result.vocabulary)
        for entity in entities.image_entities(frame):
            stream.log(entity)
        before, space = self._spaces.get(frame.camera), frame.space
        now = entities.space_path(frame.camera, space) if space else None
        if before and before != now:
            for entity in entities.no_space_entities(self._spaces.pop(frame.camera)):
                stream.log(entity)
        if now:
            self._spaces[frame.camera] = now
            if tuple(now) not in self._named:
                stream.log((now[:2], entities.axes(space)), static=True)
            self._name(now, frame.result.vocabulary)
            for entity in entities.space_entities(frame):
                stream.log(entity)

    def _name(self, path: list[str], vocabulary: Vocabulary) -> None:
        """Log names and colours of labels where they are others than before."""
        if self._named.get(tuple(path)) is not vocabulary:
            self._stream.log((path, self._entities.class_names(vocabulary)))
            self._named[tuple(path)] = vocabulary
