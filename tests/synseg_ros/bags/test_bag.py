"""`synseg bag`: the node's topics from a recording; damage is named, and nothing half done looks whole."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from synseg_model import Segmenter
from synseg_model.cli import main as cli
from synseg_model.install_hints import install_command
from synseg_model.io.drawing import overlay
from synseg_model.io.media import decode_image
from synseg_model.weights.pedigree import Met, Pedigree
from synseg_ros.bags.cameras import choose_cameras
from synseg_ros.bags.reading import Recording
from synseg_ros.bags.types import COMPRESSED, IMAGE, VOCABULARY, Types
from synseg_ros.bags.writing import STORAGES
from synseg_ros.interfaces.image_encodings import image_fields, image_to_array
from training.scenes.scenes import make_scene

TYPES = Types()
FRONT, REAR = "/front/image_raw", "/rear/image/compressed"
SIZE = (48, 64)
FRAMES = 6
START, STEP, LATENCY = 1_700_000_000_000_000_000, 100_000_000, 7_000_000  # nanoseconds
SCENES = [make_scene(seed, SIZE).image for seed in range(FRAMES)]
LABELS = "red ball, grass, sky"
OUTPUTS = ["info", "masks", "label_map", "confidence", "overlay"]


@pytest.fixture(autouse=True)
def engine(null_engine, monkeypatch):
    """Let the command line load the null engine, whatever model is asked for."""
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: null_engine)
    return null_engine


def message(name, **fields):
    return TYPES.type(name)(**fields)


def header(received, frame_id):
    time = received - LATENCY
    stamp = message("builtin_interfaces/msg/Time", sec=time // 10**9, nanosec=time % 10**9)
    return message("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def front_frame(index):
    fields = image_fields(SCENES[index][..., ::-1], "bgr8")
    return message(IMAGE, header=header(START + index * STEP, "front"), **fields)


def png(image):
    return cv2.imencode(".png", image[..., ::-1])[1].reshape(-1)


def rear_frame(index, data=None):
    head = header(START + index * STEP + STEP // 2, "rear")
    data = png(SCENES[index][:, ::-1]) if data is None else data
    return message(COMPRESSED, header=head, format="rgb8; png compressed bgr8", data=data)


def drive():
    """Two cameras in turns: (topic, type, time of reception, message)."""
    for index in range(FRAMES):
        yield FRONT, IMAGE, START + index * STEP, front_frame(index)
        yield REAR, COMPRESSED, START + index * STEP + STEP // 2, rear_frame(index)


def record(path, storage="mcap", messages=None):
    """Write a recording; messages may be bytes already."""
    with Writer(path, version=9, storage_plugin=STORAGES[storage]) as writer:
        topics = {}
        for topic, kind, time, content in messages or drive():
            if topic not in topics:
                definition, digest = TYPES.describe(kind)
                topics[topic] = writer.add_connection(topic, kind, msgdef=definition, rihs01=digest)
            data = content if isinstance(content, bytes) else TYPES.encode(content)
            writer.write(topics[topic], time, data)
            if storage == "mcap":  # small recordings would be a single chunk
                writer.storage.close_chunk()
    return path


def run(source, output, *options, labels=LABELS):
    return cli.main(["bag", str(source), "--labels", labels, "--output", str(output), *options])


def read(path):
    """Return {topic: [(time of reception, message)]} of a bag, with the types that the bag itself describes."""
    found = {}
    with AnyReader([Path(path)]) as reader:
        for connection, time, data in reader.messages():
            found.setdefault(connection.topic, []).append((time, reader.deserialize(data, connection.msgtype)))
    return found


def segmenter_for(engine, labels=LABELS):
    segmenter = Segmenter(engine)
    segmenter.set_vocabulary(labels.split(","))
    return segmenter


def storage_file(folder):
    (file,) = (path for path in Path(folder).iterdir() if path.suffix in (".mcap", ".db3"))
    return file


def stamps(messages):
    return [(m.header.stamp.sec * 10**9 + m.header.stamp.nanosec, m.header.frame_id) for _, m in messages]


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


def test_the_bag_says_what_made_it(tmp_path):
    run(record(tmp_path / "in"), tmp_path / "out")
    text = (tmp_path / "out" / "metadata.yaml").read_text()
    assert "null" in text and "00ff" in text and str(tmp_path / "in") in text


def test_only_what_is_asked_for_is_written(tmp_path):
    options = ["--topics", f"nose={FRONT}", "--write", "label_map", "--every", "4", "--storage", "sqlite3"]
    assert run(record(tmp_path / "in"), tmp_path / "out", *options) == 0
    found = read(tmp_path / "out")
    assert set(found) == {"/synseg/nose/label_map", "/synseg/active_vocab"}
    assert [time for time, _ in found["/synseg/nose/label_map"]] == [START, START + 4 * STEP]
    assert storage_file(tmp_path / "out").suffix == ".db3"


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
    types = Types()
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


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_recordings_are_read(tmp_path, mode):
    packed = Writer(tmp_path / "packed", version=9, storage_plugin=StoragePlugin.SQLITE3)
    packed.set_compression(mode, CompressionFormat.ZSTD)
    with packed:
        topic = packed.add_connection(FRONT, IMAGE, typestore=TYPES._store)
        for index in range(FRAMES):
            packed.write(topic, START + index * STEP, TYPES.encode(front_frame(index)))
    assert run(tmp_path / "packed", tmp_path / "out") == 0
    assert len(read(tmp_path / "out")["/synseg/front/masks"]) == FRAMES


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


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def mcap(path, profile, schema, encoding, message):
    """Write an MCAP file with one topic and one message, as the tools of another system do."""

    def record(code, content):
        return struct.pack("<BQ", code, len(content)) + content

    name, schema_encoding, data = schema
    parts = [
        record(0x01, text(profile) + text("tool")),
        record(0x03, struct.pack("<H", 1) + text(name) + text(schema_encoding) + struct.pack("<I", len(data)) + data),
        record(0x04, struct.pack("<HH", 0, 1) + text(FRONT) + text(encoding) + struct.pack("<I", 0)),
        record(0x05, struct.pack("<HIQQ", 0, 0, START, START) + bytes(message)),
        record(0x0F, struct.pack("<I", 0)),
        record(0x02, bytes(20)),
    ]
    magic = b"\x89MCAP0\r\n"
    path.write_bytes(magic + b"".join(parts) + magic)
    return path


IMAGE_TEXT = TYPES.describe(IMAGE)[0].encode()


@pytest.mark.parametrize(
    ("profile", "schema", "encoding", "words"),
    [
        ("ros1", ("sensor_msgs/Image", "ros1msg", b"x"), "ros1", ["ROS 1 messages", "rosbags-convert --src"]),
        ("", ("sensor_msgs/Image", "ros1msg", b"x"), "ros1", ["ROS 1 messages", "rosbags-convert --src"]),
        ("", ("foxglove.CompressedImage", "protobuf", b"x"), "protobuf", ["protobuf", "foxglove.CompressedImage"]),
        ("px4", ("Image", "jsonschema", b"{}"), "json", ["json messages (Image)", "sensor_msgs/msg/CompressedImage"]),
    ],
)
def test_recordings_of_other_systems_are_called_by_what_they_hold(tmp_path, capsys, profile, schema, encoding, words):
    source = mcap(tmp_path / "in.mcap", profile, schema, encoding, b"message")
    said = refused(capsys, source, tmp_path / "out")
    assert str(source) in said and all(word in said for word in words)
    assert "damaged" not in said
    folder = tmp_path / "folder"
    folder.mkdir()
    source.rename(folder / "in.mcap")
    assert run(folder, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert words[0] in said and "damaged" not in said


def test_ros_2_messages_in_a_file_that_does_not_say_so_are_read(tmp_path, capsys):
    source = mcap(tmp_path / "in.mcap", "", (IMAGE, "ros2msg", IMAGE_TEXT), "cdr", TYPES.encode(front_frame(0)))
    assert run(source, tmp_path / "out") == 0
    assert "damaged" not in capsys.readouterr().err
    assert len(read(tmp_path / "out")["/synseg/front/masks"]) == 1


def test_a_ros_1_bag_is_called_so_with_the_command_that_converts_it(tmp_path, capsys):
    source = tmp_path / "my drive.bag"
    source.write_bytes(b"#ROSBAG V2.0\n")
    assert f"is no rosbag2 but a bag of ROS 1. Convert it: rosbags-convert --src '{source}'" in refused(
        capsys, source, tmp_path / "out"
    )


def robot_with_depth():
    """A depth camera's topics, as its driver and image_transport publish them."""
    color, depth = "/front/color/image_raw", "/front/depth/image_rect_raw"
    millimetres = image_fields(np.full(SIZE, 1500, np.uint16), "16UC1")
    for index in range(FRAMES):
        time = START + index * STEP
        head = header(time, "front")
        yield color, IMAGE, time, front_frame(index)
        yield f"{color}/compressed", COMPRESSED, time + 1, rear_frame(index)
        yield depth, IMAGE, time + 2, message(IMAGE, header=head, **millimetres)
        packed = cv2.imencode(".png", np.full(SIZE, 1500, np.uint16))[1].reshape(-1)
        for number, form in enumerate(("16UC1; png compressed ", "16UC1; compressedDepth png")):
            name = f"{depth}/{'compressed' if number == 0 else 'compressedDepth'}"
            yield name, COMPRESSED, time + 3 + number, message(COMPRESSED, header=head, format=form, data=packed)


