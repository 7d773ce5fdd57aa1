"""Several cameras share one model fairly, raw or compressed, and a silent one is named."""

import cv2
import numpy as np
import pytest
import rclpy

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from synseg_ros.msg import ClassMasks

from synseg_ros.qos import EVERY_MESSAGE
from synseg_ros.ros_messages import image_from_array
from tests.synseg_ros.rig import HEIGHT, TOPIC, WIDTH

pytestmark = pytest.mark.ros


def values_of(status):
    return {pair.key: pair.value for pair in status.values}


def test_a_rate_limit_skips_frames(make_rig):
    rig = make_rig(max_rate=0.001)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: rig.counts()["skipped"] >= 3, "skipped frames")
    rig.bench.spin_until(lambda: masks)
    assert rig.counts()["segmented"] == 1


@pytest.fixture
def elsewhere():
    """A node in a context of its own, as if in another process: Fast DDS has one type per topic and process."""
    context = rclpy.Context()
    rclpy.init(context=context, args=[])
    yield rclpy.create_node("elsewhere", context=context)
    context.try_shutdown()


def test_compressed_frames_are_segmented_by_their_message_type(make_rig, bench, elsewhere):
    topic = "/rear/image/compressed"
    camera = elsewhere.create_publisher(CompressedImage, topic, qos_profile_sensor_data)
    rig = make_rig(camera=topic, camera_names=["camera"])
    masks = rig.listen(ClassMasks, "masks")
    rig.ask("ball")
    data = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()

    def show():
        camera.publish(CompressedImage(header=Header(frame_id="lens"), format="jpeg", data=data))

    bench.spin_until(lambda: masks, meanwhile=show)
    assert (masks[0].height, masks[0].width, masks[0].header.frame_id) == (HEIGHT, WIDTH, "lens")


def test_a_silent_camera_is_named_and_the_others_are_segmented(make_rig, bench, capfd):
    rig = make_rig(camera_topics=["/camera/image_raw", "/rear/image_raw"], stale_seconds=0.5)
    masks = rig.listen(ClassMasks, "masks")
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.connect()
    rig.ask("ball")

    def own():
        return diagnostics[-1].status[-1] if diagnostics else None

    rig.show_until(lambda: masks and own() and "rear" in own().message, "the silent camera's name")
    assert own().level == DiagnosticStatus.WARN
    assert values_of(own())["stale cameras"] == "rear (/rear/image_raw)"
    front, rear = diagnostics[-1].status[:2]
    assert (front.name, rear.name) == ("synseg: camera", "synseg: rear")
    assert "no frame for" in rear.message and "no frame for" not in front.message
    said = [line for line in capfd.readouterr().err.splitlines() if "no frame from" in line]
    assert len(said) == 1 and "no frame from /rear/image_raw for 0.5 s" in said[0]


def test_cameras_that_wait_go_through_the_engine_together(make_rig, bench, troubled):
    rig = make_rig(engine=troubled, camera_topics=["/camera/image_raw", "/rear/image_raw"])
    rear = bench.node.create_publisher(Image, "/rear/image_raw", qos_profile_sensor_data)
    masks = rig.listen(ClassMasks, "masks")
    others = bench.collect(ClassMasks, "/synseg/rear/masks", EVERY_MESSAGE)
    rig.connect()
    bench.spin_until(lambda: rear.get_subscription_count())
    rig.ask("ball")
    troubled.gate.clear()
    rig.show_until(troubled.busy.is_set, "a frame in the engine")
    counts = rig.node._cameras["rear"].statistics.counts

    def show_both():
        rig.show()
        rear.publish(image_from_array(np.zeros((HEIGHT, WIDTH + 2, 3), np.uint8), "rgb8", Header(frame_id="rear")))

    bench.spin_until(lambda: counts["received"] >= 2 and rig.counts()["received"] >= 3, meanwhile=show_both)
    troubled.gate.set()
    bench.spin_until(lambda: others and len(masks) >= 2)
    assert 2 in troubled.batches
    assert (others[0].width, others[0].header.frame_id) == (WIDTH + 2, "rear")


def test_a_camera_that_turns_out_to_be_compressed_is_subscribed_to_anew(make_rig, bench, elsewhere):
    rig = make_rig(camera="/rear/image", camera_names=["camera"])
    masks = rig.listen(ClassMasks, "masks")
    rig.ask("ball")
    camera = elsewhere.create_publisher(CompressedImage, "/rear/image", qos_profile_sensor_data)
    data = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    bench.spin_until(lambda: masks, meanwhile=lambda: camera.publish(CompressedImage(format="png", data=data)))
    assert (masks[0].height, masks[0].width) == (HEIGHT, WIDTH)


