"""Build the messages of ROS packages that have no wheel (tests/ros_interfaces), once per environment, and use them.

Run as a program, it builds them and prints the folder that they are installed in.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
SOURCES = Path(__file__).resolve().parent / "ros_interfaces"
DEFINITIONS = ROOT / "synseg_ros" / "interfaces" / "vision_msgs"
PACKAGES = tuple(sorted(path.parent.name for path in SOURCES.glob("*/package.xml")))
# Libraries find each other by these, as nothing sets LD_LIBRARY_PATH for a process that already runs.
RUN_PATH = "$ORIGIN:$ORIGIN/../../.."


class BuildError(RuntimeError):
    """The messages cannot be built; the text is the end of what colcon said."""


def provide(optimise: bool = False) -> None:
    """Make all packages importable here and in child processes: those that are missing are built, if needed.

    Args:
        optimise: whether they are compiled as they are where they are installed, for measurements.

    Raises:
        BuildError: They cannot be built.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        _use(build(missing, optimise), missing)


def build(packages: list[str], optimise: bool = False) -> Path:
    """Build packages, unless that was done before with the same definitions.

    Args:
        packages: Which of PACKAGES.
        optimise: Whether they are compiled with optimisation, which takes twice as long.

    Returns:
        The folder that they are installed in.

    Raises:
        BuildError: They cannot be built.
    """
    home = Path(os.environ.get("SYNSEG_TEST_INTERFACES") or Path(sys.prefix, "synseg-test-interfaces"))
    level = "-O2" if optimise else "-O0"  # where nothing is measured, what is there sooner is better
    folder = home / _fingerprint(packages, level)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        done = folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what was interrupted
            _run_colcon(packages, folder, level)
            shutil.rmtree(folder / "build")
            done.touch()
    return folder / "install"


def _fingerprint(packages: list[str], level: str) -> str:
    kinds = (".msg", ".txt", ".xml")
    files = [path for folder in (SOURCES, DEFINITIONS) for path in sorted(folder.rglob("*")) if path.suffix in kinds]
    texts = (f"{path.relative_to(ROOT)}\n{path.read_text()}" for path in files)
    parts = [sys.version, *packages, RUN_PATH, level, *texts]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _run_colcon(packages: list[str], folder: Path, level: str) -> None:
    command = [sys.executable, "-m", "colcon", "--log-base", folder / "log", "build", "--base-paths", SOURCES]
    command += ["--build-base", folder / "build", "--install-base", folder / "install", "--merge-install"]
    command += ["--packages-select", *packages, "--executor", "sequential", "--event-handlers", "console_direct+"]
    command += ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"]
    command += [f"-DCMAKE_C_FLAGS={level}", f"-DCMAKE_CXX_FLAGS={level}", f"-DCMAKE_INSTALL_RPATH={RUN_PATH}"]
    prefixes = {
        name: os.pathsep.join(filter(None, [sys.prefix, os.environ.get(name)]))
        for name in ("CMAKE_PREFIX_PATH", "AMENT_PREFIX_PATH")
    }
    run = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **prefixes},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if run.returncode:
        raise BuildError(f"the messages of {', '.join(packages)} cannot be built:\n{run.stdout[-4000:]}")


def _use(install: Path, packages: list[str]) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    modules = install / "lib" / version / "site-packages"
    for name, path in (
        ("AMENT_PREFIX_PATH", install),
        ("LD_LIBRARY_PATH", install / "lib"),
        ("PYTHONPATH", modules),
    ):
        os.environ[name] = os.pathsep.join(filter(None, [str(path), os.environ.get(name)]))
    sys.path.insert(0, str(modules))
    importlib.invalidate_caches()
    # ROS opens these libraries by name, which finds those that are loaded.
    for package in packages:
        kinds = ("generator_c", "typesupport_fastrtps_cpp", "typesupport_fastrtps_c", "typesupport_introspection_c")
        for kind in (*kinds, "typesupport_c"):
            path = install / "lib" / f"lib{package}__rosidl_{kind}{sysconfig.get_config_var('SHLIB_SUFFIX')}"
            if path.exists():
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


if __name__ == "__main__":
    print(build([name for name in PACKAGES if find_spec(name) is None]))
