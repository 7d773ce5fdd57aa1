"""onnxruntime on a GPU: few runs for a frame, the CPU's results, and no warning. The CPU stands in where it can."""

import dataclasses
import logging
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

from synseg_model import Result, Vocabulary
from synseg_model.engines import onnxruntime as module
from synseg_model.engines.exported import GPU_DECODER_MEMORY
from synseg_model.engines.label_sizes import padded
from synseg_model.engines.onnxruntime import OnnxEngine, execution_providers, session_options
from synseg_model.export.parity import draw_image
from synseg_model.weights.exported_folder import (
    DECODER,
    EXPORT_FILE,
    GPU_GRAPHS,
    IMAGE_ENCODER,
    LABEL_MAP,
    MASKS,
    TEXT_ENCODER,
    Export,
    seal,
)
from tests.synseg_model.engines.onnx_devices import DEVICES, LABELS, needs_cuda, segment, text_of


class PaddingEngine(OnnxEngine):
    """Fill passes up as on a GPU, on any device."""

    _pads = True


@pytest.fixture(params=["small", "levels"])
def folder(request):
    return request.getfixturevalue(f"exported_{request.param}")


def decide(engine, frames, text, thresholds):
    """Segment and ask for what a node asks for; returns label maps, areas and presence of every frame."""
    vocabulary = Vocabulary(LABELS, thresholds, text, engine.fingerprint)
    results = segment(engine, frames, vocabulary)
    return [(r.label_map, [r.area(i) for i in range(len(LABELS))], r.presence) for r in results]


def count_runs(engine, monkeypatch):
    """Note the graph of every run, and the labels of the decoder's."""
    runs, run = [], engine.run

    def noting(graph, inputs):
        runs.append((graph, len(inputs["text"]) if graph == DECODER else 0))
        return run(graph, inputs)

    monkeypatch.setattr(engine, "run", noting)
    return runs


@pytest.fixture
def older(folder, tmp_path):
    """The folder as it was exported before label maps and masks took several frames in one run."""
    older = shutil.copytree(folder, tmp_path / "exported")
    for name in (LABEL_MAP, MASKS):
        model = onnx.load(older / name)
        for value in (*model.graph.input, *model.graph.output):
            axes = value.type.tensor_type.shape.dim
            if axes[0].dim_param == "batch":
                axes[0].dim_value = 1
        onnx.save(model, older / name)
    export = dataclasses.replace(Export.read(folder), files=seal(older))
    (older / EXPORT_FILE).write_text(export.to_json())
    return older


@pytest.mark.parametrize("device", DEVICES)
def test_eight_frames_take_the_runs_of_one(folder, device, monkeypatch):
    engine = PaddingEngine(folder, device, decoder_memory=GPU_DECODER_MEMORY)
    text, thresholds = text_of(engine), np.full(len(LABELS), 0.5, np.float32)
    frames = [draw_image(seed, 90, 120) for seed in range(8)]
    for batch in (frames[:1], frames):
        runs = count_runs(engine, monkeypatch)
        decide(engine, batch, text, thresholds)
        assert [name for name, _ in runs] == [IMAGE_ENCODER, DECODER, LABEL_MAP, MASKS]
        monkeypatch.undo()


