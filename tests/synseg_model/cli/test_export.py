"""`synseg export`: it shows that it lives."""

import sys
import types

import pytest
from PIL import Image

from synseg_model.cli import main as cli


@pytest.mark.slow
@pytest.mark.usefixtures("small_graphs_at_hand")
def test_export_shows_its_steps(small_model, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="needs the extra export")
    assert cli.main(["export", str(small_model), "--output", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("synseg: ")]
    assert lines[0] == "synseg: loading the model"
    assert lines[1].startswith("synseg: turning the network into graphs, which takes longest (loading the model took ")
    assert lines[-1].startswith("synseg: done (comparing the graphs with torch took ")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--int8", "{photos}", "--precision", "fp16"], "--int8 with --precision fp16: choose fp32"),
        (["--int8", "{photos}"], "1 images: expected 20 or more"),
        (["--int8", "{photos}/none"], "none is no folder"),
    ],
)
def test_what_int8_cannot_be_made_of_is_refused_before_the_export(tmp_path, monkeypatch, capsys, arguments, reason):
    pytest.importorskip("openvino", reason="needs OpenVINO: the extra openvino")
    monkeypatch.setitem(sys.modules, "nncf", types.ModuleType("nncf"))  # nothing gets as far as using it
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (8, 8)).save(photos / "one.png")
    given = [text.format(photos=photos) for text in arguments]
    assert cli.main(["export", "synseg-tiny", "--output", str(tmp_path / "out"), *given]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
