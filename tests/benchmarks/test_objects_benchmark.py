"""The benchmark of objects times every output that it has a target for."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra train")
pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from tests.extra_interfaces import provide

pytestmark = pytest.mark.ros


def test_every_output_has_its_time(tmp_path):
    provide()  # the benchmark would build them anew, with optimisation
    output = tmp_path / "objects.json"
    subprocess.run([sys.executable, "-m", "benchmarks.objects", "--repeats=2", f"--output={output}"], check=True)
    measured = json.loads(output.read_text())["outputs"]
    assert set(measured) == {"label_map", "detections", "objects", "points"}
    assert all(row["thread_ms"] > 0 for row in measured.values())
