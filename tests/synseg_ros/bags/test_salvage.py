"""A damaged file is read as far as it goes, and the damage is named."""

import os

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from synseg_ros.bags.reading import Recording
from synseg_ros.bags.writing import STORAGES
from tests.synseg_ros.bags.recordings import (
    FRAMES,
    FRONT,
    REAR,
    START,
    STEP,
    TYPES,
    front_frame,
    read,
    record,
    run,
    storage_file,
)


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
