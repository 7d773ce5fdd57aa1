"""Message types of recordings are those of ROS."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from tests.synseg_ros.bags.recordings import TYPES


def test_types_have_the_hashes_that_ros_gives_them():
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    files = [file for prefix in prefixes for file in Path(prefix, "share", "synseg_ros", "msg").glob("*.json")]
    if not files:
        pytest.skip("the messages are not built")
    for file in files:
        hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(file.read_text())["type_hashes"]}
        name = f"synseg_ros/msg/{file.stem}"
        assert TYPES.describe(name)[1] == hashes[name]
