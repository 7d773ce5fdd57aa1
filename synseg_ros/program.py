"""How a ROS program starts and how it ends, on time, whatever its main thread is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import rclpy
from rclpy.context import Context

WRONG_START = 2  # exit status for a model, a parameter or an argument that cannot work
POLL_SECONDS = 0.1
GRACE_SECONDS = 0.5  # after ROS was shut down, for the block to end by itself

_ENDING = (signal.SIGINT, signal.SIGTERM)
_ros_is_up = threading.Event()


def run_ros_program(main: Callable[[], int]) -> NoReturn:
    """Run a program and end the process with its exit status, however many signals ask it to end.

    A terminal sends SIGINT to the whole group, and launch sends its own as well. The second one would break into the
    program's ending, or into the interpreter's.

    Once ROS is up, no KeyboardInterrupt is raised. One that is raised while text is executed as code, as in the making
    of a dataclass, would make the interpreter end by SIGINT, caught or not.

    Args:
        main: The program; it calls `init_ros` and returns the exit status.
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


def init_ros(name: str, args: list[str] | None) -> bool:
    """Initialise ROS; print one line and return False where its arguments cannot be read, such as a parameter file.

    From now on ROS's own handlers shut it down on a signal, and nothing else happens.

    Args:
        name: What the line begins with.
        args: Command line arguments; None for those of the process.
    """
    try:
        rclpy.init(args=args)
    except Exception as error:  # rclpy's own kinds, which share no base but Exception
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return False
    _ros_is_up.set()
    return True


@contextmanager
def ending_with_ros(context: Context) -> Iterator[None]:
    """End the process with status 0 where the block goes on after a signal has shut ROS down.

    No signal reaches a model that is being loaded: SIGTERM raises nothing in Python, and SIGINT only between two calls
    of a library. ROS does not tell when a signal shuts it down, so a thread asks now and then.

    Args:
        context: The ROS context that a signal shuts down.
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


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _ros_is_up.is_set():
        raise KeyboardInterrupt
