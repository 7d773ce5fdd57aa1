"""Detections, objects and points of a camera: right where all is there, and never stale or invented where not."""

import struct

import cv2
import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from builtin_interfaces.msg import Time
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from synseg_ros.srv import Locate

from synseg_model.instances import POINT
from synseg_ros.qos import EVERY_MESSAGE
from synseg_ros.ros_messages import sequence
from tests.synseg_ros.node.asking import Asker
from tests.synseg_ros.node.depth_scene import (
    CENTER,
    DEPTH,
    FOCAL,
    HALF_PIXEL,
    LABELS,
    expected,
    flat,
    look_until,
)
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("more_messages")]


def by_label(message):
    return {one.results[0].hypothesis.class_id: one for one in message.detections}


def xyz(point):
    return point.x, point.y, point.z


def test_detections_need_no_depth_and_keep_their_ids(make_scene):
    scene = make_scene(depth_topics=[""])
    for _ in range(3):
        scene.look()
    for message in scene.detections:
        assert message.header.frame_id == "lens"
        found = by_label(message)
        assert sorted(found) == sorted(LABELS)
        for index, label in enumerate(LABELS):
            box = found[label].bbox
            assert (box.size_x, box.size_y) == pytest.approx((WIDTH / 3, HEIGHT), abs=1)
            center = box.center.position
            assert (center.x, center.y) == pytest.approx(((index + 0.5) * WIDTH / 3, HEIGHT / 2), abs=1)
            assert found[label].results[0].hypothesis.score == pytest.approx(1.0, abs=0.2)
    ids = [{label: one.id for label, one in by_label(message).items()} for message in scene.detections]
    assert ids[0] == ids[1] == ids[2]
    assert sorted(ids[0].values()) == ["1", "2", "3"]
    assert scene.objects == scene.points == []


def test_objects_are_where_depth_says_in_the_cameras_frame(make_scene):
    scene = make_scene()
    scene.inform()
    scene.measure(flat())
    scene.settle()
    stamp = scene.look()
    scene.bench.spin_until(lambda: scene.objects and scene.points, what="objects and points")
    (message,) = scene.objects
    assert (message.header.stamp.nanosec, message.header.frame_id) == (stamp, "lens")
    found = by_label(message)
    for index, label in enumerate(LABELS):
        assert xyz(found[label].results[0].pose.pose.position) == pytest.approx(expected(index), abs=HALF_PIXEL)
        box = found[label].bbox
        assert xyz(box.size) == pytest.approx((WIDTH / 3 / FOCAL * 2, HEIGHT / FOCAL * 2, 0), abs=0.1)
        assert box.center.orientation.w == 1
    assert {label: one.id for label, one in found.items()} == {
        label: one.id for label, one in by_label(scene.detections[-1]).items()
    }
    (cloud,) = scene.points
    assert (cloud.header.frame_id, cloud.point_step, cloud.width) == ("lens", POINT.itemsize, WIDTH * HEIGHT)
    points = np.frombuffer(cloud.data, POINT)
    assert [(field.name, field.offset) for field in cloud.fields] == [(n, o) for n, (_, o) in POINT.fields.items()]
    assert np.unique(points["z"]).tolist() == [2.0]
    assert np.unique(points["label"]).tolist() == [1, 2, 3]
    number = int(found["cup"].id)
    assert points["x"][points["instance"] == number].mean() == pytest.approx(expected(1)[0], abs=HALF_PIXEL)


def test_depth_of_half_the_size_gives_the_same_positions(make_scene):
    scene = make_scene()
    scene.inform()
    scene.measure(flat(height=HEIGHT // 2, width=WIDTH // 2))
    scene.settle()
    scene.look()
    scene.bench.spin_until(lambda: scene.objects, what="objects")
    found = by_label(scene.objects[0])
    for index, label in enumerate(LABELS):
        assert xyz(found[label].results[0].pose.pose.position) == pytest.approx(expected(index), abs=0.03)


def test_distortion_of_the_lens_is_undone(make_scene):
    scene = make_scene()
    scene.inform(model="plumb_bob", d=(-0.25, 0.05, 0.0, 0.0, 0.0))
    scene.measure(flat())
    scene.settle()
    scene.look()
    scene.bench.spin_until(lambda: scene.points, what="points")
    points = np.frombuffer(scene.points[0].data, POINT)
    k = np.array([[FOCAL, 0, CENTER[0]], [0, FOCAL, CENTER[1]], [0, 0, 1]])
    d = np.array([-0.25, 0.05, 0, 0, 0])
    seen = np.stack([points[name] for name in "xyz"], -1).astype(np.float64)
    pixels = cv2.projectPoints(seen, np.zeros(3), np.zeros(3), k, d)[0].reshape(HEIGHT, WIDTH, 2)
    assert np.abs(pixels - np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1)).max() < 0.01


def transform(parent, child, translation, quaternion=(0.0, 0.0, 0.0, 1.0), stamp=0):
    from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

    x, y, z = translation
    a, b, c, d = quaternion
    return TransformStamped(
        header=Header(stamp=Time(sec=1000, nanosec=stamp), frame_id=parent),
        child_frame_id=child,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=a, y=b, z=c, w=d)),
    )


