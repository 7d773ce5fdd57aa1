"""`synseg bag --rerun` logs the cameras of a recording, with positions where it has depth."""

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")
pytest.importorskip("rerun", reason="needs rerun-sdk: the extra rerun")

from synseg_model.cli import main as cli
from tests.synseg_model.viewer.logged import rows
from tests.synseg_ros.bags.recordings import FRAMES, LATENCY, START, STEP, read, record, run
from tests.synseg_ros.bags.test_objects import DEPTH, rgbd


def test_frames_are_logged_at_their_stamps_with_what_the_bag_says(tmp_path):
    source, file = record(tmp_path / "in", messages=rgbd()), tmp_path / "seen.rrd"
    options = ("--depth", DEPTH, "--target-frame", "base_link", "--write", "label_map", "detections", "objects")
    assert run(source, tmp_path / "out", *options, "--rerun", str(file)) == 0
    found, written = rows(file), read(tmp_path / "out")
    times = [(index, START + index * STEP - LATENCY) for index in range(FRAMES)]
    assert [(row["frame"], row["stamp"]) for row in found["camera/image"]] == times
    for row, (_, message) in zip(found["camera/image/segmentation"], written["/synseg/camera/label_map"], strict=True):
        np.testing.assert_array_equal(np.array(row["buffer"][0], np.uint8), message.data)
    for row, (_, message) in zip(found["camera/image/instances"], written["/synseg/camera/detections"], strict=True):
        labels = [one.results[0].hypothesis.class_id for one in message.detections]
        assert [text.rpartition(" ")[0] for text in row["labels"]] == labels
    objects = found["space/base_link/camera/objects"]
    for row, (_, message) in zip(objects, written["/synseg/camera/objects"], strict=True):
        assert message.header.frame_id == "base_link"
        sizes = [(one.bbox.size.x, one.bbox.size.y, one.bbox.size.z) for one in message.detections]
        np.testing.assert_allclose(
            2 * np.array(row["half_sizes"]).reshape(-1, 3), np.reshape(sizes, (-1, 3)), atol=1e-4
        )
    assert any(row["centers"] for row in objects)
    heights = np.concatenate([row["positions"] for row in found["space/base_link/camera/points"]])[:, 2]
    assert np.median(heights) < 1.0  # the camera is 1 m above the ground and looks forward


def test_the_report_of_positions_is_the_same_as_without(tmp_path, capsys):
    source = record(tmp_path / "in", messages=rgbd())
    options = ("--depth", DEPTH, "--write", "objects")
    assert run(source, tmp_path / "plain", *options) == 0
    plain = capsys.readouterr().out
    assert run(source, tmp_path / "shown", *options, "--rerun", str(tmp_path / "seen.rrd")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "have a position" in line]
    assert lines == [line for line in plain.splitlines() if "have a position" in line] != []


def test_several_recordings_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: pytest.fail("a model was loaded"))
    sources = [str(record(tmp_path / name)) for name in ("one", "two")]
    output, file = str(tmp_path / "out"), str(tmp_path / "a.rrd")
    assert cli.main(["bag", *sources, "--labels", "car", "--output", output, "--rerun", file]) == 2
    assert "give one recording at a time" in capsys.readouterr().err
