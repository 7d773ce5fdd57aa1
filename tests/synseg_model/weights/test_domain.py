"""A model that was made for other images than photographs says so, once, and names the one to choose."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from synseg_model import ModelError
from synseg_model.cli import main as cli
from synseg_model.config import ModelConfig
from synseg_model.weights.description import describe
from synseg_model.weights.domain import domain_warning
from synseg_model.weights.find import SHIPPED


@pytest.fixture
def engine(make_color_engine, monkeypatch):
    """Let the command line load an engine whose model is for generated scenes."""
    engine = make_color_engine(domain="generated scenes")
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: engine)
    return engine


@pytest.mark.parametrize(
    ("domain", "expected", "warns"),
    [
        ("", "photographs", False),
        ("photographs", "photographs", False),
        ("Photographs", "photographs", False),
        ("generated scenes", "photographs", True),
        ("generated scenes", "generated scenes", False),
        ("generated scenes", "", False),
    ],
)
def test_a_warning_is_given_where_a_model_says_that_it_is_for_other_images(make_color_engine, domain, expected, warns):
    warning = domain_warning(make_color_engine(domain=domain).config, expected)
    assert bool(warning) == warns
    if warns:
        assert "'color' is for generated scenes" in warning and "'synseg-everyday'" in warning


def test_segmenting_files_warns_once(engine, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((40, 50, 3), np.uint8))
    options = ["--labels", "car", "--output", str(tmp_path / "out")]
    assert cli.main(["segment", str(tmp_path / "a.png"), str(tmp_path / "b.png"), *options]) == 0
    error = capsys.readouterr().err
    assert error.count("is for generated scenes") == 1
    assert error.startswith("synseg: the model 'color' is for generated scenes;")


def test_a_model_that_says_nothing_causes_no_warning(engine, tmp_path, capsys):
    engine.config = dataclasses.replace(engine.config, domain="")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    assert cli.main(["segment", str(tmp_path / "a.png"), "--labels", "car", "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not (SHIPPED / "synseg-tiny").is_dir(), reason="no shipped model")
def test_synseg_tiny_is_for_generated_scenes():
    assert ModelConfig.read(SHIPPED / "synseg-tiny").domain == "generated scenes"
    assert any(line.split(maxsplit=1) == ["for", "generated scenes"] for line in describe(SHIPPED / "synseg-tiny"))


def test_a_domain_that_is_no_text_is_refused(small_config):
    values = json.loads(small_config.to_json())
    assert ModelConfig.from_dict(values).domain == ""
    with pytest.raises(ModelError, match=r"config\.domain is 3"):
        ModelConfig.from_dict(values | {"domain": 3})