def jpeg_of(width):
    return cv2.imencode(".jpg", np.zeros((HEIGHT, width, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize("earlier", [True, False])
def test_a_camera_that_publishes_compressed_frames_only_is_found(make_rig, bench, elsewhere, earlier, capfd):
    topic = "/rear/image/compressed"
    rig = make_rig(camera="/rear/image", camera_names=["camera"], start=False)
    assert earlier or rig.node.start()
    camera = elsewhere.create_publisher(CompressedImage, topic, qos_profile_sensor_data)
    bench.spin_until(lambda: rig.node.get_publishers_info_by_topic(topic), what="the camera")
    assert not earlier or rig.node.start()
    masks = rig.listen(ClassMasks, "masks")
    rig.ask("ball")
    frame = CompressedImage(format="jpeg", data=jpeg_of(WIDTH))
    bench.spin_until(lambda: masks, meanwhile=lambda: camera.publish(frame))
    assert (masks[0].height, masks[0].width) == (HEIGHT, WIDTH)
    assert f"subscribing to {topic}" in capfd.readouterr().err


def test_raw_frames_come_before_compressed_ones_as_soon_as_they_are_there(make_rig, bench, elsewhere):
    compressed = elsewhere.create_publisher(CompressedImage, "/rear/image/compressed", qos_profile_sensor_data)
    rig = make_rig(camera="/rear/image", camera_names=["camera"])
    masks = rig.listen(ClassMasks, "masks")
    rig.ask("ball")
    frame = CompressedImage(format="jpeg", data=jpeg_of(WIDTH))
    bench.spin_until(lambda: masks, meanwhile=lambda: compressed.publish(frame))
    raw = elsewhere.create_publisher(Image, "/rear/image", qos_profile_sensor_data)
    image = image_from_array(np.zeros((HEIGHT, WIDTH + 2, 3), np.uint8), "rgb8", Header())
    bench.spin_until(lambda: masks[-1].width == WIDTH + 2, meanwhile=lambda: raw.publish(image))


def test_a_topic_without_a_publisher_is_called_so(make_rig, bench, capfd):
    make_rig(stale_seconds=0.2, camera="/rear/image")
    said = []

    def told():
        said.append(capfd.readouterr().err)
        return "it has no publisher, nor has /rear/image/compressed" in "".join(said)

    bench.spin_until(told)


def test_damaged_jpegs_are_counted_and_named(make_rig, bench, elsewhere, capfd):
    pytest.importorskip("simplejpeg", reason="needs simplejpeg, which tells of damage")
    camera = elsewhere.create_publisher(CompressedImage, "/rear/image/compressed", qos_profile_sensor_data)
    rig = make_rig(camera="/rear/image", camera_names=["camera"])
    rig.listen(ClassMasks, "masks")
    rig.ask("ball")
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    frame = CompressedImage(format="jpeg", data=data[: len(data) // 2] + b"\xff\xd9")
    bench.spin_until(lambda: rig.counts()["bad"] >= 2, meanwhile=lambda: camera.publish(frame), what="bad frames")
    assert rig.counts()["segmented"] == 0
    assert "skipped a frame of /rear/image: format 'jpeg'" in capfd.readouterr().err


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_is_no_image(make_rig, encoding, capfd):
    rig = make_rig()
    rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")

    def show():
        size = 2 if encoding == "16UC1" else 4
        rig.show(encoding=encoding, step=size * WIDTH, data=bytes(size * WIDTH * HEIGHT))

    rig.bench.spin_until(lambda: rig.counts()["bad"] >= 2, meanwhile=show, what="bad frames")
    assert rig.counts()["segmented"] == 0
    assert f"encoding '{encoding}' is depth, not an image" in capfd.readouterr().err


def test_compressed_depth_is_no_image(make_rig, bench, elsewhere):
    camera = elsewhere.create_publisher(CompressedImage, "/rear/depth/compressed", qos_profile_sensor_data)
    rig = make_rig(camera="/rear/depth", camera_names=["camera"])
    rig.listen(ClassMasks, "masks")
    rig.ask("ball")
    png = cv2.imencode(".png", np.full((HEIGHT, WIDTH), 1500, np.uint16))[1].tobytes()
    frame = CompressedImage(format="16UC1; png compressed ", data=png)
    bench.spin_until(lambda: rig.counts()["bad"] >= 2, meanwhile=lambda: camera.publish(frame), what="bad frames")
    assert rig.counts()["segmented"] == 0


def test_the_newest_frame_wins_and_the_others_are_counted_as_dropped(make_rig, troubled):
    rig = make_rig(engine=troubled)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")
    troubled.gate.clear()
    rig.show_until(troubled.busy.is_set, "a frame in the engine")
    counted = rig.counts()["dropped"]
    for _ in range(5):
        seen = rig.counts()["received"]
        newest = rig.show()
        rig.bench.spin_until(lambda seen=seen: rig.counts()["received"] > seen)
    assert rig.counts()["dropped"] - counted in (4, 5)
    troubled.gate.set()
    rig.bench.spin_until(lambda: masks and masks[-1].header.stamp.nanosec == newest)
    assert len(masks) == 2


def test_the_quality_of_service_of_the_camera_can_be_set(make_rig):
    name = f"qos_overrides.{TOPIC}.subscription"
    rig = make_rig(**{f"{name}.reliability": "reliable", f"{name}.depth": 4})
    (subscription,) = (s for s in rig.node.subscriptions if s.topic_name == TOPIC)
    assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert subscription.qos_profile.depth == 4


BAD_FRAMES = {
    "encoding 'nonsense'": {"encoding": "nonsense"},
    "size 0x48 is empty": {"width": 0},
    "step 179 is shorter": {"step": WIDTH * 3 - 1},
    "data has 5 bytes": {"data": b"12345"},
}


@pytest.mark.parametrize("reason", BAD_FRAMES)
def test_bad_frames_cause_one_warning_and_the_next_good_frame_is_segmented(make_rig, capfd, reason):
    rig = make_rig()
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")

    def show_bad():
        seen = rig.counts()["received"]
        rig.show(**BAD_FRAMES[reason])
        rig.bench.spin_until(lambda: rig.counts()["received"] > seen)

    rig.bench.spin_until(lambda: rig.counts()["bad"] >= 5, meanwhile=show_bad)
    good_from = rig.stamp + 1
    rig.show_until(lambda: masks, "masks of a good frame")
    assert masks[0].header.stamp.nanosec >= good_from
    warnings = [line for line in capfd.readouterr().err.splitlines() if "skipped a frame" in line]
    assert len(warnings) == 1
    assert f"skipped a frame of {TOPIC}: {reason}" in warnings[0]
