"""The benchmark of training takes steps on captioned images, and its results go into the tables."""

import json

import pytest

pytest.importorskip("spacy", reason="needs the extra train")

from benchmarks.tables import TABLES, Results
from benchmarks.training_throughput import ThroughputConfig, main
from tests.training import photo_files


def test_steps_are_measured_and_stand_in_the_table_of_targets(tmp_path):
    sentences = ["A dog and a cat sleep on a sofa.", "A red mug stands on a table near a lamp."]
    images, captions = [], []
    for number, sentence in enumerate(sentences):
        name = f"{number:012}.jpg"
        photo_files.image(tmp_path / "images" / name, (240, 260), (200, 30 * number, 10))
        images.append({"id": number, "file_name": name})
        captions.append({"id": number, "image_id": number, "caption": sentence})
    photo_files.text(tmp_path / "captions.json", json.dumps({"images": images, "annotations": captions}))
    output = tmp_path / "results/gpu_training.json"
    result = main(
        ThroughputConfig(
            images=str(tmp_path / "images"),
            captions=str(tmp_path / "captions.json"),
            batch=2,
            steps=1,
            workers=(0,),
            precision="32-true",
            output=str(output),
        )
    )
    assert json.loads(output.read_text()) == result
    (measured,) = result["by_reading_processes"].values()
    assert measured["images_per_second"] > 0 and 0 <= measured["data_wait"] <= 1
    results = Results(output.parent, tmp_path)
    assert "](results/gpu_training.json)" in TABLES["gpu-targets"](results)[-1]
    assert "torch" in TABLES["gpu-frames"](results)[-1]
