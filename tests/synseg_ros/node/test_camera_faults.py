"""What is wrong with one camera's frames costs no other camera a frame, and every frame is counted."""

import time

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from synseg_ros.msg import ClassMasks

from synseg_ros.node.camera_statistics import KINDS
from synseg_ros.qos import EVERY_MESSAGE, remedy_for_losses
from synseg_ros.ros_messages import image_from_array
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros
TOPICS = ["/camera/image_raw", "/rear/image_raw"]


class TwoCameras:
    """A node with a camera of good frames and one, "rear", that gives what a test wants; both are heard."""

    def __init__(self, rig, bench):
        self.rig, self.bench = rig, bench
        self.rear = bench.node.create_publisher(Image, TOPICS[1], qos_profile_sensor_data)
        self.masks = rig.listen(ClassMasks, "masks")
        self.others = bench.collect(ClassMasks, "/synseg/rear/masks", EVERY_MESSAGE)
        rig.connect()
        bench.spin_until(self.rear.get_subscription_count)
        rig.ask("ball")

    def counts(self, name):
        return self.rig.node._cameras[name].statistics.counts

    def show_rear(self, stamp):
        pixels = np.zeros((HEIGHT, WIDTH + 2, 3), np.uint8)
        self.rear.publish(image_from_array(pixels, "rgb8", Header(stamp=stamp, frame_id="rear")))

    def show_both_until(self, condition, stamp, what):
        """Publish a frame of each, when those before have been looked at."""

        def next_frames():
            seen = [self.counts(name)["received"] for name in ("camera", "rear")]
            self.rig.show()
            self.show_rear(stamp)
            self.bench.spin_until(
                lambda: all(self.counts(name)["received"] > n for name, n in zip(("camera", "rear"), seen, strict=True))
            )

        self.bench.spin_until(condition, meanwhile=next_frames, what=what)

    def uncounted(self, name):
        """Return how many received frames are in no other counter."""
        counts = self.counts(name)
        return counts["received"] - sum(counts[kind] for kind in KINDS if kind not in ("received", "lost"))


@pytest.fixture
def cameras(make_rig, bench, troubled):
    return TwoCameras(make_rig(engine=troubled, camera_topics=TOPICS), bench)


STAMPS = {
    "negative": Time(sec=-1),
    "the most negative": Time(sec=-(2**31)),
    "not set": Time(),
    "since boot": Time(sec=17, nanosec=5),
    "more nanoseconds than a second has": Time(sec=5, nanosec=4_000_000_000),
    "the last one there is": Time(sec=2**31 - 1, nanosec=999_999_999),
}


@pytest.mark.parametrize("stamp", STAMPS.values(), ids=STAMPS.keys())
def test_any_stamp_is_answered_with_its_own_header_and_costs_no_other_camera_a_frame(cameras, stamp, capfd):
    cameras.show_both_until(lambda: len(cameras.others) >= 3 and len(cameras.masks) >= 3, stamp, "masks of both")
    assert {(m.header.stamp.sec, m.header.stamp.nanosec) for m in cameras.others} == {(stamp.sec, stamp.nanosec)}
    for name in ("camera", "rear"):
        cameras.bench.spin_until(lambda name=name: cameras.uncounted(name) == 0, what="all frames in the counts")
        assert cameras.counts(name)["failed"] == cameras.counts(name)["bad"] == 0
    said = capfd.readouterr().err
    assert "Error" not in said
    (line,) = [line for line in said.splitlines() if f"the stamps of {TOPICS[1]}" in line]
    assert "latency is not known" in line


def test_stamps_of_another_clock_are_no_latency_and_the_diagnostics_say_so(cameras, bench):
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)

    def row(key):
        values = {pair.key: pair.value for pair in diagnostics[-1].status[1].values} if diagnostics else {}
        return values.get(key, "")

    an_hour_ago = Time(sec=int(time.time()) - 3600)
    cameras.show_both_until(lambda: row("latency"), an_hour_ago, "a word on the latency")
    assert "another clock" in row("latency")
    assert not row("latency p50 (ms)")
    assert "segmenting at" in diagnostics[-1].status[1].message


