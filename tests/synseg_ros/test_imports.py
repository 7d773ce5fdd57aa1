"""What the parts of synseg_ros may import: recorded data needs no ROS, and a robot needs no training package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import synseg_ros

ROOT = Path(synseg_ros.__file__).parent
WITHOUT_ROS = sorted(
    f"synseg_ros.{folder}.{path.stem}"
    for folder in ("interfaces", "space", "bags")
    for path in (ROOT / folder).glob("*.py")
)
ROS_PACKAGES = ("rclpy", "sensor_msgs", "std_msgs", "builtin_interfaces", "vision_msgs", "rosidl_runtime_py")
BLOCK = """
import importlib, sys
from importlib.abc import MetaPathFinder

class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
"""


def run_without(blocked, code):
    """Run code in a fresh interpreter that cannot import some packages; returns what it prints."""
    program = BLOCK.format(blocked=blocked) + code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_messages_and_recorded_data_need_no_ros():
    pytest.importorskip("rosbags", reason="needs the extra bag")
    assert "synseg_ros.bags.command" in WITHOUT_ROS and "synseg_ros.interfaces.message_maker" in WITHOUT_ROS
    names = [name.removesuffix(".__init__") for name in WITHOUT_ROS]
    printed = run_without(ROS_PACKAGES, f"for name in {names!r}: print(importlib.import_module(name).__name__)")
    assert printed.split() == names


def imports_of(path):
    """Name the modules that a file imports, and whether it does so inside a function."""
    tree = ast.parse(path.read_text())
    at_the_top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in at_the_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node not in at_the_top


def test_the_training_package_is_imported_by_the_players_scenes_alone_and_only_when_they_are_shown():
    found = [
        (str(path.relative_to(ROOT)), inside)
        for path in sorted(ROOT.rglob("*.py"))
        for module, inside in imports_of(path)
        if module.partition(".")[0] == "training"
    ]
    assert found == [("player/sources.py", True)]


def test_scenes_without_the_training_package_are_refused_with_what_to_do():
    code = """
from synseg_ros.player.sources import make_source

assert make_source("photographs", 0, 64, 48, 0.0).fps
try:
    make_source("scenes", 0, 64, 48, 0.0)
except ValueError as error:
    print(error)
"""
    refused = run_without(("training",), code)
    assert refused.startswith("source 'scenes' needs the training package, which is not installed: ")
