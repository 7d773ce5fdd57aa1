"""A stream of data to Rerun, whose calls end in time: Rerun itself waits for a viewer that hangs, even at the exit."""

from __future__ import annotations

import socket
import threading
import uuid

import numpy as np
import rerun as rr

from synseg_model.viewer.entities import Entity
from synseg_model.viewer.target import ViewerTarget, viewer_program

__all__ = ["RerunStream", "ViewerGoneError", "new_recording"]

APPLICATION = "synseg"
PROBE_SECONDS = 1.0  # for a viewer to take a connection
FRAME, STAMP, VIDEO_TIME = "frame", "stamp", "video_time"  # timelines


class ViewerGoneError(ConnectionError):
    """There is no viewer, it went away, or it takes nothing; the text says which."""


class RerunStream:
    """Log data to one viewer or file. Whoever shares a recording's name sees one recording.

    Args:
        target: where data go.
        recording: name of the recording.
        footer: whether a file gets an index at its end, which takes memory for as long as the file is written.

    Raises:
        ViewerGoneError: where no viewer listens, or the file cannot be written.
    """

    def __init__(self, target: ViewerTarget, recording: str, footer: bool = True) -> None:
        self.target = target
        if target.url and not target.spawn and not _listens(target):  # Rerun's own connect would try for five seconds
            raise ViewerGoneError(f"no viewer listens at {target}: start one there with `rerun`")
        self._stream = rr.RecordingStream(APPLICATION, recording_id=recording)
        try:
            if target.file:
                self._stream.save(target.file, write_footer=footer)
                return
            if not _listens(target):
                self._start_viewer()
            self._stream.connect_grpc(target.url)
        except ViewerGoneError:
            raise
        except Exception as error:  # Rerun's errors have no kinds of their own
            raise ViewerGoneError(f"cannot open {target}: {error}") from None

    def _start_viewer(self) -> None:
        program = viewer_program()
        rr.spawn(port=self.target.port, connect=False, executable_path=program, recording=self._stream)
        if not _listens(self.target):
            raise ViewerGoneError(f"the viewer {program} does not start: run it in a terminal to see why")

    def at(self, number: int, stamp: int | None, seconds: float | None) -> None:
        """Set the time of what is logged next on this thread.

        Args:
            number: number of the frame.
            stamp: nanoseconds since 1970; None for no stamp.
            seconds: since the start of a video; None for none.
        """
        self._stream.reset_time()
        self._stream.set_time(FRAME, sequence=number)
        if stamp:
            self._stream.set_time(STAMP, timestamp=np.datetime64(stamp, "ns"))
        if seconds is not None:
            self._stream.set_time(VIDEO_TIME, duration=seconds)

    def log(self, entity: Entity, static: bool = False) -> None:
        """Log an entity.

        Args:
            entity: its name's parts, and the archetype.
            static: whether it holds at all times.
        """
        self._stream.log(*entity, static=static)

    def settle(self, seconds: float) -> None:
        """Wait until everything has gone out, so that nothing piles up.

        Args:
            seconds: longest time to wait.

        Raises:
            ViewerGoneError: where it has not.
        """
        try:
            self._stream.flush(timeout_sec=seconds)
        except Exception as error:
            reason = f"it took nothing for {seconds:g} s" if "timed out" in str(error) else str(error)
            raise ViewerGoneError(f"{self.target}: {reason}") from None

    def close(self, seconds: float) -> bool:
        """End the stream.

        Args:
            seconds: longest time to wait for what has not gone out yet.

        Returns:
            False where the viewer hangs. What it did not take is lost then.
        """
        # Rerun's call waits for a viewer without an end. The thread keeps the stream, whose destructor would wait, too.
        ending = threading.Thread(target=self._stream.disconnect, name="synseg-rerun-end", daemon=True)
        ending.start()
        ending.join(seconds)
        if ending.is_alive():
            rr.unregister_shutdown()  # which would wait at the exit
        return not ending.is_alive()


def new_recording() -> str:
    """Return the name of a new recording."""
    return uuid.uuid4().hex


def _listens(target: ViewerTarget) -> bool:
    try:
        with socket.create_connection((target.host, target.port), PROBE_SECONDS):
            return True
    except OSError:
        return False
