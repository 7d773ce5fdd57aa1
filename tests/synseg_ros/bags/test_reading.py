"""Every kind of recording is read whole, and what is none is refused in one line."""

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from synseg_ros.bags.message_types import IMAGE
from synseg_ros.bags.writing import STORAGES
from tests.synseg_ros.bags.recordings import (
    FRAMES,
    FRONT,
    START,
    STEP,
    TYPES,
    drive,
    front_frame,
    read,
    record,
    refused,
    run,
    storage_file,
)


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


def test_what_is_no_recording_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "ros1.bag").write_bytes(b"#ROSBAG V2.0\n")
    assert "No such file" in refused(capsys, tmp_path / "nothing", tmp_path / "out")
    for name in ("notes.txt", "ros1.bag"):
        assert "is not a rosbag2" in refused(capsys, tmp_path / name, tmp_path / "out")
    assert run(tmp_path / "empty", tmp_path / "out") == 2
    assert "no .mcap or .db3 file" in capsys.readouterr().err
    for suffix in (".mcap", ".db3"):
        (tmp_path / f"garbage{suffix}").write_bytes(np.random.default_rng(0).bytes(5000))
        assert run(tmp_path / f"garbage{suffix}", tmp_path / "out") == 2
        assert "can be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_what_sqlite_had_not_merged_yet_is_told(tmp_path, capsys):
    source = record(tmp_path / "in", "sqlite3")
    (source / "in.db3-wal").write_bytes(b"the last messages")
    assert run(source, tmp_path / "out", "--write", "info") == 1
    assert "in.db3-wal holds messages that are not in in.db3 yet" in capsys.readouterr().err
