"""Every transition does what it says, can be repeated, and an error in one leaves the node where it was."""

import gc
import threading
import weakref

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from synseg_ros.msg import ClassMasks, Vocabulary

from synseg_model import Segmenter
from synseg_model.install_hints import install_command
from synseg_ros.node.node import SynSegNode
from synseg_ros.qos import EVERY_MESSAGE

pytestmark = pytest.mark.ros
DONE, REFUSED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def state_of(node):
    return node._state_machine.current_state[1]


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("synseg-")]


def test_every_transition_can_be_repeated_and_masks_come_while_active(make_rig):
    rig = make_rig(start=False)
    masks = rig.listen(ClassMasks, "masks")
    rig.speaker.publish(Vocabulary(labels=["ball"]))
    for _ in range(2):
        assert rig.node.trigger_configure() == DONE
        for _ in range(2):
            assert rig.node.trigger_activate() == DONE
            heard = len(masks)
            rig.connect()
            rig.show_until(lambda heard=heard: len(masks) > heard, "masks")
            assert rig.node.trigger_deactivate() == DONE
        assert rig.node.trigger_cleanup() == DONE
        assert threads() == []
        outputs = {p.topic_name for p in rig.node.publishers if "/synseg/" in p.topic_name}
        assert outputs <= {"/synseg/transition_event"}
    assert rig.node.trigger_shutdown() == DONE
    assert state_of(rig.node) == "finalized"


def test_a_frame_that_is_in_the_engine_when_deactivated_is_not_published(make_rig, troubled):
    rig = make_rig(engine=troubled)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")
    troubled.gate.clear()
    rig.show_until(troubled.busy.is_set, "a frame in the engine")
    assert rig.node.trigger_deactivate() == DONE
    troubled.gate.set()
    through = threading.Event()
    rig.node._pipeline.worker.between_frames(through.set)
    rig.bench.spin_until(through.is_set)
    assert rig.node.trigger_activate() == DONE
    rig.connect()
    first = rig.stamp + 1
    rig.show_until(lambda: masks, "masks")
    assert masks[0].header.stamp.nanosec >= first


def test_cleanup_lets_go_of_the_model(make_rig, monkeypatch, stripe_engine):
    rig = make_rig(start=False)
    monkeypatch.setattr("synseg_ros.node.node.Segmenter.load", lambda *args, **options: Segmenter(stripe_engine))
    assert rig.node.start()
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: masks, "masks")
    held = weakref.ref(rig.node._pipeline.segmenter)
    rig.node.trigger_deactivate()
    rig.node.trigger_cleanup()
    assert held() is None


def test_labels_that_are_asked_for_while_inactive_are_used_and_remembered(make_rig):
    rig = make_rig(start=False)
    masks = rig.listen(ClassMasks, "masks")
    assert rig.node.trigger_configure() == DONE
    rig.bench.spin_until(lambda: rig.statuses)
    assert list(rig.ask("ball").labels) == ["ball"]
    assert rig.node.trigger_cleanup() == DONE
    rig.bench.node.destroy_publisher(rig.speaker)  # so that it is not told again
    assert rig.node.trigger_configure() == DONE
    assert rig.node.trigger_activate() == DONE
    rig.connect()
    rig.show_until(lambda: masks, "masks")
    assert list(masks[0].labels) == ["ball"]
    assert masks[0].vocabulary_version == 2


def test_labels_are_remembered_through_a_cleanup_that_comes_before_they_are_in_use_again(make_rig):
    rig = make_rig()
    rig.ask("ball")
    rig.bench.node.destroy_publisher(rig.speaker)  # so that it is not told again
    assert rig.node.trigger_deactivate() == DONE
    for _ in range(5):
        assert rig.node.trigger_cleanup() == DONE
        assert rig.node.trigger_configure() == DONE
    rig.bench.spin_until(lambda: list(rig.statuses[-1].labels) == ["ball"] and rig.statuses[-1].version > 1)


def test_an_error_in_configure_is_told_and_leaves_the_node_unconfigured(bench, capfd):
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    wrong = [Parameter("engine", value="steam"), Parameter("autostart", value=False)]
    node = SynSegNode(context=bench.context, parameter_overrides=wrong)
    bench.closers += [node.destroy_node, node.close]
    bench.executor.add_node(node)
    for _ in range(2):
        assert node.trigger_configure() == REFUSED
        assert state_of(node) == "unconfigured"
    assert "cannot be configured: engine 'steam'" in capfd.readouterr().err
    bench.spin_until(lambda: diagnostics)
    status = diagnostics[-1].status[-1]
    assert (status.name, status.level) == ("synseg", DiagnosticStatus.ERROR)
    assert "engine 'steam'" in status.message


@pytest.mark.parametrize(("module", "extra"), [("pycuda.driver", "tensorrt"), ("torch", "torch")])
def test_a_missing_library_is_called_by_its_own_name(make_rig, monkeypatch, capfd, module, extra):
    rig = make_rig(start=False)

    def fail(*_, **__):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("synseg_ros.node.node.Segmenter.load", fail)
    assert rig.node.trigger_configure() == REFUSED
    said = capfd.readouterr().err
    assert f"{module} is not installed; the {extra} engine needs: {install_command(extra)}" in said


def test_a_destroyed_node_is_gone_for_all_others_at_once(make_rig, bench):
    rig = make_rig()
    bench.spin_until(lambda: "synseg" in bench.node.get_node_names())
    gc.disable()  # not only when Python gets round to it
    try:
        rig.node.close()
        rig.node.destroy_node()
        bench.spin_until(lambda: "synseg" not in bench.node.get_node_names(), what="the node's end")
    finally:
        gc.enable()