def test_objects_are_in_the_target_frame_once_the_transform_is_there(make_scene):
    from tf2_msgs.msg import TFMessage

    scene = make_scene(target_frame="base_link")
    scene.inform()
    scene.measure(flat())
    scene.settle()
    scene.look()
    assert scene.objects == []
    assert scene.problem() == "transform not available: no transform of the frame 'lens' has arrived"
    # The optical frame: x right, y down, z forward. base_link: x forward, y left, z up.
    optical = (-0.5, 0.5, -0.5, 0.5)
    scene.tf_static.publish(TFMessage(transforms=[transform("base_link", "lens", (0.1, 0.0, 1.0), optical)]))
    look_until(scene, lambda: scene.objects, what="objects")
    assert scene.objects[-1].header.frame_id == "base_link"
    for index, label in enumerate(LABELS):
        x, y, z = expected(index)
        position = by_label(scene.objects[-1])[label].results[0].pose.pose.position
        assert xyz(position) == pytest.approx((0.1 + z, -x, 1.0 - y), abs=HALF_PIXEL)
    assert scene.points[-1].header.frame_id == "lens"


def test_depth_of_another_camera_is_registered(make_scene):
    from tf2_msgs.msg import TFMessage

    scene = make_scene()
    shift = 4 / FOCAL * 2.0  # four pixels at two metres
    scene.inform()
    scene.inform(scene.depth_info, frame_id="depth_lens")
    scene.tf_static.publish(TFMessage(transforms=[transform("lens", "depth_lens", (shift, 0.0, 0.0))]))
    metres = flat(2.0)

    def next_frame():
        scene.measure(metres, frame_id="depth_lens")
        scene.look()

    scene.bench.spin_until(lambda: scene.points, meanwhile=next_frame, what="points")
    points = np.frombuffer(scene.points[-1].data, POINT)
    assert points["z"] == pytest.approx(2.0)
    # What is to the left of the depth camera's view is not known.
    leftmost = (3.5 - CENTER[0]) / FOCAL * 2.0
    assert leftmost - 0.05 < points["x"].min() < leftmost + 0.1
    found = by_label(scene.objects[-1])
    assert xyz(found["cup"].results[0].pose.pose.position) == pytest.approx(expected(1), abs=0.05)


def test_objects_are_where_a_moving_robot_was_at_the_frames_stamp(make_scene):
    from tf2_msgs.msg import TFMessage

    scene = make_scene(target_frame="map")
    scene.inform()

    def next_frame():  # the frame comes half-way between two transforms, and after those of the frame before
        scene.rig.stamp += 10
        moves = [transform("map", "lens", (x, 0.0, 0.0), stamp=scene.rig.stamp + t) for x, t in ((1.0, 0), (3.0, 2))]
        scene.tf.publish(TFMessage(transforms=moves))
        scene.measure(flat())
        scene.look()

    scene.bench.spin_until(lambda: scene.objects, meanwhile=next_frame, what="objects")
    x, y, z = expected(1)
    position = by_label(scene.objects[-1])["cup"].results[0].pose.pose.position
    assert xyz(position) == pytest.approx((2.0 + x, y, z), abs=HALF_PIXEL)
    scene.rig.stamp += 500_000_000
    before = len(scene.objects)
    scene.measure(flat())
    scene.look()
    assert len(scene.objects) == before
    assert scene.problem() == "transform not available: the newest transform of 'lens' is 0.500 s older than the image"


@pytest.mark.parametrize("target_frame", ["", "map"])
def test_a_location_that_is_asked_for_has_a_position_in_the_target_frame(make_scene, target_frame):
    from tf2_msgs.msg import TFMessage

    scene = make_scene(target_frame=target_frame)
    scene.inform()
    scene.tf_static.publish(TFMessage(transforms=[transform("map", "lens", (0.0, 0.0, 5.0))]))
    asker = Asker(scene.rig)

    def next_frame():
        scene.measure(flat())
        scene.rig.show()

    def found():
        answer = asker.ask(Locate, next_frame, labels=["mug", "plate"], seconds=1.0)
        return [thing for located in answer.results for thing in located.instances]

    for _ in range(20):  # the first frames may come before their depth or the transform
        things = found()
        if things and all(thing.has_position for thing in things):
            break
    assert len(things) == 2
    for thing in things:
        assert thing.has_position, thing.position_reason
        assert thing.position_frame_id == (target_frame or "lens")
        assert thing.position.z == pytest.approx(7.0 if target_frame else 2.0)
        assert thing.box_size.y == pytest.approx(HEIGHT / FOCAL * 2.0, abs=0.1)


