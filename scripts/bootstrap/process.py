"""Run commands with their output in a log file, and say in one line why one failed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / Path(os.environ.get("SYNSEG_VENV") or ".venv").expanduser()
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "synseg-stamps"
# Where colcon builds, as `scripts/with_env` has it: an environment beside the usual one has messages of its own.
WORKSPACE = ROOT if VENV == ROOT / ".venv" else VENV / "workspace"
LOGS = ROOT / "log" if WORKSPACE == ROOT else ROOT / "log" / VENV.name

# Signs in pip's output that the network failed rather than the request.
NETWORK_ERRORS = re.compile(
    r"ConnectionError|NewConnectionError|Connection (?:aborted|broken|reset|refused)|timed out|TimeoutError"
    r"|IncompleteRead|ProtocolError|Temporary failure|SSLError"
)


class BootstrapError(Exception):
    """Say in one line why the environment cannot be made; `output` is the end of a failed command's output."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@contextlib.contextmanager
def only_one_at_a_time(folder: Path, what: str):
    """Hold a lock on a folder, and say what is waited for where another run holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another `make env` in {what} ...", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class Command:
    """A command that runs from now on, with its output in a log file."""

    def __init__(self, step: str, command: list, **variables: str) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self._step, self._log = step, LOGS / f"bootstrap-{step}.log"
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment(**variables),
            )

    def finish(self) -> None:
        """Wait for its end; raise BootstrapError with the reason if it fails."""
        if _wait(self._process, self._log) != 0:
            message = f"the step '{self._step}' failed: {_reason(self._log)} (the whole log: {self._log})"
            raise BootstrapError(message, _tail(self._log, lines=25))

    def stop(self) -> None:
        """End it before its time."""
        self._process.terminate()
        self._process.wait()


def run(step: str, command: list, **variables: str) -> None:
    """Run a command with further environment variables; raise BootstrapError with the reason if it fails."""
    Command(step, command, **variables).finish()


def run_pip(step: str, *arguments: str) -> None:
    """Run `pip install` under the constraints; a failure of the network is tried again."""
    # Python compiles what it imports; compiling all that torch brings takes a minute.
    command = [PYTHON, "-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar", "off"]
    command += ["--constraint", STAMPS / "constraints.txt", *arguments]
    for attempt in (1, 2, 3):
        try:
            run(step, command)
        except BootstrapError as error:
            if attempt == 3 or not NETWORK_ERRORS.search(error.output):
                raise
            print(f"      the network failed; attempt {attempt + 1} of 3 ...", flush=True)
            time.sleep(5 * attempt)
        else:
            return


def environment(**variables: str) -> dict[str, str]:
    """Return the variables for a step: those of this shell, inside the environment, with a patient pip."""
    result = {**os.environ, "VIRTUAL_ENV": str(VENV), "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    result["PATH"] = os.pathsep.join([str(VENV / "bin"), os.environ.get("PATH", os.defpath)])
    result.setdefault("PIP_RETRIES", "10")
    result.setdefault("PIP_DEFAULT_TIMEOUT", "60")
    # Set by the wheels of whichever environment this runs in; ours has to find its own libraries.
    result.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    if result.pop("PYTHONDONTWRITEBYTECODE", ""):  # see scripts/with_env: a hundred processes make the messages
        result.setdefault("PYTHONPYCACHEPREFIX", str(VENV / "pycache"))
    if not os.environ.get("ROS_DISTRO"):
        result.pop("PYTHONPATH", None)  # pip would take what lies there for installed
    return {**result, **variables}


def _wait(process: subprocess.Popen, log: Path) -> int:
    """Wait for a process; on a terminal, show the seconds and the last line of its log meanwhile."""
    started = time.monotonic()
    terminal = sys.stdout.isatty()
    try:
        while True:
            try:
                return process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                if terminal:
                    last = " ".join(_tail(log, lines=1).split())
                    elapsed = time.monotonic() - started
                    print(f"\r\033[K      {elapsed:.0f} s  {last[:90]}", end="", flush=True)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    finally:
        if terminal:
            print("\r\033[K", end="", flush=True)


def _reason(log: Path) -> str:
    """Pick the line of a log that says what went wrong."""
    text = log.read_text(errors="replace")
    if "No space left on device" in text:
        return "no space left on the disk; about 2 GB are needed, with EXTRAS=dev about 8 GB"
    if NETWORK_ERRORS.search(_tail(log, lines=25)):
        return "the package registry was not reached; check the network and run it again"
    errors = re.findall(r"(?m)^.*(?:ERROR:|[Ee]rror:|CMake Error).*$", text)
    return errors[0].strip() if errors else "see the lines above"


def _tail(log: Path, lines: int) -> str:
    """Return the last lines of a log that say something."""
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(said[-lines:])
