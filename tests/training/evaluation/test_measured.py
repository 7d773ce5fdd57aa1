"""What a model reaches on the held-out part of packed photographs, by class."""

import json

import pytest
import torch

from synseg_model.engines.load import load_engine
from tests.training.photo_models import masked, model_folder
from training.datasets.photos.packed import write_packed
from training.evaluate import EvaluateConfig, main
from training.evaluation.measured import mean_of_sets, measure_classes, measure_on_photographs

CLASSES = {"voc": ["ball", "grass", "sky", "dog"], "nyu": ["ball", "sky"]}
PHOTOS = [masked("voc", "1", "ball", "grass"), masked("voc", "2", "ball", ""), masked("nyu", "3", "sky", "ball")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model"))[0]


@pytest.fixture
def photos(tmp_path):
    write_packed(tmp_path / "held_out", PHOTOS, {"exhaustive": CLASSES})
    return tmp_path


def test_each_class_that_is_shown_has_its_iou_and_its_number_of_photographs(model, photos):
    rows = measure_classes(model, torch.device("cpu"), photos)
    shown = {(name, label): images for name, label, _, images in rows}
    assert shown == {("voc", "ball"): 2, ("voc", "grass"): 1, ("nyu", "sky"): 1, ("nyu", "ball"): 1}
    assert [iou for _, _, iou, _ in rows] == sorted((iou for _, _, iou, _ in rows), reverse=True)
    per_class = measure_on_photographs(model, 10, torch.device("cpu"), photos)["per_class"]
    assert {(name, label): iou for name, label, iou, _ in rows} == {
        (name, label): iou for name, classes in per_class.items() for label, iou in classes.items()
    }


def test_the_program_prints_and_writes_the_table(model, photos, tmp_path, capsys):
    output = tmp_path / "out"
    main(EvaluateConfig(model=str(model), dataset="photos", root=str(photos), device="cpu", output=str(output)))
    table = (output / "photos.md").read_text()
    assert table in capsys.readouterr().out and table.count("\n") == 2 + 4
    rows = json.loads((output / "photos.json").read_text())["classes"]
    assert all(f"| {name} | {label} | {iou} | {images} |" in table for name, label, iou, images in rows)


def test_photographs_without_their_folder_are_refused(model):
    with pytest.raises(ValueError, match="no --root for photos"):
        main(EvaluateConfig(model=str(model), dataset="photos"))


def test_an_exported_engine_reaches_what_its_network_does(levels_model, exported_levels, photos):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: the extra onnx")
    network = measure_classes(levels_model, torch.device("cpu"), photos)
    engine = measure_classes(load_engine(exported_levels, "onnxruntime", "cpu"), torch.device("cpu"), photos)
    found, expected = ({row[:2]: row[2] for row in rows} for rows in (engine, network))
    assert found == pytest.approx(expected, abs=0.5) and max(expected.values()) > 0


def test_the_mean_is_over_the_classes_of_a_set():
    rows = [("voc", "ball", 50.0, 2), ("nyu", "sky", 30.0, 1), ("voc", "grass", 25.0, 1)]
    assert mean_of_sets(rows) == {"nyu": 30.0, "voc": 37.5}


def test_the_program_takes_another_engine_for_photographs_alone(exported_levels, photos, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: the extra onnx")
    config = {"model": str(exported_levels), "engine": "onnxruntime", "device": "cpu", "output": str(tmp_path / "out")}
    results = main(EvaluateConfig(dataset="photos", root=str(photos), **config))
    assert f"voc {results['miou']['voc']}" in capsys.readouterr().out
    assert "--engine onnxruntime" in results["command"]
    with pytest.raises(ValueError, match=r"--engine onnxruntime .* with --dataset scenes: expected torch"):
        main(EvaluateConfig(dataset="scenes", **config))
