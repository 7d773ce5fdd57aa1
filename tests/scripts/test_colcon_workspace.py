"""The package builds in a colcon workspace next to a package that depends on it, and what was built works."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

pytest.importorskip("colcon_core", reason="there is no colcon")
pytest.importorskip("rclpy", reason="there is no ROS 2")

ROOT = Path(__file__).resolve().parents[2]
# A workspace for each environment. It stays, so that the next run builds only what changed.
WORKSPACE = ROOT / "build" / "test-workspace" / hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
OTHER = {
    "package.xml": """\
<?xml version="1.0"?>
<package format="3">
  <name>patrol</name>
  <version>0.0.1</version>
  <description>A package that uses the messages.</description>
  <maintainer email="nobody@example.org">nobody</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <depend>synseg_ros</depend>
  <export><build_type>ament_cmake</build_type></export>
</package>
""",
    "CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.20)
project(patrol LANGUAGES C CXX)
find_package(ament_cmake REQUIRED)
find_package(synseg_ros REQUIRED)
add_executable(count_masks count_masks.cpp)
target_link_libraries(count_masks ${synseg_ros_TARGETS})
install(TARGETS count_masks DESTINATION lib/${PROJECT_NAME})
ament_package()
""",
    "count_masks.cpp": """\
#include <iostream>
#include "synseg_ros/msg/class_masks.hpp"
int main() {
  synseg_ros::msg::ClassMasks message;
  message.labels = {"cup", "table"};
  std::cout << message.labels.size() << " labels, " << message.masks.size() << " masks" << std::endl;
}
""",
}


def write(path, text):
    """Write a file where it has another text, so that the build need not run again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def variables():
    """Return the environment of a user who has sourced ROS 2, but not this project's own build."""
    ours = str(ROOT / "install")
    result = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COLCON_PREFIX_PATH")}
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH"):
        parts = [part for part in os.environ.get(name, "").split(os.pathsep) if part and "synseg_ros" not in part]
        if name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
            parts = [sys.prefix, *(part for part in parts if not part.startswith(ours))]
        result[name] = os.pathsep.join(parts)
    result["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), result["PATH"]])
    result.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    return result


@pytest.fixture(scope="module")
def workspace():
    """Build both packages; returns the workspace."""
    source = WORKSPACE / "src"
    source.mkdir(parents=True, exist_ok=True)
    if not (source / "synseg_ros").exists():
        (source / "synseg_ros").symlink_to(ROOT)
    for name, text in OTHER.items():
        write(source / "patrol" / name, text)
    command = [sys.executable, "-m", "colcon", "build", "--event-handlers", "console_direct+", "--cmake-args"]
    command += [ "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"]
    with FileLock(WORKSPACE / "lock"):  # tests of this file may run in several processes
        done = run(command, WORKSPACE)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return WORKSPACE


def run(command, folder):
    """Run a command and keep its output."""
    return subprocess.run(command, cwd=folder, env=variables(), capture_output=True, text=True, check=False)


def run_in(workspace, command, folder):
    """Run a command in a shell that has sourced the workspace; returns what it prints."""
    done = run(["bash", "-c", f"source {workspace}/install/local_setup.bash && {command}"], folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.ros
def test_the_other_package_uses_the_messages(workspace, tmp_path):
    assert run_in(workspace, f"{workspace}/install/patrol/lib/patrol/count_masks", tmp_path) == "2 labels, 0 masks\n"


@pytest.mark.slow
@pytest.mark.ros
def test_the_command_synseg_is_the_workspaces_own_and_has_its_models_and_commands(workspace, tmp_path):
    installed = workspace / "install" / "synseg_ros"
    assert run_in(workspace, "command -v synseg", tmp_path).strip() == str(installed / "bin" / "synseg")
    assert "synseg-everyday" in run_in(workspace, "synseg info synseg-everyday", tmp_path)
    assert "  bag " in run_in(workspace, "synseg --help", tmp_path)
    where = run_in(workspace, "python -c 'import synseg_model; print(synseg_model.__file__)'", tmp_path)
    assert Path(where.strip()).is_relative_to(installed)


@pytest.mark.slow
@pytest.mark.ros
def test_programs_and_files_are_where_ros_looks_for_them(workspace):
    installed = workspace / "install" / "synseg_ros"
    programs = {path.name for path in (installed / "lib" / "synseg_ros").iterdir()}
    assert {"segment_node", "player", "demo", "synseg"} <= programs
    assert (installed / "share" / "synseg_ros" / "launch" / "segment.launch.py").is_file()
    assert (installed / "share" / "synseg_ros" / "config" / "synseg.yaml").is_file()
