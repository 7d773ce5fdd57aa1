"""`synseg bag` refuses what cannot work before it loads a model, and loads no torch itself."""

import subprocess
import sys
from dataclasses import replace

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from synseg_model.install_hints import install_command
from tests.synseg_ros.bags.recordings import record, refused, run, storage_file


def test_impossible_options_are_refused_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: pytest.fail("a model was loaded"))
    source = record(tmp_path / "in")
    assert "--every 0" in refused(capsys, source, tmp_path / "out", "--every", "0")
    assert "no images on /x" in refused(capsys, source, tmp_path / "out", "--topics", "/x")
    assert "replace the recording itself" in refused(capsys, source, source, "--overwrite")
    assert "replace the recording itself" in refused(capsys, storage_file(source), source, "--overwrite")


def test_the_command_loads_no_torch():
    code = "import synseg_ros.bags.segmenting, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split() and "rclpy" not in done.stdout.split()


def test_without_rosbags_the_command_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    for name in list(sys.modules):
        if name.partition(".")[0] == "rosbags" or name.startswith("synseg_ros.bags"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rosbags", None)
    assert install_command("bag") in refused(capsys, tmp_path / "in", tmp_path / "out")


def test_a_model_for_other_images_causes_one_warning(engine, tmp_path, capsys):
    engine.config = replace(engine.config, domain="generated scenes")
    assert run(record(tmp_path / "in"), tmp_path / "out") == 0
    assert capsys.readouterr().err.count("is for generated scenes") == 1
