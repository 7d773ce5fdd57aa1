"""An engine that takes minutes to build holds up no transition and no frame, and the build ends with the node's."""

import os
import re
import sys

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from synseg_ros.msg import ClassMasks

from synseg_model.engines.onnxruntime import OnnxEngine
from synseg_model.engines.upgrading import UpgradingEngine
from synseg_ros.qos import EVERY_MESSAGE

pytestmark = pytest.mark.ros
DONE = TransitionCallbackReturn.SUCCESS


class BetterEngine(OnnxEngine):
    """A second engine of the same model, told apart by its name."""

    name = "better"


@pytest.fixture
def build(tmp_path, make_rig, exported_small):
    """A node whose better engine is being built, by a process that goes on when the pipe `end` is written to."""
    return Build(tmp_path, make_rig, exported_small)


class Build:
    def __init__(self, folder, make_rig, model):
        self.begun, self.end = folder / "begun", folder / "end"
        os.mkfifo(self.begun)
        os.mkfifo(self.end)
        code = """
import os, sys
with open(sys.argv[1], "w") as begun:
    begun.write(str(os.getpid()))
with open(sys.argv[2]) as end:
    sys.exit(end.read() or 0)
"""
        command = [sys.executable, "-c", code, str(self.begun), str(self.end)]
        engine = UpgradingEngine(OnnxEngine(model, "cpu"), "better", command, lambda: BetterEngine(model, "cpu"))
        self.rig = make_rig(engine=engine, start=False, labels=["ball", "grass"])
        self.masks = self.rig.listen(ClassMasks, "masks")
        self.diagnostics = self.rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
        assert self.rig.node.trigger_configure() == DONE
        self.process = int(self.begun.read_text())  # of the build, which cannot have ended

    def activate(self):
        assert self.rig.node.trigger_activate() == DONE
        self.rig.connect()

    def see_masks(self):
        heard = len(self.masks)
        self.rig.show_until(lambda: len(self.masks) > heard, "masks")

    def wait_for_status(self, condition, what):
        """Show frames until the node's own status meets a condition; return that status."""
        heard = len(self.diagnostics)
        self.rig.show_until(
            lambda: len(self.diagnostics) > heard and condition(self.diagnostics[-1].status[-1]), what=what
        )
        return self.diagnostics[-1].status[-1]

    def is_running(self):
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        return True


def values_of(status):
    return {pair.key: pair.value for pair in status.values}


def test_configure_does_not_wait_for_the_build_and_the_engine_changes_between_two_frames(build):
    assert build.is_running()
    build.activate()
    build.see_masks()
    status = build.wait_for_status(lambda status: re.search(r"engine, [1-9]\d* s", status.message), "seconds")
    pattern = r"active; building the better engine, \d+ s; running on onnxruntime meanwhile"
    assert re.fullmatch(pattern, status.message) and status.level == DiagnosticStatus.OK
    assert values_of(status)["engine"] == "onnxruntime"
    build.see_masks()
    build.end.write_text("")
    status = build.wait_for_status(lambda status: not values_of(status)["engine build"], "the end of the build")
    assert (status.message, values_of(status)["engine"]) == ("active", "better")
    build.see_masks()
    assert {mask.vocabulary_version for mask in build.masks} == {1}
    assert build.rig.counts()["failed"] == 0


def test_a_build_that_fails_is_a_warning_with_its_reason_and_frames_go_on(build):
    build.activate()
    build.end.write_text("reading the graph\nno room for the engine")
    status = build.wait_for_status(lambda status: "no better engine" in status.message, "the warning")
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "active; no better engine (no room for the engine): running on onnxruntime"
    build.see_masks()


@pytest.mark.parametrize("end", ["trigger_cleanup", "trigger_shutdown", "close"])
def test_the_build_ends_with_what_started_it(build, end):
    assert build.is_running()
    getattr(build.rig.node, end)()
    assert not build.is_running()
