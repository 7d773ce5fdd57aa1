"""The node's parameters at the start, and what it says of itself."""

import dataclasses

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from synseg_ros.msg import ClassMasks

from synseg_model.engines.null import NullEngine
from synseg_ros.node.node import SynSegNode
from synseg_ros.qos import EVERY_MESSAGE

pytestmark = pytest.mark.ros


def test_a_vocabulary_can_be_given_at_the_start_with_a_threshold(make_rig):
    rig = make_rig(labels=["ball", " Ball ", "cube"], threshold=0.25)
    rig.bench.spin_until(lambda: rig.statuses and rig.statuses[-1].version)
    assert (rig.statuses[-1].version, list(rig.statuses[-1].labels)) == (1, ["ball", "cube"])
    assert list(rig.statuses[-1].thresholds) == [0.25, 0.25]


def test_diagnostics_tell_robots_apart(bench):
    node = SynSegNode(context=bench.context, namespace="/robot1")
    bench.closers += [node.destroy_node, node.close]
    bench.executor.add_node(node)
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    bench.spin_until(lambda: diagnostics, what="diagnostics")
    assert [status.name for status in diagnostics[0].status] == ["robot1/synseg"]


def test_diagnostics_tell_engine_vocabulary_and_counts(make_rig):
    rig = make_rig()
    rig.listen(ClassMasks, "masks")
    diagnostics = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.connect()
    rig.ask("ball", "cube")
    rig.show_until(lambda: rig.counts()["segmented"] >= 2, "two frames")
    heard = len(diagnostics)
    rig.bench.spin_until(lambda: len(diagnostics) > heard)
    status = diagnostics[-1].status[0]
    values = {pair.key: pair.value for pair in status.values}
    assert (status.name, status.level) == ("synseg: camera", DiagnosticStatus.OK)
    assert (values["engine"], values["vocabulary version"], values["labels"]) == ("null", "1", "2")
    assert int(values["frames segmented"]) >= 2


def test_a_model_for_other_images_is_warned_of_once_in_the_log_and_named_in_the_diagnostics(make_rig, capfd):
    engine = NullEngine()
    engine.config = dataclasses.replace(engine.config, name="small", domain="generated scenes")
    rig = make_rig(engine=engine)
    diagnostics = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.bench.spin_until(lambda: diagnostics, what="diagnostics")
    log = capfd.readouterr().err
    assert log.count("the model 'small' is for generated scenes") == 1 and "'synseg-everyday'" in log
    values = {pair.key: pair.value for pair in diagnostics[-1].status[-1].values}
    assert values["model warning"].startswith("the model 'small' is for generated scenes")


@pytest.mark.parametrize("expected", ["generated scenes", ""])
def test_a_model_for_the_images_that_are_expected_is_not_warned_of(make_rig, capfd, expected):
    engine = NullEngine()
    engine.config = dataclasses.replace(engine.config, domain="generated scenes")
    rig = make_rig(engine=engine, expect_domain=expected)
    diagnostics = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.bench.spin_until(lambda: diagnostics, what="diagnostics")
    assert "is for generated" not in capfd.readouterr().err
    assert {pair.key: pair.value for pair in diagnostics[-1].status[-1].values}["model warning"] == ""
