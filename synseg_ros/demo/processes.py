"""Processes that a parent starts, watches and always ends."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from synseg_ros.demo.dead_ports import ports_of, remove_dead_ports

DOMAINS = range(215, 232)  # above Linux's ephemeral ports, where no robot is; people take those up to 101
SHARED_MEMORY = "SHM?sockets_size=8MB"  # is 17 MB a process: three fit into the 64 MB of a Docker container
TAIL_LINES = 15
GENTLE_SECONDS = 20.0  # before a process that was asked to end is made to


class ProcessDiedError(RuntimeError):
    """A process has ended before its time; the text has its last lines."""


class Child:
    """A Python module that runs as a process of its own, with its output kept in a temporary file.

    It has a session of its own, so that Ctrl-C in the terminal reaches the parent only, which then decides.

    Args:
        name: Name for messages.
        module: The module, as in python -m MODULE.
        arguments: Its command line.
        environment: Its environment variables.
    """

    def __init__(self, name: str, module: str, arguments: Iterable[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._interrupted = False
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Return the process's number."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Ask the process to end, as Ctrl-C does, but only once: a second time would break into its ending."""
        if self.returncode is None and not self._interrupted:
            self._interrupted = True
            self._process.send_signal(signal.SIGINT)

    def stop(self, timeout: float = GENTLE_SECONDS) -> int:
        """End the process: by SIGINT, then by SIGTERM, then by SIGKILL.

        Args:
            timeout: Seconds to wait after each signal.

        Returns:
            The exit status.
        """
        self.interrupt()
        for last_resort in (self._process.terminate, self._process.kill):
            try:
                return self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                last_resort()
        return self._process.wait()

    def tail(self) -> str:
        """Return the last lines that the process has written."""
        self._log.flush()
        self._log.seek(0)
        return "".join(self._log.readlines()[-TAIL_LINES:]).rstrip()

    def died(self) -> ProcessDiedError:
        """Make the error for a process that has ended before its time."""
        lines = self.tail() or "(nothing)"
        return ProcessDiedError(f"the {self.name} ended with status {self.returncode}; its last output:\n{lines}")


def private_domain() -> dict[str, str]:
    """Return environment variables for a free ROS domain, on this machine only.

    Fast DDS uses shared memory alone, made large enough for images: in the half megabyte that a process has by default,
    a best-effort image of 640x480 is mostly lost. Other middlewares use the loopback interface.
    """
    domain = {"ROS_DOMAIN_ID": str(_free_domain()[0]), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps").startswith("rmw_fastrtps"):
        # The range LOCALHOST would make rmw_fastrtps ignore the transport asked for.
        domain["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
        domain["FASTDDS_BUILTIN_TRANSPORTS"] = SHARED_MEMORY
    return domain


def lock_domain(domain: int) -> IO[str] | None:
    """Take a ROS domain on this machine until the returned file is closed.

    It keeps out other demos, benchmarks and tests, which all ask here, and nothing else. What their killed processes
    left in the domain is removed.

    Args:
        domain: Number of the domain.

    Returns:
        The open file; None if another process has the domain.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(tempfile.gettempdir(), f"synseg-domain-{domain}").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        stack.pop_all()
        remove_dead_ports(ports_of(domain))
        return file


@functools.cache
def _free_domain() -> tuple[int, IO[str] | None]:
    """Take a domain for as long as this process runs; one that others have, too, only where all are taken."""
    numbers = random.sample(DOMAINS, len(DOMAINS))
    locked = ((number, lock_domain(number)) for number in numbers)
    return next((taken for taken in locked if taken[1]), (numbers[0], None))


def stop_all(children: Iterable[Child]) -> dict[str, int]:
    """End all processes at the same time and return their exit statuses by name.

    Args:
        children: The processes.
    """
    children = list(children)
    for child in children:
        child.interrupt()
    deadline = time.monotonic() + GENTLE_SECONDS
    return {child.name: child.stop(max(0.1, deadline - time.monotonic())) for child in children}
