"""The node's topics are made from a recording: its frames, its vocabularies, its own topics."""

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from synseg_model.io.drawing import overlay
from synseg_model.io.image_file import decode_image
from synseg_model.weights.pedigree import Met, Pedigree
from synseg_ros.bags.message_types import COMPRESSED, IMAGE, VOCABULARY, MessageTypes
from synseg_ros.bags.writing import STORAGES
from synseg_ros.interfaces.compressed_images import compressed_to_rgb
from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.interfaces.mask_encodings import mask_in_frame
from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS
from tests.synseg_ros.bags.recordings import (
    FRAMES,
    FRONT,
    LATENCY,
    OUTPUTS,
    REAR,
    SCENES,
    SIZE,
    START,
    STEP,
    TYPES,
    drive,
    front_frame,
    message,
    png,
    read,
    rear_frame,
    record,
    run,
    segmenter_for,
    storage_file,
)


@pytest.mark.parametrize("storage", STORAGES)
def test_every_output_says_what_the_segmenter_says(engine, tmp_path, storage, capsys):
    source = record(tmp_path / "in", storage)
    assert run(source, tmp_path / "out", "--storage", storage) == 0
    found, segmenter = read(tmp_path / "out"), segmenter_for(engine)
    assert set(found) == {f"/synseg/{c}/{o}" for c in ("front", "rear") for o in OUTPUTS} | {"/synseg/active_vocab"}
    seen = 0
    for camera, turn, offset in (("front", 1, 0), ("rear", -1, STEP // 2)):
        for index in range(FRAMES):
            image = np.ascontiguousarray(SCENES[index][:, ::turn])
            result = segmenter.segment(image)
            time, masks = found[f"/synseg/{camera}/masks"][index]
            assert time == START + index * STEP + offset
            assert [mask.id - 1 for mask in masks.masks] == list(result.present)
            assert masks.labels == list(result.labels) and (masks.height, masks.width) == SIZE
            for mask in masks.masks:
                pasted = np.zeros(SIZE, np.uint8)
                x, y = mask.roi.x_offset, mask.roi.y_offset
                pasted[y : y + mask.roi.height, x : x + mask.roi.width] = image_to_array(mask.mask)
                np.testing.assert_array_equal(pasted == 255, result.masks[mask.id - 1])
                seen += 1
            images = {kind: image_to_array(found[f"/synseg/{camera}/{kind}"][index][1]) for kind in OUTPUTS[2:]}
            np.testing.assert_array_equal(images["label_map"], result.label_map)
            np.testing.assert_array_equal(images["confidence"], np.round(255 * result.confidence))
            np.testing.assert_array_equal(images["overlay"], overlay(image, result))
    assert seen > FRAMES
    assert "12 frames segmented" in capsys.readouterr().out


def test_headers_and_times_of_reception_are_those_of_the_frames(tmp_path):
    run(record(tmp_path / "in"), tmp_path / "out")
    found = read(tmp_path / "out")
    for camera, offset in (("front", 0), ("rear", STEP // 2)):
        times = [START + index * STEP + offset for index in range(FRAMES)]
        for kind in OUTPUTS:
            messages = found[f"/synseg/{camera}/{kind}"]
            assert [time for time, _ in messages] == times
            assert stamps(messages) == [(time - LATENCY, camera) for time in times]
        masks = [mask for _, message in found[f"/synseg/{camera}/masks"] for mask in message.masks]
        assert {mask.mask.header.frame_id for mask in masks} == {camera}


def stamps(messages):
    return [(m.header.stamp.sec * 10**9 + m.header.stamp.nanosec, m.header.frame_id) for _, m in messages]


def test_the_vocabulary_comes_first_and_is_latched(tmp_path):
    run(record(tmp_path / "in"), tmp_path / "out")
    ((time, status),) = read(tmp_path / "out")["/synseg/active_vocab"]
    assert (time, status.version, status.accepted) == (START, 1, True)
    assert status.labels == ["red ball", "grass", "sky"] and len(status.colors) == len(status.thresholds) == 3
    with AnyReader([tmp_path / "out"]) as reader:
        first = next(iter(reader.messages()))[0]
        assert first.topic == "/synseg/active_vocab"
        (quality,) = first.ext.offered_qos_profiles
        assert (quality.durability.name, quality.depth) == ("TRANSIENT_LOCAL", 1)


def test_only_what_is_asked_for_is_written(tmp_path):
    options = ["--topics", f"nose={FRONT}", "--write", "label_map", "--every", "4", "--storage", "sqlite3"]
    assert run(record(tmp_path / "in"), tmp_path / "out", *options) == 0
    found = read(tmp_path / "out")
    assert set(found) == {"/synseg/nose/label_map", "/synseg/active_vocab"}
    assert [time for time, _ in found["/synseg/nose/label_map"]] == [START, START + 4 * STEP]
    assert storage_file(tmp_path / "out").suffix == ".db3"


@pytest.mark.parametrize("encoding", MASK_ENCODINGS)
def test_masks_are_written_as_asked_and_the_overlay_as_a_jpeg(engine, tmp_path, encoding):
    options = ["--mask-encoding", encoding, "--write", "masks", "overlay/compressed", "--topics", FRONT]
    assert run(record(tmp_path / "in"), tmp_path / "out", *options) == 0
    found, segmenter = read(tmp_path / "out"), segmenter_for(engine)
    assert set(found) == {"/synseg/front/masks", "/synseg/front/overlay/compressed", "/synseg/active_vocab"}
    for index, (_, masks) in enumerate(found["/synseg/front/masks"]):
        result = segmenter.segment(SCENES[index])
        assert {mask.mask_encoding for mask in masks.masks} <= {encoding}
        assert [mask.id - 1 for mask in masks.masks] == list(result.present)
        for mask in masks.masks:
            np.testing.assert_array_equal(mask_in_frame(mask, SIZE), result.masks[mask.id - 1])
    assert any(masks.masks for _, masks in found["/synseg/front/masks"])
    jpegs = [jpeg for _, jpeg in found["/synseg/front/overlay/compressed"]]
    assert [compressed_to_rgb(jpeg).shape for jpeg in jpegs] == [(*SIZE, 3)] * FRAMES


def test_copied_topics_keep_bytes_times_and_quality_of_service(tmp_path):
    source = record(tmp_path / "in")
    assert run(source, tmp_path / "out", "--copy") == 0
    with AnyReader([source]) as before, AnyReader([tmp_path / "out"]) as after:
        wanted = [connection for connection in after.connections if connection.topic in (FRONT, REAR)]
        copies = [(c.topic, time, data) for c, time, data in after.messages(wanted)]
        assert copies == [(c.topic, time, data) for c, time, data in before.messages()]


def test_outputs_recorded_before_are_neither_segmented_nor_copied(tmp_path):
    assert run(record(tmp_path / "in"), tmp_path / "first", "--copy") == 0
    assert run(tmp_path / "first", tmp_path / "second", "--copy", labels="sea") == 0
    found = read(tmp_path / "second")
    assert {tuple(info.labels) for _, info in found["/synseg/front/info"]} == {("sea",)}
    assert len(found["/synseg/front/overlay"]) == len(found[FRONT]) == FRAMES


def test_a_topic_of_an_unknown_type_is_not_copied_and_named(tmp_path, capsys):
    types = MessageTypes()
    types._store.register(get_types_from_msg("int32 value", "other_msgs/msg/Secret"))
    with Writer(tmp_path / "in", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        secret = writer.add_connection("/secret", "other_msgs/msg/Secret", typestore=types._store)
        writer.storage.schemas[-1] = writer.storage.schemas[-1]._replace(data="no message definition at all !")
        image = writer.add_connection(FRONT, IMAGE, typestore=TYPES._store)
        writer.write(secret, START, b"\0\1\0\0\1\0\0\0")
        writer.write(image, START, TYPES.encode(front_frame(0)))
    assert run(tmp_path / "in", tmp_path / "out", "--copy") == 1
    warning = capsys.readouterr().err
    assert "/secret is not copied" in warning and "other_msgs/msg/Secret" in warning
    assert "/secret" not in read(tmp_path / "out")


def vocabulary(*labels, thresholds=()):
    return message(VOCABULARY, labels=list(labels), thresholds=np.array(thresholds, np.float32))


def test_recorded_vocabularies_are_followed_when_asked(tmp_path, capsys):
    requests = [(1, vocabulary("sea")), (2, vocabulary("")), (3, vocabulary("sea")), (4, vocabulary("sea", "boat"))]
    changes = [("/synseg/vocab", VOCABULARY, START + index * STEP - 1, request) for index, request in requests]
    messages = sorted([*drive(), *changes], key=lambda item: item[2])
    source = record(tmp_path / "in", messages=messages)
    assert run(source, tmp_path / "out", "--follow-vocab", "--thresholds", "0.25") == 0
    found = read(tmp_path / "out")
    infos = [info for _, info in found["/synseg/front/info"]]
    assert [info.vocabulary_version for info in infos] == [1, 2, 2, 2, 3, 3]
    assert infos[1].labels == ["sea"] and infos[5].labels == ["sea", "boat"]
    statuses = [status for _, status in found["/synseg/active_vocab"]]
    assert [(status.version, status.accepted) for status in statuses] == [
        (1, True), (2, True), (2, False), (2, True), (3, True)
    ]  # fmt: skip
    assert list(statuses[4].thresholds) == [0.25, 0.25]
    assert "refused a recorded vocabulary" in capsys.readouterr().err
    assert run(source, tmp_path / "deaf") == 0
    assert {info.vocabulary_version for _, info in read(tmp_path / "deaf")["/synseg/front/info"]} == {1}


def test_damaged_jpegs_are_counted_and_the_first_is_named(tmp_path, capsys):
    pytest.importorskip("simplejpeg", reason="needs simplejpeg, which tells of damage")

    def frames():
        for index in range(FRAMES):
            data = cv2.imencode(".jpg", SCENES[index])[1].reshape(-1)
            if index % 2:
                data = np.append(data[: len(data) // 2], np.array([0xFF, 0xD9], np.uint8))
            yield REAR, COMPRESSED, START + index * STEP, rear_frame(index, data)

    assert run(record(tmp_path / "in", messages=frames()), tmp_path / "out", "--write", "masks") == 1
    captured = capsys.readouterr()
    assert captured.err.count("the JPEG is damaged") == 1 and REAR in captured.err
    assert f"{FRAMES // 2} frames segmented, {FRAMES // 2} could not be read" in captured.out
    assert len(read(tmp_path / "out")["/synseg/rear/masks"]) == FRAMES // 2


def test_corrupt_frames_are_named_once_per_topic_and_counted(tmp_path, capsys):
    messages = []
    for index, (topic, kind, time, content) in enumerate(drive()):
        if index in (2, 4):
            content.step = 1
        elif index == 6:
            content = bytes(TYPES.encode(content))[:-50]
        elif index == 3:
            content = rear_frame(1, data=png(SCENES[1])[:40])
        elif index == 5:
            content = rear_frame(2, data=np.zeros(0, np.uint8))
        messages.append((topic, kind, time, content))
    assert run(record(tmp_path / "in", messages=messages), tmp_path / "out", "--write", "masks") == 1
    found = read(tmp_path / "out")
    kept = [(time - START) // STEP for time, _ in found["/synseg/front/masks"]]
    assert kept == [0, 4, 5]
    assert len(found["/synseg/rear/masks"]) == FRAMES - 2
    captured = capsys.readouterr()
    warnings = [line for line in captured.err.splitlines() if line.startswith("synseg: ")]
    assert len(warnings) == 2
    assert FRONT in warnings[0] and "step 1 is shorter" in warnings[0]
    assert REAR in warnings[1] and "damaged" in warnings[1]
    assert "7 frames segmented, 5 could not be read" in captured.out


def test_a_image_cut_short_in_flight_is_no_image():
    jpeg = cv2.imencode(".jpg", SCENES[0])[1].reshape(-1)
    assert decode_image(jpeg).shape == (*SIZE, 3)
    with pytest.raises(ValueError, match="damaged"):
        decode_image(jpeg[: len(jpeg) // 2])


def test_where_no_frame_can_be_read_nothing_is_written(tmp_path, capsys):
    depth = front_frame(0)
    depth.encoding = "32FC1"
    source = record(tmp_path / "in", messages=[(FRONT, IMAGE, START, depth)])
    assert run(source, tmp_path / "out", "--topics", FRONT) == 2
    captured = capsys.readouterr()
    assert "floating-point" in captured.err and "not one frame" in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_vocabulary_says_how_the_model_met_its_labels(engine, tmp_path, monkeypatch):
    known = Pedigree({"red ball": Met(masks=3), "sky": Met(captions=2)})
    monkeypatch.setattr("synseg_model.segmenter.read_pedigree", lambda model: known)
    assert run(record(tmp_path / "in"), tmp_path / "out") == 0
    ((_, status),) = read(tmp_path / "out")["/synseg/active_vocab"]
    assert status.pedigree[::2] == ["taught by masks (3 images)", "met in captions (2)"]
    assert status.pedigree[1].startswith('never met; nearest known: "')


@pytest.mark.ros
def test_ros_reads_the_written_messages(engine, tmp_path):
    serialization = pytest.importorskip("rclpy.serialization", reason="needs ROS 2: use scripts/with_env")
    ours = pytest.importorskip("synseg_ros.msg", reason="needs the built messages: use scripts/with_env")
    from sensor_msgs.msg import Image

    run(record(tmp_path / "in"), tmp_path / "out")
    result = segmenter_for(engine).segment(SCENES[0])
    first = {}
    with AnyReader([tmp_path / "out"]) as reader:
        for connection, _, data in reader.messages():
            first.setdefault(connection.topic, bytes(data))
    read_as = serialization.deserialize_message
    masks = read_as(first["/synseg/front/masks"], ours.ClassMasks)
    assert [(mask.id, mask.label, mask.area) for mask in masks.masks] == [
        (index + 1, result.labels[index], result.area(index)) for index in result.present
    ]
    assert [mask.presence for mask in masks.masks] == pytest.approx(result.presence[list(result.present)].tolist())
    assert masks.header.frame_id == "front" and masks.masks[0].mask.encoding == "mono8"
    label_map = read_as(first["/synseg/front/label_map"], Image)
    np.testing.assert_array_equal(image_to_array(label_map), result.label_map)
    info = read_as(first["/synseg/front/info"], ours.FrameInfo)
    assert (info.vocabulary_version, list(info.labels)) == (1, list(result.labels))
    status = read_as(first["/synseg/active_vocab"], ours.VocabularyStatus)
    assert (status.version, status.accepted, len(status.colors)) == (1, True, 3)
