"""The player shows what it was given, with the truth where it is known."""

import json
from itertools import islice

import cv2
import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from synseg_ros.msg import FrameInfo

from synseg_ros.demo.truth import TruthSegments
from synseg_ros.interfaces.image_encodings import image_to_array, image_to_rgb
from synseg_ros.player import player as player_module
from synseg_ros.player.photographs.tour import Tour
from synseg_ros.player.player import Player
from synseg_ros.player.sources import SCENE_SECONDS, ImageSource, SceneSource, make_source
from synseg_ros.qos import EVERY_MESSAGE, EVERY_MESSAGE_SO_FAR, LATCHED
from training.scenes.scenes import SceneVideo

pytestmark = pytest.mark.ros

SEED, WIDTH, HEIGHT = 3, 96, 64


@pytest.fixture
def play(bench):
    """Start a player with a context of its own, which it shuts down at its end."""

    def start(**parameters):
        context = rclpy.Context()
        rclpy.init(context=context, args=[])
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        player = Player(context=context, parameter_overrides=given)
        bench.closers += [context.try_shutdown, player.close]
        player.start()
        return player

    return start


@pytest.fixture
def folder(tmp_path):
    """Three images of different widths."""
    for index in range(3):
        image = np.full((48, 64 + index, 3), (10, 20, 30 + index), np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    return tmp_path


def stamp_of(message):
    return message.header.stamp.sec, message.header.stamp.nanosec


def test_a_scene_is_shown_there_and_back_again():
    source = SceneSource(SEED, WIDTH, HEIGHT, fps=1.0)
    video = SceneVideo(SEED, size=(HEIGHT, WIDTH), fps=1.0)
    last = round(SCENE_SECONDS) - 1
    order = [*range(last + 1), *range(last - 1, -1, -1), 1]
    for index, shot in zip(order, islice(source, len(order)), strict=True):
        np.testing.assert_array_equal(shot.image, video.frame(index).image)
        np.testing.assert_array_equal(shot.index_map, video.frame(index).index_map)


def test_the_truth_of_a_scene_agrees_with_the_scene():
    source, scene = SceneSource(SEED, WIDTH, HEIGHT, fps=1.0), SceneVideo(SEED, (HEIGHT, WIDTH), fps=1.0).frame(0)
    truth = TruthSegments.from_json(source.segments)
    assert {*truth.nouns, *truth.coloured, *truth.stuff} >= set(scene.labels)
    for label in scene.labels:
        np.testing.assert_array_equal(truth.mask(label, scene.index_map), scene.mask(label))


def test_photographs_are_shown_with_the_truth_of_their_labels():
    source = make_source("photographs", SEED, WIDTH, HEIGHT, fps=0.0)
    tour, truth = Tour(WIDTH, HEIGHT, source.fps), TruthSegments.from_json(source.segments)
    for index, shot in enumerate(islice(source, 30)):
        image, index_map = tour.frame(index)
        np.testing.assert_array_equal(shot.image, image)
        np.testing.assert_array_equal(truth.known_pixels(shot.index_map), index_map > 0)
        for number, label in enumerate(tour.names):
            np.testing.assert_array_equal(truth.mask(label, shot.index_map), (index_map == number) & (number > 1))


def test_images_are_shown_in_order_every_time(folder):
    source = ImageSource(str(folder), fps=0.0)
    for _ in range(2):
        assert [shot.image.shape[1] for shot in source] == [64, 65, 66]


def test_a_video_has_its_own_rate_unless_another_is_given(tmp_path):
    path = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 24.0, (64, 48))
    for _ in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    assert ImageSource(path, fps=0.0).fps == pytest.approx(24.0)
    assert ImageSource(path, fps=7.0).fps == 7.0


