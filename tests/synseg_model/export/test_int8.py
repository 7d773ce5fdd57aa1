"""An image encoder in int8 is added to an exported folder, and used where it is asked for."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("openvino", reason="needs OpenVINO: the extra openvino")

from synseg_model import ModelError
from synseg_model.engines.load import load_engine
from synseg_model.export.int8 import add_int8
from synseg_model.export.parity import draw_image
from synseg_model.weights.exported_folder import INT8_ENCODER, INT8_WEIGHTS


@pytest.fixture
def folder(tmp_path, exported_levels):
    """A copy of an exported folder of a model with a backbone."""
    return shutil.copytree(exported_levels, tmp_path / "exported")


def images(count=20):
    return [draw_image(seed, 90, 120) for seed in range(count)]


def test_a_folder_without_one_says_how_to_add_it(folder):
    with pytest.raises(ModelError, match=r"no image encoder in int8: add one with python -m synseg_model"):
        load_engine(folder, "openvino", "cpu", precision="int8")


def test_too_few_images_and_other_models_are_refused(folder, exported_small):
    with pytest.raises(ValueError, match="3 images: expected 20 or more"):
        add_int8(folder, images(3))
    with pytest.raises(ModelError, match="has a ViT"):
        add_int8(exported_small, images())


def test_masks_are_nearly_those_of_float32(folder, monkeypatch):
    pytest.importorskip("nncf", reason="needs NNCF: the extra int8")
    monkeypatch.setattr("synseg_model.export.int8.SMALLEST_IOU", 0.0)  # weights are random
    iou = add_int8(folder, images())
    assert 0 < iou < 1
    full, small = (load_engine(folder, "openvino", "cpu", precision=name) for name in ("fp32", "int8"))
    text, frame = np.float32(np.eye(24)[:3]), draw_image(99, 90, 120)
    expected, found = (engine.activations([frame], text)[0] for engine in (full, small))
    assert 0 < np.abs(found - expected).mean() < 0.1
    data = bytearray((folder / INT8_WEIGHTS).read_bytes())
    data[0] ^= 1
    (folder / INT8_WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match=f"{INT8_WEIGHTS} is damaged"):
        load_engine(folder, "openvino", "cpu", precision="int8")


def test_an_encoder_that_is_too_far_away_is_taken_out_again(folder, monkeypatch):
    pytest.importorskip("nncf", reason="needs NNCF: the extra int8")
    before = json.loads((folder / "export.json").read_text())
    monkeypatch.setattr("synseg_model.export.int8.SMALLEST_IOU", 1.1)
    with pytest.raises(ModelError, match=r"masks in int8 have an IoU of .* with those of fp32"):
        add_int8(folder, images())
    assert json.loads((folder / "export.json").read_text()) == before
    assert not (folder / INT8_ENCODER).exists() and not (folder / INT8_WEIGHTS).exists()
