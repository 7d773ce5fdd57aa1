import hashlib
import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from synseg_model import ModelError, Segmenter
from synseg_model.cli.main import main
from synseg_model.engines.load import load_engine
from synseg_model.engines.onnxruntime import OnnxEngine, choose_device
from synseg_model.export.parity import draw_image
from synseg_model.weights.description import describe
from synseg_model.weights.exported_folder import FILES, IMAGE_ENCODER
from synseg_model.weights.find import check_model


@pytest.fixture
def engine(exported_small):
    return load_engine(exported_small, "onnxruntime", "cpu")


@pytest.fixture
def damaged(tmp_path, exported_small):
    """A copy of an exported folder, to be damaged."""
    return shutil.copytree(exported_small, tmp_path / "exported")


@pytest.mark.parametrize(("engine", "others"), [("onnxruntime", {"openvino"}), ("openvino", {"onnxruntime"})])
def test_a_image_is_segmented_without_torch(exported_small, engine, others):
    code = f"""
import sys
import numpy as np
from synseg_model import Segmenter
segmenter = Segmenter.load({str(exported_small)!r}, {engine!r}, "cpu")
segmenter.set_vocabulary(["red ball", "grass"])
assert segmenter.segment(np.zeros((48, 64, 3), np.uint8)).label_map.shape == (48, 64)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert engine in loaded
    assert not loaded & {"torch", "open_clip", "torchvision", "onnx", "onnxscript", "safetensors.torch", *others}


def test_a_segmenter_gives_the_label_map_that_torch_gives(tmp_path, exported_small, small_model):
    image, label_maps = draw_image(0, 131, 77), []
    for model, name in ((small_model, "torch"), (exported_small, "onnxruntime"), (exported_small, "openvino")):
        segmenter = Segmenter.load(model, name, "cpu", cache_dir=tmp_path / "cache")
        segmenter.set_vocabulary(["red ball", "grass"], [0.0, 0.0])
        label_maps.append(segmenter.segment(image).label_map)
    assert all((label_maps[0] == other).mean() > 0.999 for other in label_maps[1:])
    assert len(list((tmp_path / "cache" / "text").iterdir())) == 2, "engines share their text embeddings"


def test_batch_of_mixed_sizes_equals_single_calls_in_order(engine):
    text = engine.encode_text(["ball", "grass"])
    frames = [draw_image(seed, *size) for seed, size in enumerate([(64, 64), (90, 120), (64, 64), (33, 200)])]
    for frame, activation in zip(frames, engine.activations(frames, text), strict=True):
        np.testing.assert_allclose(activation, engine.activations([frame], text)[0], atol=1e-5)


def test_text_of_many_prompts_equals_single_ones(engine):
    prompts = [f"label number {i}" + " and more" * (i % 5) for i in range(70)]
    many = engine.encode_text(prompts)
    assert many.shape == (70, 48) and many.dtype == np.float32
    np.testing.assert_allclose(many[69], engine.encode_text(prompts[69:])[0], atol=1e-5)


def test_1203_labels_are_decoded_in_chunks_within_the_memory_budget(exported_small):
    text = np.random.default_rng(0).normal(size=(1203, 48)).astype(np.float32)
    frames = [draw_image(0, 64, 64)] * 2
    whole = OnnxEngine(exported_small, "cpu", decoder_memory=2**40).activations(frames, text)
    engine, chunks = OnnxEngine(exported_small, "cpu", decoder_memory=2**22), []
    run = engine.run
    engine.run = lambda graph, inputs: chunks.append(len(inputs.get("text", ()))) or run(graph, inputs)
    maps = engine.activations(frames, text)
    assert len(maps) == 2 and maps[0].shape == (1203, 64, 64)
    assert sum(chunks) == 1203
    assert max(chunks) * 2 * engine.config.decoder.bytes_per_label(17, 16) <= 2**22
    np.testing.assert_allclose(maps[1], whole[1], atol=1e-5)


def test_auto_takes_what_is_there_and_says_why(exported_small, small_model, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "synseg_model")
    monkeypatch.setattr("synseg_model.engines.load._has_openvino", lambda: False)
    assert load_engine(exported_small, "auto", "cpu").name == "onnxruntime"
    assert load_engine(small_model, "auto", "cpu").name == "torch"
    said = [record.getMessage() for record in caplog.records if "because" in record.getMessage()]
    assert "engine onnxruntime, because" in said[0] and "is an exported folder" in said[0]
    assert "engine torch, because" in said[1]


def test_an_engine_that_does_not_fit_the_folder_names_the_way_out(exported_small, small_model):
    with pytest.raises(ModelError, match="synseg export"):
        load_engine(small_model, "onnxruntime", "cpu")
    with pytest.raises(ModelError, match="no weights for torch"):
        load_engine(exported_small, "torch", "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta", ""])
def test_unknown_device_is_refused_with_the_choices(device):
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        choose_device(device)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="onnxruntime has CUDA")
def test_missing_cuda_is_said_and_auto_does_without():
    assert choose_device("auto") == "cpu"
    with pytest.raises(ValueError, match="install onnxruntime-gpu"):
        choose_device("cuda:0")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_cut_is_known_before_the_engine_is_loaded(damaged, name):
    data = (damaged / name).read_bytes()
    (damaged / name).write_bytes(data[:-1])
    with pytest.raises(ModelError, match=f"{name} has {len(data) - 1} bytes, expected {len(data)}"):
        check_model(damaged)
    (damaged / name).unlink()
    with pytest.raises(ModelError, match=f"no {name} in"):
        check_model(damaged)


@pytest.mark.parametrize("name", FILES)
def test_a_single_wrong_byte_is_found(damaged, name):
    data = bytearray((damaged / name).read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / name).write_bytes(data)
    with pytest.raises(ModelError, match=f"{name} is damaged or of another export"):
        load_engine(damaged, "onnxruntime", "cpu")


@pytest.mark.parametrize(("engine", "title"), [("onnxruntime", "onnxruntime"), ("openvino", "OpenVINO")])
def test_a_graph_that_cannot_be_read_is_named_in_one_line(damaged, engine, title):
    (damaged / IMAGE_ENCODER).write_bytes(b"no graph")
    export = json.loads((damaged / "export.json").read_text())
    export["files"][IMAGE_ENCODER] = [8, hashlib.sha256(b"no graph").hexdigest()]
    (damaged / "export.json").write_text(json.dumps(export))
    with pytest.raises(ModelError, match=f"{title} .* cannot run .*{IMAGE_ENCODER}") as caught:
        load_engine(damaged, engine, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot read"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"format": 1}', "format 1: this version of synseg reads format 2; export the model again"),
    ],
)
def test_a_foreign_export_file_is_refused(damaged, content, said):
    (damaged / "export.json").write_text(content)
    with pytest.raises(ModelError, match=said):
        check_model(damaged)


def test_a_folder_with_graphs_of_somebody_else_is_refused(damaged):
    (damaged / "export.json").unlink()
    with pytest.raises(ModelError, match=r"no weights\.safetensors"):
        load_engine(damaged, device="cpu")
    with pytest.raises(ModelError, match="is not an exported folder"):
        OnnxEngine(damaged, "cpu")
    (damaged / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        check_model(damaged)


def test_info_describes_an_exported_folder(exported_small, capsys):
    lines = "\n".join(describe(exported_small))
    assert "fp32: image_encoder.onnx" in lines and "max difference" in lines
    assert main(["info", str(exported_small)]) == 0
    assert "exported" in capsys.readouterr().out