def test_frames_camera_info_and_truth_share_their_stamp(bench, play):
    images = bench.collect(Image, "/front/image_raw", qos_profile_sensor_data)
    infos = bench.collect(CameraInfo, "/front/camera_info", EVERY_MESSAGE_SO_FAR)
    truths = bench.collect(Image, "/front/truth/index_map", EVERY_MESSAGE)
    segments = bench.collect(String, "/front/truth/segments", LATCHED)
    play(source="scenes", topic="/front/image_raw", seed=SEED, width=WIDTH, height=HEIGHT, fps=10.0, frame_id="lens")

    def joined():
        return set(map(stamp_of, images)) & set(map(stamp_of, infos)) & set(map(stamp_of, truths))

    bench.spin_until(lambda: segments and len(joined()) >= 2)
    image, truth = (next(m for m in messages if stamp_of(m) == min(joined())) for messages in (images, truths))
    assert (image.header.frame_id, truth.header.frame_id) == ("lens", "lens")
    video = SceneVideo(SEED, size=(HEIGHT, WIDTH), fps=10.0)
    scenes = [video.frame(index) for index in range(round(10 * SCENE_SECONDS))]
    (shown,) = (scene for scene in scenes if np.array_equal(scene.image, image_to_rgb(image)))
    np.testing.assert_array_equal(image_to_array(truth), shown.index_map)
    assert len(json.loads(segments[0].data)) == len(shown.segments)


def test_nothing_is_shown_before_somebody_subscribes(bench, play, folder):
    infos = bench.collect(CameraInfo, "/camera/camera_info", EVERY_MESSAGE_SO_FAR)
    player = play(source=str(folder), fps=200.0, loop=False)
    bench.spin_until(lambda: player._space.info.get_subscription_count() == 1)
    assert player.published == 0
    bench.collect(Image, "/camera/image_raw", qos_profile_sensor_data)
    bench.spin_until(lambda: len(infos) == 3)
    assert [info.width for info in infos] == [64, 65, 66]


def test_a_source_without_loop_ends_the_player(bench, play, folder):
    bench.collect(Image, "/camera/image_raw", qos_profile_sensor_data)
    player = play(source=str(folder), fps=200.0, loop=False)
    bench.spin_until(lambda: not player.context.ok())
    assert (player.published, player.failed) == (3, False)


def test_the_rate_is_not_exceeded(bench, play, folder):
    bench.collect(Image, "/camera/image_raw", qos_profile_sensor_data)
    infos = bench.collect(CameraInfo, "/camera/camera_info", EVERY_MESSAGE_SO_FAR)
    play(source=str(folder), fps=50.0)
    bench.spin_until(lambda: len(infos) >= 12)
    seconds, nanoseconds = np.subtract(stamp_of(infos[-1]), stamp_of(infos[0]))
    assert seconds + nanoseconds / 1e9 > 0.9 * (len(infos) - 1) / 50.0


def test_a_frame_waits_for_the_answer_to_the_one_before(bench, play, folder):
    answers = bench.node.create_publisher(FrameInfo, "/answers", EVERY_MESSAGE)
    images = bench.collect(Image, "/camera/image_raw", qos_profile_sensor_data)
    player = play(source=str(folder), loop=False, wait_for="/answers")
    rclpy_executor = rclpy.executors.SingleThreadedExecutor(context=player.context)
    rclpy_executor.add_node(player)
    bench.spin_until(lambda: images and answers.get_subscription_count())
    assert {image.width for image in images} == {64}
    assert player.published == 1

    def answer():
        answers.publish(FrameInfo(header=images[-1].header))
        if player.context.ok():
            rclpy_executor.spin_once(timeout_sec=0.01)

    bench.spin_until(lambda: player.published == 3, meanwhile=answer)
    bench.spin_until(lambda: not player.context.ok(), meanwhile=answer)
    assert player.unanswered == 0
    assert list(dict.fromkeys(image.width for image in images)) == [64, 65, 66]


def test_a_frame_without_an_answer_is_sent_again_and_then_given_up(bench, play, folder, monkeypatch):
    monkeypatch.setattr(player_module, "ANSWER_SECONDS", 0.1)
    images = bench.collect(Image, "/camera/image_raw", qos_profile_sensor_data)
    player = play(source=str(folder), loop=False, wait_for="/answers")
    bench.spin_until(lambda: not player.context.ok())
    assert (player.published, player.unanswered) == (3, 3)
    bench.spin_until(lambda: len(images) > 3)
    assert len(set(map(stamp_of, images))) <= 3


def test_the_frames_are_as_reliable_as_they_are_asked_to_be(play, folder):
    name = "qos_overrides./camera/image_raw.publisher.reliability"
    player = play(source=str(folder), **{name: "reliable"})
    assert player._images.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert play(source=str(folder))._images.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
