"""onnxruntime on a GPU: few runs for a frame, the CPU's results, and no warning. The CPU stands in where it can."""

import numpy as np
import onnxruntime
import pytest

from synseg_model import Result, Vocabulary
from synseg_model.engines.exported import GPU_DECODER_MEMORY
from synseg_model.engines.label_sizes import padded
from synseg_model.engines.onnxruntime import OnnxEngine, execution_providers
from synseg_model.export.parity import draw_image
from synseg_model.weights.exported_folder import DECODER, IMAGE_ENCODER, LABEL_MAP

needs_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu"
    ),
]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]
LABELS = tuple(f"label {i}" for i in range(7))


class PaddingEngine(OnnxEngine):
    """Fill passes up as on a GPU, on any device."""

    _pads = True


@pytest.fixture(params=["small", "levels"])
def folder(request):
    return request.getfixturevalue(f"exported_{request.param}")


def decide(engine, frames, text, thresholds):
    """Segment and ask for what a node asks for; returns label maps, areas and presence of every frame."""
    vocabulary = Vocabulary(LABELS, thresholds, text, engine.fingerprint)
    found = engine.device_maps(frames, text)
    results = [Result(vocabulary, maps, frame.shape[:2]) for maps, frame in zip(found, frames, strict=True)]
    return [(r.label_map, [r.area(i) for i in range(len(LABELS))], r.presence) for r in results]


def text_of(engine):
    text = engine.encode_text(list(LABELS))
    return text / np.linalg.norm(text, axis=1, keepdims=True)


def count_runs(engine, monkeypatch):
    """Note the graph of every run, and the labels of the decoder's."""
    runs, run = [], engine.run

    def noting(graph, inputs):
        runs.append((graph, len(inputs["text"]) if graph == DECODER else 0))
        return run(graph, inputs)

    monkeypatch.setattr(engine, "run", noting)
    return runs


@pytest.mark.parametrize("device", DEVICES)
def test_eight_frames_take_at_most_eight_times_the_runs_of_one(folder, device, monkeypatch):
    engine = PaddingEngine(folder, device, decoder_memory=GPU_DECODER_MEMORY)
    text, thresholds = text_of(engine), np.full(len(LABELS), 0.5, np.float32)
    frames = [draw_image(seed, 90, 120) for seed in range(8)]
    counts = []
    for batch in (frames[:1], frames):
        runs = count_runs(engine, monkeypatch)
        decide(engine, batch, text, thresholds)
        assert [name for name, _ in runs].count(IMAGE_ENCODER) == [name for name, _ in runs].count(DECODER) == 1
        assert [name for name, _ in runs].count(LABEL_MAP) == len(batch)
        counts.append(len(runs))
        monkeypatch.undo()
    assert counts[1] <= 8 * counts[0]


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


@pytest.mark.gpu
@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu"
)
def test_a_session_on_a_gpu_says_nothing(folder, capfd):
    engine = OnnxEngine(folder, "cuda")
    assert engine.device == "cuda:0" and engine.decoder_memory == GPU_DECODER_MEMORY
    engine.activations([draw_image(0, 90, 120)], text_of(engine))
    said = capfd.readouterr()
    assert said.out == said.err == ""
