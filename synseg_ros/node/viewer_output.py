"""The viewer Rerun as an output of every camera: a thread shows frames, and the engine's thread never waits for it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from synseg_model.viewer.frame import for_another_thread
from synseg_model.viewer.target import ViewerTarget
from synseg_model.viewer.viewer import Viewer
from synseg_ros.interfaces.frame_outputs import SegmentedImage
from synseg_ros.node.frames import SegmentedFrame
from synseg_ros.node.job_thread import JobThread
from synseg_ros.space.object_finder import ObjectFinder
from synseg_ros.space.viewed_frame import view_frame

MOST_WAITING = 2  # frames of one camera
STOP_SECONDS = 1.0  # to wait for the frame at hand, and for the viewer to take it


class _Waiting(NamedTuple):
    """A frame that waits, and what finds its objects."""

    camera: str
    number: int
    segmented: SegmentedImage
    finder: ObjectFinder


class ViewerThread(JobThread):
    """Show the frames of all cameras.

    A camera has room for a few frames. A frame that finds no room is dropped and counted: the viewer lacks it, and
    nothing waits.

    Args:
        viewer: Where frames are shown.
        on_error: Gets what a frame raised; the thread goes on.
    """

    def __init__(self, viewer: Viewer, on_error: Callable[[Exception], None]) -> None:
        super().__init__("synseg-viewer")
        self._viewer, self._on_error = viewer, on_error
        self._waiting: deque[_Waiting] = deque()
        self._taken: Counter[str] = Counter()  # frames that wait or are being shown, by camera
        self._dropped = 0

    @property
    def problem(self) -> str:
        """Why frames are not shown; "" where they are."""
        return self._viewer.problem

    def wants(self) -> bool:
        """Tell whether a frame would be shown, or a lost viewer is to be looked for."""
        return self._viewer.wants()

    def offer(self, camera: str, number: int, segmented: SegmentedFrame, finder: ObjectFinder) -> None:
        """Let a frame wait for its turn; called on the thread that owns the engine.

        Args:
            camera: Name of the camera.
            number: Number of the frame among those of its camera.
            segmented: The frame.
            finder: Finds its objects, on the viewer's thread and nowhere else.
        """
        with self._changed:
            if self._taken[camera] >= MOST_WAITING:
                self._dropped += 1
                return
            self._taken[camera] += 1
        try:
            result = for_another_thread(segmented.result)  # before the frame waits: it may be on a GPU
        except Exception:
            self._make_room(camera)
            raise
        kept = SegmentedImage(segmented.image, result, segmented.header, segmented.version, segmented.inference_ms)
        with self._changed:
            self._waiting.append(_Waiting(camera, number, kept, finder))
            self._changed.notify_all()

    def rows(self) -> Mapping[str, str]:
        """Return what /diagnostics says of the viewer."""
        with self._changed:
            dropped = self._dropped
        return {
            "viewer": str(self._viewer.target),
            "viewer frames shown": str(self._viewer.shown),
            "viewer frames dropped": str(dropped + self._viewer.missed),
            "viewer problem": self.problem,
        }

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """Forget what waits, and end the thread and the connection.

        Args:
            timeout: Seconds to wait for either.

        Returns:
            False where the viewer hangs.
        """
        return super().stop(timeout) and self._viewer.close(timeout)

    def _has_work(self) -> bool:
        return bool(self._waiting)

    def _next_job(self) -> Callable[[], None]:
        waiting = self._waiting.popleft()
        return lambda: self._show(waiting)

    def _show(self, waiting: _Waiting) -> None:
        try:
            self._viewer.show(view_frame(*waiting))
        finally:
            self._make_room(waiting.camera)

    def _make_room(self, camera: str) -> None:
        with self._changed:
            self._taken[camera] -= 1

    def _failed(self, error: Exception) -> None:
        self._on_error(error)


class ViewerOutput:
    """One camera in the viewer; it has the methods of `OutputTopic`.

    Args:
        camera: Name of the camera.
        thread: Shows the frames.
        finder: Finds the camera's objects, for the viewer alone: their ids go on from frame to frame.
    """

    def __init__(self, camera: str, thread: ViewerThread, finder: ObjectFinder) -> None:
        self._camera, self._thread, self._finder = camera, thread, finder
        self._number = 0

    def wanted(self) -> bool:
        """Return True while the viewer takes frames."""
        return self._thread.wants()

    def publish(self, segmented: SegmentedFrame) -> None:
        """Offer a frame to the viewer.

        Args:
            segmented: The frame.
        """
        if self.wanted():
            self._thread.offer(self._camera, self._number, segmented, self._finder)
        self._number += 1

    def destroy(self) -> None:
        """Do nothing: the viewer is ended for all cameras at once."""


def unused(target: ViewerTarget) -> ViewerTarget:
    """Return a target whose file does not exist yet: a node that starts again must not destroy what it has recorded.

    Args:
        target: Where frames are to go. FILE.rrd becomes FILE-2.rrd, FILE-3.rrd and so on where it exists.
    """
    file, count = target.file, 1
    while file is not None and file.exists():
        count += 1
        file = Path(target.file).with_name(f"{target.file.stem}-{count}{target.file.suffix}")
    return ViewerTarget(file=file) if file is not None else target
