"""The command line: help, usage errors, exit statuses, and one clear line for whatever goes wrong."""

import logging
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from synseg_model.cli import main as cli
from synseg_model.config import ModelError
from tests.synseg_model.cli.running import one_line, save, segment, summary


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModelError("no model 'x': expected\none of these"), "synseg: no model 'x': expected one of these\n"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "torch is not installed"),
        (RuntimeError("CUDA out of memory"), "unexpected RuntimeError (SYNSEG_DEBUG=1 shows where): CUDA out of"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_whatever_fails_is_one_line_and_no_traceback(photos, tmp_path, capsys, monkeypatch, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("synseg_model.segmenter.load_engine", fail)
    assert segment(photos, tmp_path / "out") == 2
    assert words in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [[], ["segment"], ["segment", "a.png", "--labels", "a"], ["sing"]])
def test_incomplete_commands_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: synseg" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["info", "--help"]])
def test_help_explains_itself_with_examples(arguments):
    done = subprocess.run([sys.executable, "-m", "synseg_model", *arguments], capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: synseg" in done.stdout
    assert "example" in done.stdout


def test_the_shipped_model_segments_through_the_installed_command(tmp_path, gradient_image):
    save(tmp_path / "a.png", gradient_image)
    command = [sys.executable, "-m", "synseg_model", "segment", str(tmp_path / "a.png"), "--labels", "red ball, grass"]
    command += ["--model", "synseg-tiny"]
    done = subprocess.run([*command, "--output", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 0
    chosen, warning = done.stderr.splitlines()
    assert re.fullmatch("synseg: engine .*, because .*", chosen)
    assert "'synseg-tiny' is for generated scenes" in warning
    assert summary(tmp_path / "out")["settings"]["model"] == "synseg-tiny"


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