def test_an_error_in_one_cameras_counting_is_counted_named_and_costs_the_others_nothing(cameras, monkeypatch, capfd):
    def broken(*_, **__):
        raise RuntimeError("a disk of stone")

    monkeypatch.setattr(cameras.rig.node._cameras["rear"].statistics, "segmented", broken)
    cameras.show_both_until(
        lambda: cameras.counts("rear")["failed"] >= 3 and len(cameras.masks) >= 3, Time(sec=1), "frames of both"
    )
    cameras.bench.spin_until(lambda: cameras.uncounted("rear") == cameras.uncounted("camera") == 0)
    said = [line for line in capfd.readouterr().err.splitlines() if "a disk of stone" in line]
    assert len(said) == 1 and TOPICS[1] in said[0]


def test_frames_that_wait_or_are_in_the_engine_when_it_is_deactivated_are_counted_as_dropped(cameras, troubled):
    troubled.gate.clear()
    cameras.show_both_until(troubled.busy.is_set, Time(sec=1), "a frame in the engine")
    received = cameras.counts("camera")["received"]
    cameras.rig.show()
    cameras.bench.spin_until(lambda: cameras.counts("camera")["received"] > received)
    cameras.rig.node.trigger_deactivate()
    troubled.gate.set()
    cameras.bench.spin_until(lambda: cameras.uncounted("rear") == cameras.uncounted("camera") == 0, what="the counts")
    assert cameras.counts("camera")["dropped"] >= 1


def test_frames_that_come_while_inactive_are_not_lost(cameras, bench):
    cameras.show_both_until(lambda: len(cameras.masks) >= 2, Time(sec=1), "masks")
    lost = cameras.counts("camera")["lost"]
    node = cameras.rig.node
    for _ in range(2):
        node.trigger_deactivate()
        bench.spin_until(lambda: not cameras.rig.camera.get_subscription_count(), what="the node's deafness")
        for _ in range(40):
            cameras.rig.show()
        node.trigger_activate()
        cameras.rig.connect()
        bench.spin_until(cameras.rear.get_subscription_count)
        heard = len(cameras.masks)
        cameras.show_both_until(lambda heard=heard: len(cameras.masks) > heard + 1, Time(sec=1), "masks again")
    assert cameras.counts("camera")["lost"] - lost <= 2
    assert cameras.rig.node._cameras["camera"].statistics.share_lost < 0.2


@pytest.mark.parametrize(
    ("environment", "helps", "does_not"),
    [
        ({}, "FASTDDS_BUILTIN_TRANSPORTS=", "ignore larger buffers"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "FASTDDS_BUILTIN_TRANSPORTS=", "ignore larger buffers"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "ignore larger buffers", "FASTDDS_BUILTIN_TRANSPORTS="),
        ({"ROS_LOCALHOST_ONLY": "1"}, "ignore larger buffers", "FASTDDS_BUILTIN_TRANSPORTS="),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "reliable connection", "FASTDDS_BUILTIN_TRANSPORTS="),
    ],
)
def test_the_advice_on_lost_frames_is_one_that_helps_where_it_is_given(environment, helps, does_not):
    advice = remedy_for_losses("/camera/image_raw", environment)
    assert helps in advice and does_not not in advice
    assert "RMW_IMPLEMENTATION" in environment or (
        "qos_overrides./camera/image_raw.subscription.reliability:=reliable" in advice
    )


def test_a_camera_most_of_whose_frames_are_lost_is_named_with_what_helps(make_rig, monkeypatch, capfd):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rig = make_rig()
    camera = rig.node._cameras["camera"]
    for number in (1, 10, 20):
        camera.statistics.received({"publisher_gid": {"data": b"p"}, "publication_sequence_number": number})
    camera.statistics.status("n", {}, ready=True)
    camera.input.watch()
    said = f"of the frames of {TOPICS[0]} are lost on the way; ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST makes"
    assert said in capfd.readouterr().err
