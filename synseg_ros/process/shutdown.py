"""The end of the process, on time, whatever its main thread is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rclpy.context import Context

POLL_SECONDS = 0.1
GRACE_SECONDS = 0.5  # after ROS was shut down, for the block to end by itself


_ENDING = (signal.SIGINT, signal.SIGTERM)
_ros_is_up = threading.Event()


def leave_ending_to_ros() -> None:
    """Note that ROS is up: from now on its own handlers shut it down on a signal, and nothing else happens."""
    _ros_is_up.set()


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a program and end the process with its status, however many signals ask it to end.

    A terminal sends SIGINT to the whole group, and launch sends its own besides: the second would break into the
    program's ending, or into the interpreter's. Once ROS is up no KeyboardInterrupt is raised: one that came in a text
    that is being executed, as in the making of a dataclass, would make the interpreter end by SIGINT, caught or not.
    """
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)
    try:
        status = main()
    except KeyboardInterrupt:  # before ROS is up
        status = 0
    for number in _ENDING:  # ROS has put back what was there before it
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _ros_is_up.is_set():
        raise KeyboardInterrupt


@contextmanager
def ending_with_ros(context: Context) -> Iterator[None]:
    """End the process with status 0 where the block goes on after a signal has shut ROS down.

    A model that is being loaded hears of no signal: SIGTERM raises nothing in Python, and SIGINT only between two calls
    of a library. ROS calls nobody when a signal shuts it down, so this asks now and then.
    """
    over = threading.Event()

    def watch() -> None:
        while context.ok():
            if over.wait(POLL_SECONDS):
                return
        if not over.wait(GRACE_SECONDS):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    threading.Thread(target=watch, name="synseg-shutdown", daemon=True).start()
    try:
        yield
    finally:
        over.set()
