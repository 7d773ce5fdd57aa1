"""A frame's way: an engine that fails costs one frame, and a vocabulary changes between two frames."""

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from synseg_ros.msg import ClassMasks, Vocabulary

from synseg_ros.qos import EVERY_MESSAGE
from tests.synseg_ros.rig import TOPIC

pytestmark = pytest.mark.ros


def test_a_failing_engine_is_reported_and_the_next_frame_is_segmented(make_rig, troubled, capfd):
    rig = make_rig(engine=troubled)
    masks = rig.listen(ClassMasks, "masks")
    diagnostics = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.connect()
    rig.ask("ball")
    troubled.failures = 3
    rig.show_until(lambda: masks, "masks after the failures")
    assert rig.counts()["failed"] == 3
    warnings = [line for line in capfd.readouterr().err.splitlines() if "could not segment" in line]
    assert len(warnings) == 1
    assert f"a frame of {TOPIC}: RuntimeError: out of memory" in warnings[0]
    rig.bench.spin_until(lambda: any(d.status[0].level == DiagnosticStatus.ERROR for d in diagnostics))


def test_a_frame_in_the_engine_keeps_the_vocabulary_that_it_began_with(make_rig, troubled):
    rig = make_rig(engine=troubled)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball", "cube")
    troubled.gate.clear()
    rig.show_until(troubled.busy.is_set, "a frame in the engine")
    rig.speaker.publish(Vocabulary(labels=["grass"]))
    rig.bench.spin_until(lambda: rig.node._pipeline.worker._tasks, what="the next vocabulary, behind the frame")
    assert not masks
    troubled.gate.set()
    rig.show_until(lambda: masks and masks[-1].vocabulary_version == 2, "masks of the next vocabulary")
    assert (masks[0].vocabulary_version, list(masks[0].labels)) == (1, ["ball", "cube"])
    assert {(mask.vocabulary_version, *mask.labels) for mask in masks[1:]} == {(2, "grass")}