def test_a_location_that_is_asked_for_has_the_id_of_its_detection(make_scene):
    scene = make_scene(depth_topics=[""])
    answer = Asker(scene.rig).ask(Locate, scene.rig.show, labels=["cup"])
    (thing,) = answer.results[0].instances
    # One label alone fills the image in this engine: it is the cup whose stripe lies in it.
    stamp = answer.headers[0].stamp
    scene.bench.spin_until(lambda: any(one.header.stamp == stamp for one in scene.detections), what="its detections")
    (message,) = (one for one in scene.detections if one.header.stamp == stamp)
    assert str(thing.track_id) == by_label(message)["cup"].id


def test_objects_without_depth_of_their_own_are_left_out(make_scene):
    scene = make_scene()
    metres = flat()
    metres[:, : WIDTH // 3] = np.nan
    scene.inform()
    scene.measure(metres)
    scene.settle()
    scene.look()
    scene.bench.spin_until(lambda: scene.objects, what="objects")
    assert sorted(by_label(scene.objects[0])) == ["box", "cup"]
    assert sorted(by_label(scene.detections[-1])) == sorted(LABELS)
    rows = scene.rig.node._cameras["camera"].objects.statistics.rows()
    assert (rows["objects"], rows["objects with a position (%)"], rows["position problem"]) == ("3", "67", "")


def test_compressed_depth_is_found_and_read(make_scene):
    scene = make_scene()
    scene.bench.node.destroy_publisher(scene.depth)
    compressed = scene.bench.node.create_publisher(CompressedImage, f"{DEPTH}/compressedDepth", EVERY_MESSAGE)
    png = np.frombuffer(cv2.imencode(".png", np.full((HEIGHT, WIDTH), 2000, np.uint16))[1].tobytes(), np.uint8)
    data = np.concatenate((np.frombuffer(struct.pack("<iff", 0, 0.0, 0.0), np.uint8), png))

    def next_frame():
        scene.inform()
        header = Header(stamp=Time(sec=1000, nanosec=scene.rig.stamp + 1), frame_id="lens")
        compressed.publish(CompressedImage(header=header, format="16UC1; compressedDepth png", data=sequence(data)))
        scene.look()

    scene.bench.spin_until(lambda: scene.objects, meanwhile=next_frame, what="objects")
    assert xyz(by_label(scene.objects[0])["cup"].results[0].pose.pose.position) == pytest.approx(
        expected(1), abs=HALF_PIXEL
    )


def test_a_disparity_image_gives_positions(make_scene, bench):
    from stereo_msgs.msg import DisparityImage

    topic = "/stereo/disparity"
    stereo = bench.node.create_publisher(DisparityImage, topic, EVERY_MESSAGE)
    scene = make_scene(depth_topics=[topic])
    pixels = np.full((HEIGHT, WIDTH), FOCAL * 0.1 / 2.0, np.float32)

    def next_frame():
        scene.inform()
        header = Header(stamp=Time(sec=1000, nanosec=scene.rig.stamp + 1), frame_id="lens")
        image = Image(header=header, height=HEIGHT, width=WIDTH, encoding="32FC1", step=4 * WIDTH)
        image.data = sequence(pixels.reshape(-1).view(np.uint8))
        stereo.publish(DisparityImage(header=header, image=image, f=FOCAL, t=0.1, max_disparity=64.0))
        scene.look()

    bench.spin_until(lambda: scene.objects, meanwhile=next_frame, what="objects")
    found = by_label(scene.objects[0])
    assert xyz(found["cup"].results[0].pose.pose.position) == pytest.approx(expected(1), abs=HALF_PIXEL)


def test_nothing_is_computed_for_outputs_that_are_switched_off(make_scene):
    scene = make_scene()
    scene.inform()
    scene.measure(flat())
    scene.settle()
    names = ("publish_objects", "publish_points")
    scene.rig.node.set_parameters([Parameter(name, value=False) for name in names])
    scene.look()
    assert scene.objects == scene.points == []
    assert scene.problem() == ""


def test_without_vision_msgs_the_topics_are_missing_and_all_else_works(make_rig, monkeypatch):
    import sys

    for name in ("vision_msgs", "vision_msgs.msg"):
        monkeypatch.setitem(sys.modules, name, None)
    rig = make_rig()
    topics = {publisher.topic_name.rpartition("/")[2] for publisher in rig.node.publishers}
    assert {"masks", "points"} <= topics
    assert not topics & {"detections", "objects", "label_info"}
