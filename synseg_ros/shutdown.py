"""The end of the process, on time, whatever its main thread is doing."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.context import Context

POLL_SECONDS = 0.1
GRACE_SECONDS = 0.5  # after ROS was shut down, for the block to end by itself


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
