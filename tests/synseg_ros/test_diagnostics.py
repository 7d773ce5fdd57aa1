"""What the node says about itself is what happened."""

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticStatus

from synseg_ros.diagnostics import WINDOW_SECONDS, CameraStatistics, RateLimit

pytestmark = pytest.mark.ros


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def values(status):
    return {pair.key: pair.value for pair in status.values}


def test_a_rate_limit_admits_one_event_a_period_and_counts_the_others(clock):
    limit = RateLimit(period=5.0, clock=clock)
    assert [limit.admit(), limit.admit(), limit.admit()] == [0, None, None]
    clock.now += 5.0
    assert [limit.admit(), limit.admit()] == [2, None]
    clock.now += 5.0
    assert limit.admit() == 1


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
    statistics.count("received")
    statistics.count("dropped")
    statistics.count("dropped")
    statistics.error("bad", "step 3")
    rows = values(statistics.status("n", {"engine": "torch"}, ready=True))
    assert (rows["frames received"], rows["frames dropped"], rows["frames bad"]) == ("1", "2", "1")
    assert (rows["engine"], rows["last error"]) == ("torch", "step 3")


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