def test_by_default_depth_is_left_out_and_an_image_is_segmented_once(tmp_path, capsys):
    source = record(tmp_path / "in", messages=robot_with_depth())
    assert run(source, tmp_path / "out", "--write", "masks") == 0
    found = read(tmp_path / "out")
    assert set(found) == {"/synseg/front/masks", "/synseg/active_vocab"}
    assert len(found["/synseg/front/masks"]) == FRAMES
    said = capsys.readouterr().err
    assert "/front/depth/image_rect_raw is left out: encoding '16UC1' is depth" in said
    assert "/front/depth/image_rect_raw/compressedDepth is left out: format" in said
    assert "/front/color/image_raw/compressed is left out, it has the images of /front/color/image_raw" in said


def test_depth_and_twins_are_segmented_where_they_are_named(tmp_path):
    source = record(tmp_path / "in", messages=robot_with_depth())
    topics = ["/front/depth/image_rect_raw", "/front/color/image_raw", "jpeg=/front/color/image_raw/compressed"]
    assert run(source, tmp_path / "out", "--write", "masks", "--topics", *topics) == 0
    found = read(tmp_path / "out")
    assert {topic: len(messages) for topic, messages in found.items() if "masks" in topic} == {
        "/synseg/front_depth_image_rect_raw/masks": FRAMES,
        "/synseg/front_color_image_raw/masks": FRAMES,
        "/synseg/jpeg/masks": FRAMES,
    }


