"""Recorded runs give what plain runs give, also where results are kept. The CPU has all of it but the CUDA graph."""

import gc
import logging

import numpy as np
import onnxruntime
import pytest

from synseg_model import Result, Vocabulary
from synseg_model.engines.exported import GPU_DECODER_MEMORY
from synseg_model.engines.load import load_engine
from synseg_model.engines.onnx_recordings import MOST, OnnxArray, key_of
from synseg_model.engines.onnxruntime import OnnxEngine, execution_providers
from synseg_model.export.parity import draw_image
from synseg_model.weights.exported_folder import DECODER, GPU_GRAPHS, IMAGE_ENCODER, LABEL_MAP, MASKS

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(
                "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu"
            ),
        ],
    ),
]
LABELS = tuple(f"label {i}" for i in range(7))


class RecordingEngine(OnnxEngine):
    """Record runs as on a GPU, on any device."""

    _records = True


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(params=["small", "levels"])
def folder(request):
    return request.getfixturevalue(f"exported_{request.param}")


@pytest.fixture
def plain(folder):
    return OnnxEngine(folder, "cpu")


@pytest.fixture
def engine(folder, device):
    return RecordingEngine(folder, device, decoder_memory=GPU_DECODER_MEMORY)


def vocabulary_of(engine, labels=LABELS, threshold=0.5):
    text = engine.encode_text(list(labels))
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    return Vocabulary(labels, np.full(len(labels), threshold, np.float32), text, engine.fingerprint)


def segment(engine, frames, vocabulary):
    found = engine.device_maps(frames, vocabulary.embeddings)
    return [Result(vocabulary, maps, frame.shape[:2]) for maps, frame in zip(found, frames, strict=True)]


def answers(result):
    masks = [result.mask(index) for index in range(len(result.labels))]
    return result.label_map, result.confidence, np.array(masks), result.presence, result.activations


def assert_equal(results, expected, device):
    for ours, theirs in zip(results, expected, strict=True):
        for found, other in zip(answers(ours), answers(theirs), strict=True):
            if device == "cpu":
                np.testing.assert_array_equal(found, other)
            elif found.dtype.kind == "f":
                np.testing.assert_allclose(found, other, atol=1e-3)
            else:
                assert (found == other).mean() > 0.99


def counts(engine):
    return {graph: engine._recordings[graph].count for graph in GPU_GRAPHS}


def test_replayed_runs_give_what_plain_runs_give(plain, engine, device):
    ours, theirs = vocabulary_of(engine), vocabulary_of(plain)
    for seed in range(6):
        frames = [draw_image(seed, 90, 120), draw_image(seed + 10, 90, 120)]
        assert_equal(segment(engine, frames, ours), segment(plain, frames, theirs), device)
        gc.collect()
    before = counts(engine)
    assert min(before[graph] for graph in (IMAGE_ENCODER, DECODER, LABEL_MAP, MASKS)) >= 1
    assert not any(recordings.failure for recordings in engine._recordings.values())
    # As many labels, others, with other thresholds: all that was recorded serves them.
    others = tuple(f"other {i}" for i in range(7))
    frames = [draw_image(7, 90, 120), draw_image(17, 90, 120)]
    changed = segment(engine, frames, vocabulary_of(engine, others, 0.4))
    assert_equal(changed, segment(plain, frames, vocabulary_of(plain, others, 0.4)), device)
    assert counts(engine) == before


def test_results_that_are_kept_stay_what_they_are(plain, engine, device):
    ours, theirs = vocabulary_of(engine), vocabulary_of(plain)
    frames = [draw_image(seed, 90, 120) for seed in range(8)]
    kept = [segment(engine, [frame], ours)[0] for frame in frames]
    read = [result.label_map.copy() for result in kept[:5]]
    assert_equal(kept, [segment(plain, [frame], theirs)[0] for frame in frames], device)
    for before, result in zip(read, kept, strict=False):
        np.testing.assert_array_equal(before, result.label_map)


def test_sizes_that_come_once_are_not_recorded(engine):
    vocabulary = vocabulary_of(engine)
    for side in (64, 80, 96, 112):
        segment(engine, [draw_image(0, 64, side)], vocabulary)[0].label_map  # noqa: B018
    assert counts(engine)[IMAGE_ENCODER] == 0


def test_memory_of_recordings_is_bounded(plain, engine, device):
    vocabulary, kept = vocabulary_of(engine), []
    for side in range(64, 64 + MOST + 8):
        frames = [draw_image(side, side, 64)]
        kept += [segment(engine, frames, vocabulary)[0] for _ in range(3)]
    assert counts(engine)[IMAGE_ENCODER] <= MOST
    assert_equal([kept[-1]], segment(plain, frames, vocabulary_of(plain)), device)


class Drifting:
    """A session whose later runs give more than its first ones."""

    def __init__(self, session):
        self._session, self._runs = session, 0

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run_with_iobinding(self, binding, options):
        self._session.run_with_iobinding(binding, options)
        self._runs += 1
        if self._runs > 1:
            for value in binding.get_outputs():
                value.update_inplace(value.numpy() + 1)


def test_a_recording_that_gives_something_else_is_not_taken(plain, engine, device, caplog):
    recordings = engine._recordings[IMAGE_ENCODER]
    recordings._session = Drifting(recordings._session)
    ours, theirs = vocabulary_of(engine), vocabulary_of(plain)
    frames = [draw_image(0, 90, 120)]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert_equal(segment(engine, frames, ours), segment(plain, frames, theirs), device)
    assert "differs from that of a plain run by" in recordings.failure
    assert [record.message for record in caplog.records].count(
        f"cannot record a run as a CUDA graph ({recordings.failure}): going on without"
    ) == 1


def test_a_key_has_shapes_of_the_host_and_addresses_of_the_device():
    def there(elements, **options):
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(elements, np.float32))
        return OnnxArray(value, (elements,), **options)

    frame, other = np.zeros((1, 4, 4, 3), np.uint8), np.ones((1, 4, 4, 3), np.uint8)
    kept, passing = there(8, stays=True), there(8)
    assert key_of({"frames": frame, "kept": kept}) == key_of({"frames": other, "kept": kept})
    assert key_of({"frames": frame, "kept": kept}) != key_of({"frames": frame, "kept": there(8, stays=True)})
    assert key_of({"frames": frame}) != key_of({"frames": frame[:, :2]}) != key_of({"frames": frame.astype(np.float32)})
    assert key_of({"frames": frame, "passing": passing}) is None
    few = [there(8, stays=True, host=np.full(8, value, np.float32)) for value in (1, 2)]
    assert key_of({"few": few[0]}) == key_of({"few": few[1]})


def test_a_session_is_made_for_recordings_where_they_are_wanted():
    assert execution_providers("cuda:0", recorded=True)[0][1]["enable_cuda_graph"] == "1"
    assert "enable_cuda_graph" not in execution_providers("cuda:0")[0][1]
    assert execution_providers("cpu", recorded=True) == ["CPUExecutionProvider"]


def test_cuda_graphs_are_refused_on_a_cpu_and_not_missed_there(exported_small):
    with pytest.raises(ValueError, match="cuda_graphs on device cpu"):
        load_engine(exported_small, "onnxruntime", "cpu", cuda_graphs=True)
    assert load_engine(exported_small, "onnxruntime", "cpu", cuda_graphs=False)._recordings == {}
