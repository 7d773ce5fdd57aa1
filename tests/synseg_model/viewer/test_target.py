"""Where --rerun sends frames: what is accepted, and what is said of the rest."""

import shutil
import sys
from pathlib import Path

import pytest

from synseg_model.viewer.target import read_target


@pytest.mark.parametrize(
    ("text", "url", "host", "port"),
    [
        ("192.168.1.5:9877", "rerun+http://192.168.1.5:9877/proxy", "192.168.1.5", 9877),
        ("robot-1.local:80", "rerun+http://robot-1.local:80/proxy", "robot-1.local", 80),
        ("[::1]:9876", "rerun+http://[::1]:9876/proxy", "::1", 9876),
        ("rerun+https://laptop/proxy", "rerun+https://laptop/proxy", "laptop", 9876),
        ("spawn", "rerun+http://127.0.0.1:9876/proxy", "127.0.0.1", 9876),
    ],
)
def test_addresses_are_those_of_viewers(text, url, host, port):
    target = read_target(text)
    assert (target.url, target.host, target.port, target.file) == (url, host, port, None)
    assert target.spawn == (text == "spawn")


def test_a_file_is_known_by_its_ending():
    assert read_target("out/Masks.RRD").file == Path("out/Masks.RRD")


@pytest.mark.parametrize(
    "text", ["", "laptop", "photo.jpg", ":9876", "laptop:", "laptop:99999", "laptop:0", "http://laptop:9876", "a b:1"]
)
def test_other_texts_are_refused_with_what_is_accepted(text):
    with pytest.raises(ValueError, match=r"expected the HOST:PORT .* FILE.rrd") as refused:
        read_target(text, "rerun")
    assert str(refused.value).startswith(f"rerun {text!r}: ")


def test_a_file_in_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*missing"):
        read_target(str(tmp_path / "missing" / "a.rrd")).check()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_no_viewer_is_started_without_a_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"no display .* FILE.rrd"):
        read_target("spawn").check()


def test_no_viewer_is_started_where_its_program_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ValueError, match="the program `rerun` of rerun-sdk is not found"):
        read_target("spawn").check()
    shutil.copy(shutil.which("true", path="/bin:/usr/bin"), tmp_path / "rerun")
    read_target("spawn").check()
