"""The node's frames in Rerun: what was found, where it is, and no frame late because of a viewer."""

import signal
import sys

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.exceptions import InvalidParameterValueException
from synseg_ros.msg import FrameInfo

from synseg_model.install_hints import install_command
from synseg_model.viewer import viewer as viewers
from synseg_model.viewer.target import read_target
from synseg_ros.node.viewer_output import unused
from synseg_ros.qos import EVERY_MESSAGE
from tests.synseg_ros.node.depth_scene import DEPTH, HALF_PIXEL, LABELS, Scene, expected, flat

pytestmark = pytest.mark.ros
START = 1000 * 10**9  # nanoseconds: the second in which the rig's frames are


@pytest.fixture
def rerun():
    return pytest.importorskip("rerun", reason="needs rerun-sdk: the extra rerun")


@pytest.fixture
def server(rerun):
    from tests.synseg_model.viewer.server import Server

    server = Server()
    server.start()
    yield server
    server.end()


def logged(file):
    from tests.synseg_model.viewer.logged import rows

    return rows(file)


def rows_of(status):
    return {row.key: row.value for row in status.values}


def own(statuses):
    """Return the node's own newest status."""
    return statuses[-1].status[-1] if statuses else DiagnosticStatus()


def shown(rig):
    return int(rig.node._viewer.rows()["viewer frames shown"])


def look(rig):
    """Show a frame, and wait until the viewer has it."""
    before = shown(rig)
    stamp = rig.show()
    rig.bench.spin_until(lambda: shown(rig) > before, what="the viewer")
    return START + stamp


def publish_until(rig, condition, what):
    """Show frames one by one, each of which must come out of the node, until the condition holds."""

    def publish():
        before = rig.counts()["segmented"]
        rig.show()
        rig.bench.spin_until(lambda: rig.counts()["segmented"] > before, what="the frame on its topics")

    rig.bench.spin_until(condition, meanwhile=publish, what=what)


def test_frames_reach_a_file_although_no_topic_has_a_subscriber(rerun, make_rig, tmp_path):
    file = tmp_path / "seen.rrd"
    rig = make_rig(rerun=str(file))
    rig.ask("ball", "cup")
    rig.connect()
    stamps = [look(rig) for _ in range(3)]
    assert rig.node.close()
    found = logged(file)
    assert [(row["frame"], row["stamp"]) for row in found["camera/image"]] == list(enumerate(stamps))
    names = [one["class_description"]["info"]["label"] for one in found["camera"][0]["context"][0]]
    assert names == ["", "ball", "cup"]
    for row in found["camera/image/instances"]:
        assert [text.rpartition(" ")[0] for text in sorted(row["labels"])] == ["ball", "cup"]
    assert not any(name.startswith("space/") for name in found)


@pytest.mark.usefixtures("more_messages")
def test_positions_and_points_are_where_the_scene_has_them(rerun, make_rig, tmp_path):
    file = tmp_path / "seen.rrd"
    scene = Scene(make_rig(depth_topics=[DEPTH], depth_tolerance=0.0, rerun=str(file)))
    scene.inform()
    scene.measure(flat(2.0))
    scene.settle()
    look(scene.rig)
    scene.rig.show()  # without depth
    scene.bench.spin_until(lambda: shown(scene.rig) == 2, what="the viewer")
    assert scene.rig.node.close()
    found = logged(file)
    objects, gone = found["space/lens/camera/objects"]
    by_label = {text.rpartition(" ")[0]: index for index, text in enumerate(objects["labels"])}
    positions = found["space/lens/camera/positions"][0]["positions"]
    for index, label in enumerate(LABELS):
        assert positions[by_label[label]] == pytest.approx(expected(index), abs=HALF_PIXEL)
    assert gone["is_recursive"] == [False]
    points = found["space/lens/camera/points"][0]
    np.testing.assert_allclose(np.array(points["positions"])[:, 2], 2.0)
    assert set(points["class_ids"]) == {1, 2, 3}


def test_a_viewer_that_hangs_makes_no_frame_wait(server, make_rig, monkeypatch):
    monkeypatch.setattr(viewers, "SETTLE_SECONDS", 600.0)
    rig = make_rig(rerun=f"127.0.0.1:{server.port}")
    statuses = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.listen(FrameInfo, "info")
    rig.ask("ball")
    rig.connect()
    look(rig)
    server.process.send_signal(signal.SIGSTOP)
    publish_until(rig, lambda: int(rig.node._viewer.rows()["viewer frames dropped"]) >= 5, "frames without room")
    rig.bench.spin_until(lambda: int(rows_of(own(statuses)).get("viewer frames dropped", 0)) >= 5, what="diagnostics")
    assert not rig.node.close()  # which is told, so that the process does not wait, either
    server.process.send_signal(signal.SIGCONT)


def test_a_viewer_that_goes_away_is_a_warning(server, make_rig):
    rig = make_rig(rerun=f"127.0.0.1:{server.port}")
    statuses = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.listen(FrameInfo, "info")
    rig.ask("ball")
    rig.connect()
    look(rig)
    server.end()
    publish_until(rig, lambda: "not shown in Rerun" in own(statuses).message, "a warning")
    assert own(statuses).level == DiagnosticStatus.WARN
    assert str(server.port) in rows_of(own(statuses))["viewer problem"]


def test_a_viewer_that_is_not_there_yet_is_waited_for(server, make_rig, monkeypatch):
    monkeypatch.setattr(viewers, "RETRY_SECONDS", 0.0)
    server.end()
    rig = make_rig(rerun=f"127.0.0.1:{server.port}")
    rig.ask("ball")
    rig.connect()
    rig.show_until(lambda: rig.node._viewer.problem, what="a try")
    server.start()
    rig.show_until(lambda: shown(rig) > 0, what="the viewer")
    assert not rig.node._viewer.problem


def test_without_rerun_configure_says_how_to_get_it(make_rig, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    rig = make_rig(start=False, rerun="a.rrd")
    assert not rig.node.start()
    assert install_command("rerun") in rig.node._error


def test_without_the_parameter_there_is_no_viewer(make_rig, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    rig = make_rig()
    assert rig.node._viewer is None


def test_a_value_that_is_no_target_is_refused_by_name(make_rig):
    with pytest.raises(InvalidParameterValueException, match=r"rerun 'laptop': expected the HOST:PORT"):
        make_rig(rerun="laptop")


def test_a_file_that_exists_is_kept(tmp_path):
    target = read_target(str(tmp_path / "a.rrd"))
    assert unused(target) == target
    target.file.touch()
    (tmp_path / "a-2.rrd").touch()
    assert unused(target).file == tmp_path / "a-3.rrd"