def test_of_twins_the_one_with_more_frames_is_segmented(tmp_path):
    def sparse_raw():
        yield FRONT, IMAGE, START, front_frame(0)
        for index in range(FRAMES):
            yield f"{FRONT}/compressed", COMPRESSED, START + index * STEP + 1, rear_frame(index)

    assert run(record(tmp_path / "in", messages=sparse_raw()), tmp_path / "out", "--write", "masks") == 0
    assert len(read(tmp_path / "out")["/synseg/front/masks"]) == FRAMES


def recording_of(*topics):
    connections = [SimpleNamespace(topic=topic, msgtype=IMAGE, msgcount=1) for topic in topics]
    return SimpleNamespace(connections=connections, path=Path("drive"), first=lambda *_: None)


@pytest.mark.parametrize(
    ("topics", "names"),
    [
        (["/front/image_raw", "/rear/image_raw"], ["front", "rear"]),
        (["/image_raw"], ["camera"]),
        (["/cam/left/image", "/cam/right/image", "/top/image"], ["cam_left_image", "cam_right_image", "top"]),
        (["/a/image", "/synseg/a/overlay"], ["a"]),
        (["/cam/a/image/compressed", "/cam/b/image/compressed"], ["cam_a_image", "cam_b_image"]),
    ],
)
def test_cameras_are_named_as_the_node_names_them_and_apart(topics, names):
    cameras = choose_cameras(recording_of(*topics), None, TYPES)
    assert [camera.name for camera in cameras] == names


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (["/nowhere"], "no images on /nowhere; its images are on /front/image_raw"),
        (["9=/front/image_raw"], "'9' is no name"),
        (["a=/front/image_raw", "a=/rear/image_raw"], "2 cameras would be called 'a'"),
    ],
)
def test_impossible_choices_of_cameras_are_refused(wanted, reason):
    recording = recording_of("/front/image_raw", "/rear/image_raw")
    with pytest.raises(ValueError, match=reason):
        choose_cameras(recording, wanted, TYPES)