def test_an_older_folder_is_read_frame_by_frame(folder, older, monkeypatch):
    engine, before = (PaddingEngine(each, "cpu", decoder_memory=GPU_DECODER_MEMORY) for each in (folder, older))
    text = text_of(engine)
    frames = [draw_image(seed, 90, 120) for seed in range(3)]
    thresholds = np.median(engine.activations(frames[:1], text)[0], axis=(1, 2))
    runs = count_runs(before, monkeypatch)
    found = decide(before, frames, text, thresholds)
    assert [name for name, _ in runs].count(LABEL_MAP) == [name for name, _ in runs].count(MASKS) == 3
    for ours, theirs in zip(found, decide(engine, frames, text, thresholds), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_frames_are_divided_where_memory_is_short(folder, monkeypatch):
    engine = PaddingEngine(folder, "cpu", decoder_memory=GPU_DECODER_MEMORY)
    text, thresholds = text_of(engine), np.full(len(LABELS), 0.5, np.float32)
    frames = [draw_image(seed, 90, 120) for seed in range(5)]
    whole = decide(engine, frames, text, thresholds)
    kept = engine.device_maps(frames, text)
    engine.decoder_memory = 16 * 90 * 120 * 2 * padded(len(LABELS))  # planes of two frames
    runs = count_runs(engine, monkeypatch)
    vocabulary = Vocabulary(LABELS, thresholds, text, engine.fingerprint)
    for maps, (label_map, areas, presence) in zip(kept, whole, strict=True):
        result = Result(vocabulary, maps, (90, 120))
        np.testing.assert_array_equal(result.label_map, label_map)
        np.testing.assert_array_equal([result.area(i) for i in range(len(LABELS))], areas)
        np.testing.assert_array_equal(result.presence, presence)
    assert [name for name, _ in runs] == [LABEL_MAP] * 3 + [MASKS] * 3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory", [1, 2**21, GPU_DECODER_MEMORY])
def test_passes_that_are_filled_up_change_nothing(folder, device, memory, monkeypatch):
    plain, filling = OnnxEngine(folder, "cpu"), PaddingEngine(folder, device, decoder_memory=memory)
    runs = count_runs(filling, monkeypatch)
    text = text_of(plain)
    frames = [draw_image(seed, *size) for seed, size in enumerate([(90, 120), (90, 120), (64, 64), (33, 200)])]
    for ours, theirs in zip(filling.activations(frames, text), plain.activations(frames, text), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    thresholds = np.median(plain.activations(frames[:1], text)[0], axis=(1, 2))
    monkeypatch.setattr(filling, "decoder_memory", max(memory, 2**21))  # what stays on the device needs some
    expected = decide(plain, frames, text, thresholds)
    for (ours, areas, presence), (theirs, their_areas, theirs_too) in zip(
        decide(filling, frames, text, thresholds), expected, strict=True
    ):
        assert (ours == theirs).mean() > 0.99 and len(np.unique(theirs)) > 2
        np.testing.assert_allclose(areas, their_areas, rtol=0.05, atol=20)
        np.testing.assert_allclose(presence, theirs_too, atol=1e-3)
    sizes = {labels for graph, labels in runs if graph == DECODER}
    if memory == GPU_DECODER_MEMORY:
        assert sizes == {padded(len(LABELS))} == {10}


def test_labels_that_are_kept_are_the_same_when_passes_are_filled_up(folder):
    plain, filling = OnnxEngine(folder, "cpu", 3), PaddingEngine(folder, "cpu", 3)
    text, frame = text_of(plain), draw_image(0, 90, 120)
    ours, theirs = (engine.activations([frame], text)[0] for engine in (filling, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_options_of_a_gpu_are_those_that_new_shapes_do_not_hold_up():
    (name, options), fallback = execution_providers("cuda:0")
    assert (name, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["cudnn_conv_algo_search"] == "HEURISTIC" and options["use_tf32"] == "0"
    assert "device_id" not in options, "onnxruntime warns where it is given"
    assert execution_providers("cuda:2")[0][1]["device_id"] == "2"
    assert execution_providers("cpu") == ["CPUExecutionProvider"]
    assert all(isinstance(value, str) for value in options.values())


def test_errors_of_a_plain_session_are_shown_and_those_of_a_recorded_one_are_raised():
    assert session_options().log_severity_level == 3
    assert session_options(recorded=True).log_severity_level == 4


class TestOnGpu:
    pytestmark = needs_cuda

    def test_a_session_says_nothing(self, folder, capfd):
        engine = OnnxEngine(folder, "cuda")
        assert engine.device == "cuda:0" and engine.decoder_memory == GPU_DECODER_MEMORY
        engine.activations([draw_image(0, 90, 120)], text_of(engine))
        said = capfd.readouterr()
        assert said.out == said.err == ""

    @pytest.mark.parametrize("name", [*GPU_GRAPHS, TEXT_ENCODER])
    def test_a_session_has_no_warning_to_hide(self, folder, name, capfd):
        options = session_options()
        options.log_severity_level = 2
        onnxruntime.InferenceSession(str(folder / name), options, execution_providers("cuda:0"))
        said = capfd.readouterr()
        assert said.out == said.err == ""

    def test_every_graph_is_recorded(self, folder, caplog):
        caplog.set_level(logging.INFO, module.__name__)
        engine, plain = OnnxEngine(folder, "cuda"), OnnxEngine(folder, "cuda", cuda_graphs=False)
        assert set(engine._recordings) == set(GPU_GRAPHS) and not plain._recordings
        assert not caplog.records
        text, thresholds = text_of(plain), np.full(len(LABELS), 0.5, np.float32)
        frames = [draw_image(seed, 90, 120) for seed in range(8)]
        expected = decide(plain, frames, text, thresholds)
        for _ in range(8):
            for ours, theirs in zip(decide(engine, frames, text, thresholds), expected, strict=True):
                assert (ours[0] == theirs[0]).mean() > 0.999
                np.testing.assert_allclose(ours[2], theirs[2], atol=1e-3)
        assert set(engine._recordings) == set(GPU_GRAPHS)
        assert all(recordings.count for recordings in engine._recordings.values())
