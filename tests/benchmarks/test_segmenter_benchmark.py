"""The benchmark of frames writes what it measures, and names who cannot run here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jsonargparse", reason="needs the extra train")
pytest.importorskip("torch", reason="needs the extra torch")

from benchmarks.contenders import EncodingAlone, write_models
from benchmarks.peers import make_peer
from benchmarks.segmenter import SegmenterBenchmark, main

ROOT = Path(__file__).parents[2]


def test_frames_are_timed_for_each_number_of_labels_and_after_a_change(small_model, tmp_path):
    contenders = ("torch", "torch, half, CUDA graph")
    output = tmp_path / "out.json"
    main(
        SegmenterBenchmark(
            "cpu", contenders, (1, 3), 2, str(small_model), 1, memory=False, changes=True, output=str(output)
        )
    )
    result = json.loads(output.read_text())
    for figure in ("seconds", "after_change_seconds"):
        assert {labels: list(found) for labels, found in result[figure].items()} == {"1": ["torch"], "3": ["torch"]}
        assert all(found["torch"] > 0 for found in result[figure].values())
    assert "they need a GPU" in result["not_here"]["torch, half, CUDA graph"]
    table = output.with_suffix(".md").read_text()
    assert "2 frame(s) of 640x480 | K = 1 | K = 3 |" in table and "roofline, half" in table


def test_a_peer_whose_library_is_not_here_is_named(small_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    output = tmp_path / "out.json"
    main(SegmenterBenchmark("cpu", ("torch", "YOLOE 11s"), (1,), 1, str(small_model), 1, False, output=str(output)))
    result = json.loads(output.read_text())
    assert list(result["seconds"]["1"]) == ["torch"] and "ultralytics" in result["not_here"]["YOLOE 11s"]


def test_yoloe_runs_by_its_own_code():
    pytest.importorskip("ultralytics", reason="needs ultralytics, which is no part of the environment")
    peer = make_peer("YOLOE 11s", "cpu")
    for labels in (1, 3):
        peer.prepare(labels)
        peer.run([np.zeros((48, 64, 3), np.uint8)], peer.vocabulary)


def test_no_graphs_are_made_for_contenders_that_need_none(small_model, tmp_path):
    write_models(tmp_path, str(small_model), ["torch", "CLIPSeg, one encoding"])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_encoding_alone_runs_without_labels(exported_small, tmp_path):
    (tmp_path / "fp32").symlink_to(exported_small)
    contender = EncodingAlone(tmp_path, "onnxruntime", "encoding", "cpu")
    contender.prepare(2)
    frame, runs = np.zeros((48, 64, 3), np.uint8), []
    run = contender._engine.run
    contender._engine.run = lambda graph, inputs: runs.append(graph) or run(graph, inputs)
    contender.settle([frame])
    assert set(runs) == {"image_encoder.onnx"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpu"], "unknown argument --gpu: expected --wheels FOLDER"),
        (["--wheels", "/no/such"], "--wheels /no/such: expected a folder of wheels"),
        (["--photos", "one", "two"], "expected a folder of images, a captions file and its labels' folder"),
    ],
)
def test_the_script_for_a_gpu_refuses_what_it_does_not_know(arguments, said, tmp_path):
    done = subprocess.run([ROOT / "benchmarks/gpu.sh", *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and not any(tmp_path.iterdir())


def test_steps_beyond_the_time_in_all_are_left_out_and_named(tmp_path):
    environment = {**os.environ, "SECONDS_IN_ALL": "0"}
    command = [ROOT / "benchmarks/gpu.sh", "--cpu", "--output", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1 and "== gpu_vit_8: no time left" in done.stdout
    assert "failed or cut short: gpu_tests gpu_vit_1" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
