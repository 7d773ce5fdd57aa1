"""The command line says what it chose, and shows that it lives."""

import logging

import cv2
import numpy as np
import pytest

from synseg_model.cli import main as cli
from synseg_model.export.steps import Steps


def test_segment_says_which_engine_it_took_and_why(small_model, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32, 3), np.uint8))
    command = ["segment", str(tmp_path / "a.png"), "--labels", "ball", "--model", str(small_model)]
    assert cli.main([*command, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "engine torch" in said and "because" in said and str(small_model) in said
    assert logging.getLogger("synseg_model.engines.load").level == logging.NOTSET


@pytest.mark.slow
def test_segment_says_which_engine_it_took_of_an_exported_folder(exported_small, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32, 3), np.uint8))
    command = ["segment", str(tmp_path / "a.png"), "--labels", "ball", "--model", str(exported_small)]
    assert cli.main([*command, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "because" in said and "is an exported folder and, for tensorrt," in said


@pytest.mark.slow
@pytest.mark.usefixtures("small_graphs_at_hand")
def test_export_shows_its_steps(small_model, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="needs the extra export")
    assert cli.main(["export", str(small_model), "--output", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("synseg: ")]
    assert lines[0] == "synseg: loading the model"
    assert lines[1].startswith("synseg: turning the network into graphs, which takes longest (loading the model took ")
    assert lines[-1].startswith("synseg: done (comparing the graphs with torch took ")


def test_a_step_says_how_long_the_one_before_took(caplog):
    caplog.set_level(logging.INFO)
    step = Steps(logging.getLogger("job"))
    step("first, the long one")
    step("second")
    step("done")
    assert caplog.messages[0] == "first, the long one"
    assert caplog.messages[1].startswith("second (first took 0.")
    assert caplog.messages[2].startswith("done (second took 0.")
