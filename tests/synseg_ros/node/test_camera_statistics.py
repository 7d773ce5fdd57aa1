"""What the statistics of a camera say is what happened."""

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticStatus

from synseg_ros.node.camera_statistics import WINDOW_SECONDS, CameraStatistics

pytestmark = pytest.mark.ros


def values(status):
    return {pair.key: pair.value for pair in status.values}


def test_rate_and_latencies_are_those_of_the_last_seconds(clock):
    statistics = CameraStatistics(clock=clock)
    statistics.segmented(latency_ms=9999.0, inference_ms=9999.0)
    clock.now += WINDOW_SECONDS + 1
    for latency in (10.0, 20.0, 30.0):
        statistics.segmented(latency, inference_ms=5.0)
    rows = values(statistics.status("n", {}, ready=True))
    assert rows["frames per second"] == f"{3 / WINDOW_SECONDS:.1f}"
    assert rows["latency p50 (ms)"] == "20.0"
    assert rows["inference p50 (ms)"] == "5.0"
    assert rows["frames segmented"] == "4"


def test_frames_without_a_stamp_have_no_latency(clock):
    statistics = CameraStatistics(clock=clock)
    statistics.segmented(float("nan"), inference_ms=5.0)
    assert "latency p50 (ms)" not in values(statistics.status("n", {}, ready=True))


def test_every_kind_of_frame_is_counted(clock):
    statistics = CameraStatistics(clock=clock)
    statistics.received({})
    statistics.count("dropped")
    statistics.count("dropped")
    statistics.error("bad", "step 3")
    rows = values(statistics.status("n", {"engine": "torch"}, ready=True))
    assert (rows["frames received"], rows["frames dropped"], rows["frames bad"]) == ("1", "2", "1")
    assert (rows["engine"], rows["last error"]) == ("torch", "step 3")


def numbered(number, publisher=b"p"):
    return {"publisher_gid": {"data": publisher}, "publication_sequence_number": number}


def test_gaps_in_the_cameras_numbering_are_lost_frames(clock):
    statistics = CameraStatistics(clock=clock)
    for number in (7, 8, 11, 12):
        statistics.received(numbered(number))
    rows = values(statistics.status("n", {}, ready=True))
    assert (rows["frames received"], rows["frames lost"]) == ("4", "2")


def test_another_or_restarted_camera_or_no_numbering_is_no_loss(clock):
    statistics = CameraStatistics(clock=clock)
    for info in (numbered(7), numbered(90, b"q"), numbered(91, b"q"), numbered(1, b"q"), numbered(None), {}):
        statistics.received(info)
    assert values(statistics.status("n", {}, ready=True))["frames lost"] == "0"


def test_many_lost_frames_are_a_warning_while_they_last(clock):
    statistics = CameraStatistics(clock=clock)
    statistics.received(numbered(1))
    statistics.received(numbered(5))
    first = statistics.status("n", {}, ready=True)
    assert first.level == DiagnosticStatus.WARN
    assert "60% of the camera's frames are lost" in first.message
    clock.now += 1.0
    assert statistics.status("n", {}, ready=True).level == DiagnosticStatus.WARN, "what is lost next shows later"
    clock.now += WINDOW_SECONDS + 1
    statistics.status("n", {}, ready=True)
    statistics.received(numbered(6))
    assert statistics.status("n", {}, ready=True).level == DiagnosticStatus.OK


def test_an_error_shows_for_some_seconds_and_stays_in_the_list(clock):
    statistics = CameraStatistics(clock=clock)
    statistics.error("failed", "out of memory")
    assert statistics.status("n", {}, ready=True).level == DiagnosticStatus.ERROR
    clock.now += WINDOW_SECONDS + 1
    later = statistics.status("n", {}, ready=True)
    assert later.level == DiagnosticStatus.OK
    assert values(later)["last error"] == "out of memory"


def test_waiting_for_a_vocabulary_is_a_warning(clock):
    status = CameraStatistics(clock=clock).status("n", {}, ready=False)
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "waiting for a vocabulary")
