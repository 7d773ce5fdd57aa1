"""What this machine brings: which ROS 2, and whether Python and the compiler will do."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from process import ROOT, STAMPS, VENV, BootstrapError

DISTROS = ("kilted", "jazzy")  # the first is installed where none is sourced
IDENTITY = STAMPS / "identity.json"


def find_ros() -> dict[str, str]:
    """Return which ROS 2 to use: its `distro`, `from` 'wheels' or 'sourced', and the sourced `prefix`.

    Raises BootstrapError for a ROS 2 that will not do, and where the environment needs one not sourced.
    """
    sourced = os.environ.get("ROS_DISTRO", "")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "")
    if sourced and prefixes:
        return _sourced_ros(sourced, prefixes)
    made_for = stamped_identity().get("ros", {})
    if made_for.get("from") == "sourced":
        raise BootstrapError(
            f"{VENV} was made for ROS 2 {made_for['distro']} in {made_for['prefix']}, which is not sourced "
            "in this shell. Source it, or run `make distclean` to start afresh with ROS 2 from Python wheels."
        )
    distro = os.environ.get("SYNSEG_ROS_DISTRO") or DISTROS[0]
    if distro not in DISTROS:
        raise BootstrapError(f"SYNSEG_ROS_DISTRO is {distro!r}; there are wheels of {' and '.join(DISTROS)}.")
    return {"distro": distro, "from": "wheels", "prefix": ""}


def _sourced_ros(distro: str, prefixes: str) -> dict[str, str]:
    if distro not in DISTROS:
        raise BootstrapError(
            f"ROS 2 {distro} is sourced in this shell; SynSeg runs on {' and '.join(DISTROS)}. Source one of "
            "them, or use a shell in which none is sourced: ROS 2 is then installed from wheels."
        )
    if importlib.util.find_spec("rclpy") is None:
        raise BootstrapError(
            f"ROS 2 {distro} is sourced, but {sys.executable} ({platform.python_version()}) finds no rclpy. "
            "Name the Python that this ROS was built for, as in: make env PYTHON=/usr/bin/python3"
        )
    # Only the distribution's own prefix: overlays, such as our own install/, come and go.
    base = [prefix for prefix in prefixes.split(os.pathsep) if Path(prefix, "share", "rclpy").is_dir()]
    return {"distro": distro, "from": "sourced", "prefix": base[-1] if base else ""}


def check(ros: dict[str, str]) -> None:
    """Raise BootstrapError, naming what to install, where Python, its headers or a compiler are missing."""
    version = ".".join(platform.python_version_tuple()[:2])
    if ros["from"] == "wheels":
        if sys.version_info >= (3, 14):
            raise BootstrapError(
                f"there are ROS 2 wheels for Python 3.10 to 3.13, not for {version}; name one of those: "
                "make env PYTHON=python3.12"
            )
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise BootstrapError(
                f"there are ROS 2 wheels for Linux on x86_64, not for {platform.system()} on "
                f"{platform.machine()}; install ROS 2 {' or '.join(DISTROS)} and source it."
            )
    if importlib.util.find_spec("ensurepip") is None:
        raise BootstrapError(f"Python's venv is incomplete; try: sudo apt install python{version}-venv")
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").is_file():
        raise BootstrapError(
            f"building the messages needs Python.h, which {headers} lacks; "
            f"try: sudo apt install python{version}-dev"
        )
    for package, variable in (("g++", "CXX"), ("gcc", "CC"), ("make", "")):
        if not shutil.which(os.environ.get(variable) or package):
            raise BootstrapError(f"building the messages needs {package}; try: sudo apt install {package}")


def identity(ros: dict[str, str]) -> dict:
    """Describe what an environment is made for; one that was made for anything else is of no use."""
    python = [platform.python_version(), sys.base_prefix]
    return {"python": python, "venv": str(VENV), "root": str(ROOT), "ros": ros}


def stamped_identity() -> dict:
    """Return the identity of the environment that is there; empty where there is none of ours."""
    try:
        return json.loads(IDENTITY.read_text())
    except (OSError, ValueError):
        return {}
