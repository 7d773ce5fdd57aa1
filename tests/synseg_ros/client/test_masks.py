"""Consumers get full-size masks by name, and the example finds what is there."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from synseg_ros.msg import ClassMasks

from synseg_model.weights.pedigree import Met, Pedigree
from synseg_ros.client import FrameMasks, MaskClient
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "find_object.py"


def test_a_client_gets_full_size_masks_of_present_and_absent_labels(make_rig, bench):
    rig, frames, refusals = make_rig(), [], []
    client = MaskClient(bench.node, "camera", frames.append, refusals.append)
    bench.closers.append(client.close)
    client.ask(["ball", "cube"])
    bench.spin_until(lambda: frames, rig.show, "a frame")
    frame = frames[0]
    assert (frame.version, frame.labels, frame.ids, frame.present) == (1, ("ball", "cube"), (1, 2), ("ball", "cube"))
    assert list(frame.masks) == ["ball", "cube"]
    assert frame.masks["ball"].shape == (HEIGHT, WIDTH) and frame.masks["ball"].dtype == bool
    np.testing.assert_array_equal(frame.masks["ball"], ~frame.masks["cube"])
    assert frame.masks["ball"][:, : WIDTH // 2].all()
    assert frame.scores["ball"] == pytest.approx(1.0)
    assert frame.presence == {"ball": 1.0, "cube": 1.0}
    with pytest.raises(KeyError, match="dog"):
        frame.masks["dog"]
    client.ask(["ball"], thresholds=[2.0])
    bench.spin_until(lambda: refusals, what="the refusal")
    assert "2.0" in refusals[0]
    assert client.status.version == 1


def test_a_client_is_told_how_the_model_met_its_labels(make_rig, bench):
    make_rig(pedigree=Pedigree({"ball": Met(masks=2)}))
    client = MaskClient(bench.node)
    bench.closers.append(client.close)
    assert client.pedigree == {}
    client.ask(["Ball", "cube"])
    bench.spin_until(lambda: "nearest" in client.pedigree.get("cube", ""), what="the nearest name")
    assert client.pedigree["Ball"] == "taught by masks (2 images)"
    assert client.pedigree["cube"].startswith('never met; nearest known: "ball" (')


@pytest.mark.parametrize(("label", "status", "said"), [("red  ball", 0, "red ball: centre"), ("", 2, "refused")])
def test_the_example_tells_direction_or_refusal(make_rig, bench, label, status, said):
    rig = make_rig()
    command = [sys.executable, str(EXAMPLE), label, "--seconds", "120"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parents[1]), os.environ["PYTHONPATH"]])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    bench.spin_until(lambda: process.poll() is not None, rig.show, "the example's end")
    out, err = process.communicate()
    assert (process.returncode, said in out + err) == (status, True), out + err


def test_the_example_of_the_client_runs_and_prints_what_is_present(make_rig, bench, capsys):
    (example,) = doctest.DocTestFinder(recurse=False).find(MaskClient, "MaskClient", globs={"node": bench.node})
    assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
    rig = make_rig(labels=["cup", "table"])
    masks = rig.listen(ClassMasks, "masks")
    rig.show_until(lambda: masks, "masks")
    example.globs["on_frame"](FrameMasks.from_message(masks[0]))
    half = HEIGHT * WIDTH // 2
    assert capsys.readouterr().out == f"cup 1.0 {half} pixels\ntable 1.0 {half} pixels\n"


def test_a_label_that_ros_would_cut_is_refused(bench):
    client = MaskClient(bench.node)
    with pytest.raises(ValueError, match=r"'ro\\x00ad' has a NUL"):
        client.ask(["ball", "ro\0ad"])
    client.close()
