"""The thread that owns the engine: the newest frame of every camera wins, all else happens between frames."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import TypeVar

from synseg_ros.node.frames import Frame
from synseg_ros.node.job_thread import JobThread

Value = TypeVar("Value")

# A round of less than this is waited for where frames come from. Else that thread would go on at once to the next
# message and keep Python's lock from the worker, which takes longer than the work.
QUICK_SECONDS = 0.005


class Worker(JobThread):
    """Run the engine on one thread, fed through one slot per camera.

    A camera waits no longer than for the frames at hand, because all frames that wait are segmented together. While
    the worker is paused it takes no frames; tasks still run.

    Args:
        segment: Segments the frames that wait, at most one per camera. Called on the thread.
        on_error: Gets an exception that `segment` or a task raised; the thread goes on.
    """

    def __init__(self, segment: Callable[[Sequence[Frame]], None], on_error: Callable[[Exception], None]) -> None:
        super().__init__("synseg-engine")
        self._segment = segment
        self._on_error = on_error
        self._slots: dict[str, Frame] = {}  # by camera, the oldest frame first: its masks are the most urgent
        self._tasks: deque[Callable[[], None]] = deque()
        self._paused = False
        self._owing = False  # whether waiting frames come before tasks
        self._working, self._rested = False, threading.Event()  # whether frames are at hand, and when they are done
        self.round_seconds = 0.0  # that the last frames took

    def offer(self, frame: Frame) -> bool:
        """Put a frame into its camera's slot; wait until it is done where the last ones took less than QUICK_SECONDS.

        Args:
            frame: The frame.

        Returns:
            False when it replaced a frame that still waited there.
        """
        with self._changed:
            free = self._slots.pop(frame.camera, None) is None
            at_once = not self._paused and not self._working and self.round_seconds < QUICK_SECONDS
            if not self._paused:
                self._slots[frame.camera] = frame  # behind those that came before
                self._rested.clear()
                self._changed.notify_all()
        if at_once:
            self._rested.wait(QUICK_SECONDS)
        return free

    def waiting(self, camera: str) -> Frame | None:
        """Return the frame that waits in a camera's slot, None where none does.

        Args:
            camera: Name of the camera.
        """
        with self._changed:
            return self._slots.get(camera)

    def between_frames(self, task: Callable[[], None]) -> None:
        """Run a task on the thread before the next frame; tasks keep their order.

        Args:
            task: Called on the thread.
        """
        with self._changed:
            self._tasks.append(task)
            self._changed.notify_all()

    def in_turn(self, task: Callable[[], Value]) -> Value:
        """Run a task between two frames and wait for it; frames that wait come before the next such task.

        Args:
            task: Called on the thread.

        Returns:
            What the task returns.

        Raises:
            RuntimeError: The thread ended before the task.
            Exception: Whatever the task raises.
        """
        result: Future[Value] = Future()

        def run() -> None:
            try:
                result.set_result(task())
            except BaseException as error:
                result.set_exception(error)
            self._owing = True

        self.between_frames(run)
        while not wait([result], 0.1).done:
            if not self._thread.is_alive():
                raise RuntimeError("the engine's thread has ended")
        return result.result()

    @property
    def paused(self) -> bool:
        """Whether frames are refused."""
        return self._paused

    def pause(self) -> list[Frame]:
        """Take no more frames and forget those that wait, which are returned; the frames at hand are the last."""
        with self._changed:
            self._paused = True
            forgotten = list(self._slots.values())
            self._slots.clear()
        return forgotten

    def resume(self) -> None:
        """Take frames again."""
        with self._changed:
            self._paused = False

    def _has_work(self) -> bool:
        return bool(self._tasks or self._slots)

    def _next_job(self) -> Callable[[], None]:
        if self._tasks and not (self._owing and self._slots):
            return self._tasks.popleft()
        frames, self._slots, self._owing, self._working = list(self._slots.values()), {}, False, True
        return lambda: self._segment_in_time(frames)

    def _failed(self, error: Exception) -> None:  # whatever an engine throws, the next frame may succeed
        self._on_error(error)

    def _segment_in_time(self, frames: Sequence[Frame]) -> None:
        began = time.perf_counter()
        try:
            self._segment(frames)
        finally:
            self.round_seconds, self._working = time.perf_counter() - began, False
            self._rested.set()
