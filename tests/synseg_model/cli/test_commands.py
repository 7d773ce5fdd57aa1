"""Commands are found: this package's own, the project's `bag`, and those of other packages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from synseg_model.cli import commands

ROOT = Path(__file__).resolve().parents[3]


def synseg(*arguments, path=(), options=()):
    """Run the command line in a fresh interpreter, with folders on its path."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, *options, "-m", "synseg_model", *arguments]
    return subprocess.run(command, cwd=path[0] if path else ROOT, env=variables, capture_output=True, text=True)


def write_plugin(folder, text, name="greet"):
    """Write an installed package with one module, which is a command."""
    (folder / "greeting.py").write_text(text)
    metadata = folder / "greeting-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[synseg.commands]\n{name} = greeting\n")


GREETING = """
NAME, HELP = "greet", "say hello"
def add_arguments(parser):
    parser.add_argument("who")
def run(arguments):
    print("hello", arguments.who)
    return 0
"""


def test_every_command_has_what_a_command_offers():
    found = list(commands.find_commands(complain=pytest.fail))
    assert {"segment", "export", "build-engine", "info", "bag"} <= {command.NAME for command in found}
    for command in found:
        assert command.HELP and callable(command.add_arguments) and callable(command.run)


def test_bag_is_found_without_metadata_and_without_libraries(tmp_path):
    for package in ("synseg_model", "synseg_ros"):  # as colcon installs them: two packages and no dist-info
        (tmp_path / package).symlink_to(ROOT / package)
    done = synseg("bag", "--help", path=[tmp_path], options=["-S"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: synseg bag" in done.stdout and "rosbag2" in done.stdout


def test_the_package_alone_has_its_own_commands_only(tmp_path):
    (tmp_path / "synseg_model").symlink_to(ROOT / "synseg_model")
    done = synseg("--help", path=[tmp_path], options=["-S"])
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"(?m)^    ([a-z-]+)", done.stdout)
    assert listed == ["segment", "live", "export", "build-engine", "info"]


def test_a_command_of_another_package_is_found_by_its_entry_point(tmp_path):
    write_plugin(tmp_path, GREETING)
    done = synseg("greet", "robot", path=[tmp_path, ROOT])
    assert (done.returncode, done.stdout) == (0, "hello robot\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"), ("NAME = 'sing'", "has the NAME 'sing'")],
)
def test_a_broken_command_of_another_package_is_told_and_stops_no_other(tmp_path, text, reason):
    write_plugin(tmp_path, text)
    done = synseg("--help", path=[tmp_path, ROOT])
    assert done.returncode == 0 and "build-engine" in done.stdout
    assert "synseg: the command 'greet' of greeting cannot be used: " in done.stderr and reason in done.stderr


def test_the_commands_found_without_metadata_are_those_of_pyproject():
    text = (ROOT / "pyproject.toml").read_text()
    section = text.partition('[project.entry-points."synseg.commands"]\n')[2].partition("\n\n")[0]
    assert dict(re.findall(r'(?m)^(\S+) = "(.+)"$', section)) == commands._WITHOUT_METADATA
