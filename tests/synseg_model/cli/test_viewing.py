"""`synseg segment --rerun` logs what it writes; what cannot work is said before a model is loaded."""

import sys

import numpy as np
import pytest

from synseg_model.cli.main import main
from synseg_model.install_hints import install_command
from synseg_model.io.image_file import read_image
from tests.synseg_model.cli.running import one_line, segment


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: pytest.fail("a model was loaded"))


def logged(path):
    pytest.importorskip("rerun", reason="needs rerun-sdk: the extra rerun")
    from tests.synseg_model.viewer.logged import rows

    return rows(path)


@pytest.fixture
def rerun():
    return pytest.importorskip("rerun", reason="needs rerun-sdk: the extra rerun")


def test_images_are_logged_with_their_names(rerun, engine, photos, tmp_path, capsys):
    file = tmp_path / "seen.rrd"
    assert segment(photos, tmp_path / "out", "--rerun", str(file)) == 0
    assert f"3 frames in Rerun → {file}" in capsys.readouterr().out
    found = logged(file)
    names = [row["text"] for row in found["images/name"]]
    assert names == [["photo1"], ["photo2"], ["photo10"]]
    assert [row["frame"] for row in found["images/image"]] == [0, 1, 2]
    label_map = read_label_map(tmp_path / "out" / "label_map" / "photo2.png")
    (buffer,) = found["images/image/segmentation"][1]["buffer"]
    np.testing.assert_array_equal(np.array(buffer, np.uint8).reshape(label_map.shape), label_map)


def read_label_map(path):
    return read_image(path)[..., 0]


def test_frames_of_a_video_are_logged_at_their_time(rerun, engine, clip, tmp_path):
    file = tmp_path / "seen.rrd"
    assert segment(clip, tmp_path / "out", "--rerun", str(file)) == 0
    times = [(row["frame"], row["video_time"]) for row in logged(file)["clip/image"]]
    assert times == [(index, index * 100_000_000) for index in range(4)]


def test_a_file_is_replaced_only_when_asked(rerun, engine, photos, tmp_path, capsys):
    file = tmp_path / "seen.rrd"
    file.write_bytes(b"precious")
    assert segment(photos, tmp_path / "out", "--rerun", str(file)) == 2
    assert "seen.rrd exists: choose another name or --overwrite" in one_line(capsys.readouterr().err)
    assert file.read_bytes() == b"precious"
    assert segment(photos, tmp_path / "out", "--rerun", str(file), "--overwrite") == 0
    assert len(logged(file)["images/image"]) == 3


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--rerun", "somewhere"), "--rerun 'somewhere': expected the HOST:PORT"),
        (("--rerun", "a.rrd", "--runner", "processes"), "--rerun shows one run in one process: leave --runner out"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(options, reason, photos, tmp_path, capsys):
    assert segment(photos, tmp_path / "out", *options) == 2
    assert reason in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_model")
def test_without_rerun_the_command_says_how_to_get_it(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert segment(photos, tmp_path / "out", "--rerun", "a.rrd") == 2
    said = one_line(capsys.readouterr().err)
    assert "rerun is not installed; the viewer Rerun needs" in said and install_command("rerun") in said


def test_without_the_option_rerun_is_not_imported(engine, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert segment(photos, tmp_path / "out") == 0


def test_the_value_may_be_left_out(monkeypatch, photos, tmp_path, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    pytest.importorskip("rerun", reason="needs rerun-sdk: the extra rerun")
    arguments = ["segment", str(photos), "--output", str(tmp_path / "out"), "--rerun", "--labels", "car"]
    assert main(arguments) == 2
    assert "this machine has no display" in one_line(capsys.readouterr().err)