def cut(folder, fraction):
    file = storage_file(folder)
    os.truncate(file, int(file.stat().st_size * fraction))
    return file


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("as_file", [False, True])
def test_a_truncated_recording_is_read_as_far_as_it_goes(tmp_path, storage, as_file, capsys):
    source = record(tmp_path / "in", storage)
    file = cut(source, 0.6)
    assert run(file if as_file else source, tmp_path / "out", "--write", "masks", "--copy") == 1
    found = read(tmp_path / "out")
    masks = found["/synseg/front/masks"]
    assert 2 <= len(masks) < FRAMES
    assert [time for time, _ in masks] == [START + index * STEP for index in range(len(masks))]
    assert len(found[FRONT]) == len(masks)
    captured = capsys.readouterr()
    assert captured.err.count("is damaged") == 1 and str(file) in captured.err
    assert "the recording is damaged" in captured.out


def test_a_hole_in_a_database_costs_what_lies_behind_it(tmp_path, capsys):
    source = record(tmp_path / "in", "sqlite3")
    file = storage_file(source)
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8192] = bytes(8192)
    file.write_bytes(data)
    status = run(source, tmp_path / "out", "--write", "masks")
    times = [time for time, _ in read(tmp_path / "out")["/synseg/front/masks"]]
    assert 2 <= len(times) <= FRAMES and times == sorted(set(times))
    assert status == 1
    assert "is damaged" in capsys.readouterr().err


def test_a_damaged_chunk_costs_its_own_messages_only(tmp_path, capsys):
    source = record(tmp_path / "in")
    file = storage_file(source)
    data = bytearray(file.read_bytes())
    position = data.index(bytes(TYPES.encode(front_frame(2)))[:60])
    data[position - 31] = 0xEE  # the kind of the record becomes unknown
    data[position - 30 : position - 22] = b"\xff" * 8  # and its length impossible
    file.write_bytes(data)
    assert run(source, tmp_path / "out", "--write", "masks") == 1
    times = [time for time, _ in read(tmp_path / "out")["/synseg/front/masks"]]
    assert times == [START + index * STEP for index in range(FRAMES) if index != 2]
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("storage", STORAGES)
def test_without_metadata_the_files_are_read_in_order(tmp_path, storage, capsys):
    whole = list(drive())
    parts = [record(tmp_path / f"part{n}", storage, whole[4 * n : 4 * n + 4]) for n in range(3)]
    source = tmp_path / "in"
    source.mkdir()
    for number, part in zip((2, 9, 10), parts, strict=True):
        file = storage_file(part)
        file.rename(source / f"in_{number}{file.suffix}")
    assert run(source, tmp_path / "out", "--write", "masks") == 0
    times = [time for time, _ in read(tmp_path / "out")["/synseg/front/masks"]]
    assert times == [START + index * STEP for index in range(FRAMES)]
    assert "no metadata.yaml" in capsys.readouterr().err


def test_a_file_that_is_missing_from_the_folder_is_named(tmp_path, capsys):
    source = record(tmp_path / "in")
    metadata = source / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("- in.mcap", "- in.mcap\n  - in_1.mcap"))
    assert run(source, tmp_path / "out", "--write", "masks") == 1
    assert "in_1.mcap" in capsys.readouterr().err


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


