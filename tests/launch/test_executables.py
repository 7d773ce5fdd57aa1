"""Launch files start programs by name: a name that is gone fails only on a robot."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("launch_file", sorted((ROOT / "launch").glob("*.launch.py")), ids=lambda path: path.name)
def test_every_program_that_a_launch_file_starts_is_installed(launch_file):
    started = re.findall(r'executable="(\w+)"', launch_file.read_text("utf-8"))
    assert started
    assert [name for name in started if not (ROOT / "scripts" / "ros" / name).is_file()] == []
