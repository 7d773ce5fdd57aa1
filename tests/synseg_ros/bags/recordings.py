"""Small recordings, how `synseg bag` is run on them, and what it wrote."""

from pathlib import Path

import cv2
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Writer

from synseg_model import Segmenter
from synseg_model.cli import main as cli
from synseg_ros.bags.message_types import COMPRESSED, IMAGE, MessageTypes
from synseg_ros.bags.writing import STORAGES
from synseg_ros.interfaces.image_encodings import image_fields
from training.scenes.scenes import make_scene

TYPES = MessageTypes()
FRONT, REAR = "/front/image_raw", "/rear/image/compressed"
SIZE = (48, 64)
FRAMES = 6
START, STEP, LATENCY = 1_700_000_000_000_000_000, 100_000_000, 7_000_000  # nanoseconds
SCENES = [make_scene(seed, SIZE).image for seed in range(FRAMES)]
LABELS = "red ball, grass, sky"
OUTPUTS = ["info", "masks", "label_map", "confidence", "overlay"]


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


def refused(capsys, source, output, *options):
    assert run(source, output, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line