def refused(capsys, source, output, *options):
    assert run(source, output, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_is_no_recording_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "ros1.bag").write_bytes(b"#ROSBAG V2.0\n")
    assert "No such file" in refused(capsys, tmp_path / "nothing", tmp_path / "out")
    for name in ("notes.txt", "ros1.bag"):
        assert "is no rosbag2" in refused(capsys, tmp_path / name, tmp_path / "out")
    assert run(tmp_path / "empty", tmp_path / "out") == 2
    assert "no .mcap or .db3 file" in capsys.readouterr().err
    for suffix in (".mcap", ".db3"):
        (tmp_path / f"garbage{suffix}").write_bytes(np.random.default_rng(0).bytes(5000))
        assert run(tmp_path / f"garbage{suffix}", tmp_path / "out") == 2
        assert "can be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_random_damage_gives_a_bag_or_a_reason_and_nothing_else(tmp_path):
    rng = np.random.default_rng(7)
    for storage in STORAGES:
        source = record(tmp_path / f"in_{storage}", storage)
        file = storage_file(source)
        whole = file.read_bytes()
        for _ in range(25):
            data = bytearray(whole)
            for position in rng.integers(0, len(data), 8):
                data[position] = rng.integers(256)
            file.write_bytes(data[: int(len(data) * rng.choice([1, 1, rng.random()]))])
            try:
                with Recording(source) as recording:
                    found = [time for _, time, _ in recording.messages({FRONT, REAR})]
            except ValueError:
                continue
            assert len(found) <= 2 * FRAMES


def test_impossible_options_are_refused_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: pytest.fail("a model was loaded"))
    source = record(tmp_path / "in")
    assert "--every 0" in refused(capsys, source, tmp_path / "out", "--every", "0")
    assert "no images on /x" in refused(capsys, source, tmp_path / "out", "--topics", "/x")
    assert "replace the recording itself" in refused(capsys, source, source, "--overwrite")
    assert "replace the recording itself" in refused(capsys, storage_file(source), source, "--overwrite")


def test_a_bag_is_replaced_only_when_asked_and_nothing_but_a_bag(tmp_path, capsys):
    source = record(tmp_path / "in")
    assert run(source, tmp_path / "out", "--write", "info") == 0
    capsys.readouterr()
    assert "choose another output or --overwrite" in refused(capsys, source, tmp_path / "out")
    assert run(source, tmp_path / "out", "--write", "masks", "--overwrite") == 0
    assert "/synseg/front/masks" in read(tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "child.jpg").write_bytes(b"irreplaceable")
    capsys.readouterr()
    assert "is no bag" in refused(capsys, source, photos, "--overwrite")
    assert (photos / "child.jpg").exists()


def test_names_that_the_bag_could_not_carry_are_refused(tmp_path, capsys):
    source = record(tmp_path / "in")
    assert "no name for a bag" in refused(capsys, source, tmp_path / "caf\udce9")
    assert "no database at a path" in refused(capsys, source, tmp_path / "100%", "--storage", "sqlite3")
    assert run(source, tmp_path / "100%", "--write", "info") == 0


def test_the_rest_of_another_kind_is_not_removed(tmp_path, capsys):
    source = record(tmp_path / "in")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.tex").write_text("irreplaceable")
    assert "is no bag" in refused(capsys, source, tmp_path / "out", "--overwrite")


def test_what_sqlite_had_not_merged_yet_is_told(tmp_path, capsys):
    source = record(tmp_path / "in", "sqlite3")
    (source / "in.db3-wal").write_bytes(b"the last messages")
    assert run(source, tmp_path / "out", "--write", "info") == 1
    assert "in.db3-wal holds messages that are not in in.db3 yet" in capsys.readouterr().err


def test_the_command_loads_no_torch():
    code = "import synseg_ros.bags.segmenting, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split() and "rclpy" not in done.stdout.split()


def interrupting(engine, monkeypatch, after, error):
    calls = []
    inner = engine.activations

    def activations(*arguments):
        calls.append(1)
        if len(calls) > after:
            raise error
        return inner(*arguments)

    monkeypatch.setattr(engine, "activations", activations)


