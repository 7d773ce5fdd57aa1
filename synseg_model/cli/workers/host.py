"""What runs inside a worker: the work, and the answers that travel back to the command."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from synseg_model.cli.progress import hide_progress_bars

__all__ = ["Host", "Outcome", "SharedFolder", "Started", "Work", "WorkerAnswer", "WorkerError"]

_PACKAGES = ("synseg_model", "synseg_ros")  # whose log lines travel back
_GLANCES, _GLANCE_SECONDS = 10, 0.5  # a network file system shows a new file late


class WorkerError(ValueError):
    """A worker cannot do any of the work; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """What came of one item.

    Attributes:
        value: what the work returns for it.
        count: number of images in it that were segmented.
        failure: why the item could not be done; "" where it was.
    """

    value: Any = None
    count: int = 0
    failure: str = ""


class Work(Protocol):
    """Do items one after the other; it is pickled to every worker before it starts."""

    def start(self) -> dict[str, Any]:
        """Load what the work needs.

        Returns:
            What the results depend on. Workers whose answers differ, but for the device, do not work together.

        Raises:
            ValueError, OSError: for a model or an option that cannot be used.
        """

    def do(self, item: Any) -> Outcome:
        """Do one item; doing it again replaces its results.

        Raises:
            ValueError: where the item cannot be done, on any machine.
        """


@dataclass(frozen=True)
class SharedFolder:
    """Find out whether a worker sees the files of the command's machine.

    Attributes:
        token: a file that the command keeps in the output folder while it runs.
        inputs: paths that must exist.
    """

    token: Path
    inputs: tuple[Path, ...] = ()

    def check(self) -> None:
        """Look for the files.

        Raises:
            WorkerError: where one is missing.
        """
        for glance in range(_GLANCES):
            if self.token.is_file():
                break
            if glance < _GLANCES - 1:
                time.sleep(_GLANCE_SECONDS)
        else:
            raise WorkerError(
                f"{socket.gethostname()} does not see the output folder {self.token.parent}: choose one that all "
                "workers reach under the same path, on shared storage"
            )
        for path in self.inputs:
            if not path.exists():
                raise WorkerError(
                    f"{socket.gethostname()} does not see the input {path}: it must have the same path on all machines"
                )


@dataclass(frozen=True)
class Started:
    """A worker that is ready, or cannot be.

    Attributes:
        host: name of its machine.
        pid: its process.
        settings: as `Work.start` returns them.
        error: why it cannot work; "" where it can.
        logged: warnings to show.
    """

    host: str
    pid: int
    settings: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    logged: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerAnswer:
    """What came of a task.

    Attributes:
        outcomes: of its items, in order.
        error: what went wrong on the worker; the task may succeed on another one.
        disk: whether the error is one of reading or writing files.
        logged: warnings to show.
    """

    outcomes: tuple[Outcome, ...] = ()
    error: str = ""
    disk: bool = False
    logged: tuple[str, ...] = ()


class Host:
    """Hold the work in a worker, and turn every exception into an answer.

    Args:
        work: what to do.
        shared: files that the worker must see.
        own_process: False in the command's own process, which shows warnings and progress itself.
    """

    def __init__(self, work: Work, shared: SharedFolder, own_process: bool = True) -> None:
        self._work, self._shared = work, shared
        self._lines = _Lines(_PACKAGES if own_process else ())
        if own_process:
            hide_progress_bars()
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

    def start(self) -> Started:
        """Make the worker ready."""
        host, pid = socket.gethostname(), multiprocessing.current_process().pid
        try:
            self._shared.check()
            settings = self._work.start()
        except Exception as error:  # whatever a library throws, the command says it
            return Started(host, pid, error=_told(error), logged=self._lines.take())
        return Started(host, pid, settings, logged=self._lines.take())

    def do(self, items: Sequence[Any]) -> WorkerAnswer:
        """Do the items of a task.

        Args:
            items: as `Work.do` takes them.
        """
        outcomes = []
        for item in items:
            try:
                outcomes.append(self._work.do(item))
            except ValueError as error:
                outcomes.append(Outcome(failure=_told(error)))
            except Exception as error:  # a GPU that fails, a full disk
                return WorkerAnswer(error=_told(error), disk=isinstance(error, OSError), logged=self._lines.take())
        return WorkerAnswer(tuple(outcomes), logged=self._lines.take())


class _Lines(logging.Handler):
    """Keep the warnings of our packages, which nobody would read on the worker."""

    def __init__(self, packages: Sequence[str]) -> None:
        super().__init__(logging.WARNING)
        self._kept: list[str] = []
        for name in packages:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record.getMessage())

    def take(self) -> tuple[str, ...]:
        """Return the lines so far, and forget them."""
        lines, self._kept = tuple(self._kept), []
        return lines


def _told(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {text}"