@pytest.mark.parametrize("storage", STORAGES)
def test_ctrl_c_leaves_a_closed_bag_beside_the_output(engine, tmp_path, monkeypatch, capsys, storage):
    source = record(tmp_path / "in")
    interrupting(engine, monkeypatch, 5, KeyboardInterrupt())
    assert run(source, tmp_path / "out", "--storage", storage) == 130
    assert not (tmp_path / "out").exists()
    found = read(tmp_path / "out.partial" / "out")
    assert (len(found["/synseg/front/masks"]), len(found["/synseg/rear/masks"])) == (3, 2)
    assert "out.partial" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: engine)
    assert "rest of an interrupted run" in refused(capsys, source, tmp_path / "out")
    assert run(source, tmp_path / "out", "--overwrite") == 0
    assert not (tmp_path / "out.partial").exists()


def test_what_goes_wrong_on_the_way_leaves_nothing_that_looks_finished(engine, tmp_path, monkeypatch, capsys):
    interrupting(engine, monkeypatch, 5, RuntimeError("out of memory"))
    assert run(record(tmp_path / "in"), tmp_path / "out") == 2
    assert "out of memory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").rglob("metadata.yaml"))


KILLED = """
import os, signal, sys
from synseg_model import segmenter
from synseg_model.cli import main as cli
from synseg_ros.bags import writing
from tests.conftest import NullEngine
class Mortal(NullEngine):
    left = 5
    def activations(self, *arguments):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().activations(*arguments)
segmenter.load_engine = lambda *_: Mortal()
write = writing.NewBag.write
def and_close_the_chunk(bag, messages, timestamp):
    write(bag, messages, timestamp)
    if bag._storage == "mcap":
        bag._writer.storage.close_chunk()
        bag._writer.storage.bio.flush()
writing.NewBag.write = and_close_the_chunk
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("storage", STORAGES)
def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path, storage):
    source = record(tmp_path / "in")
    arguments = ["bag", str(source), "--labels", LABELS, "--output", str(tmp_path / "out"), "--storage", storage]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").rglob("metadata.yaml"))
    if storage == "mcap":
        with Recording(tmp_path / "out.partial" / "out") as rest:
            assert [c.topic for c, _, _ in rest.messages({"/synseg/front/masks"})] == ["/synseg/front/masks"] * 3


@pytest.mark.parametrize("storage", STORAGES)
def test_a_full_disk_is_told_and_leaves_nothing_that_looks_finished(tmp_path, storage, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    frames = [
        (FRONT, IMAGE, START + i, message(IMAGE, header=header(START + i, "front"), **image_fields(noise, "rgb8")))
        for i in range(20)
    ]
    source = record(tmp_path / "in", messages=frames)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        status = run(source, tmp_path / "out", "--storage", storage)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert f"cannot write {tmp_path / 'out.partial' / 'out'}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").rglob("metadata.yaml"))


def test_without_rosbags_the_command_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    for name in list(sys.modules):
        if name.partition(".")[0] == "rosbags" or name.startswith("synseg_ros.bags"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rosbags", None)
    assert install_command("bag") in refused(capsys, tmp_path / "in", tmp_path / "out")


def test_types_have_the_hashes_that_ros_gives_them():
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    files = [file for prefix in prefixes for file in Path(prefix, "share", "synseg_ros", "msg").glob("*.json")]
    if not files:
        pytest.skip("the messages are not built")
    for file in files:
        hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(file.read_text())["type_hashes"]}
        name = f"synseg_ros/msg/{file.stem}"
        assert TYPES.describe(name)[1] == hashes[name]


def test_the_vocabulary_says_how_the_model_met_its_labels(engine, tmp_path, monkeypatch):
    known = Pedigree({"red ball": Met(masks=3), "sky": Met(captions=2)})
    monkeypatch.setattr("synseg_model.segmenter.read_pedigree", lambda model: known)
    assert run(record(tmp_path / "in"), tmp_path / "out") == 0
    ((_, status),) = read(tmp_path / "out")["/synseg/active_vocab"]
    assert status.pedigree[::2] == ["taught by masks (3 images)", "met in captions (2)"]
    assert status.pedigree[1].startswith('never met; nearest known: "')


def test_a_model_for_other_images_causes_one_warning(engine, tmp_path, capsys):
    engine.config = replace(engine.config, domain="generated scenes")
    assert run(record(tmp_path / "in"), tmp_path / "out") == 0
    assert capsys.readouterr().err.count("is for generated scenes") == 1


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
