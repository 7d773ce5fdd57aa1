"""Recorded runs give what plain runs give, also where results are kept. The CPU has all of it but the CUDA graph."""

import gc
import logging
import threading

import numpy as np
import onnxruntime
import pytest

from synseg_model import Vocabulary
from synseg_model.engines import onnx_recordings
from synseg_model.engines.exported import GPU_DECODER_MEMORY
from synseg_model.engines.label_sizes import padded
from synseg_model.engines.load import load_engine
from synseg_model.engines.onnx_recordings import COPIES, OnnxRecordings, key_of
from synseg_model.engines.onnx_runs import OnnxArray, check_outputs, output_shapes, run_plainly
from synseg_model.engines.onnxruntime import OnnxEngine, execution_providers
from synseg_model.engines.recordings import reason_of
from synseg_model.export.parity import draw_image
from synseg_model.weights.exported_folder import DECODER, GPU_GRAPHS, IMAGE_ENCODER, LABEL_MAP, MASKS
from tests.synseg_model.engines.onnx_devices import DEVICES, LABELS, segment, text_of


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
    return Vocabulary(labels, np.full(len(labels), threshold, np.float32), text_of(engine, labels), engine.fingerprint)


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


def test_another_vocabulary_of_the_same_padded_size_records_nothing(plain, engine, device, monkeypatch):
    monkeypatch.setattr(RecordingEngine, "_pads", True)
    assert padded(7) == padded(9) == 10
    frames = [draw_image(0, 90, 120)]
    for _ in range(6):
        for result in segment(engine, frames, vocabulary_of(engine)):
            answers(result)
    before = counts(engine)
    assert min(before.values()) >= 1
    nine = tuple(f"other {i}" for i in range(9))
    ours = segment(engine, frames, vocabulary_of(engine, nine))
    theirs = segment(plain, frames, vocabulary_of(plain, nine))
    for found, other in zip(ours, theirs, strict=True):
        assert (found.label_map == other.label_map).mean() > 0.99
        np.testing.assert_allclose(found.presence, other.presence, atol=1e-3)
        np.testing.assert_allclose(found.activations, other.activations, atol=1e-3)
    assert counts(engine) == before


def test_a_plain_run_changes_no_result_of_a_recorded_one(plain, engine, device):
    ours, theirs = vocabulary_of(engine), vocabulary_of(plain)
    usual = [draw_image(0, 90, 120)]
    for _ in range(5):
        answers(segment(engine, usual, ours)[0])
    rare = [draw_image(1, 64, 96)]  # comes once: it runs plainly, in the same session
    for _ in range(3):
        kept = segment(engine, rare, ours)
        assert_equal(segment(engine, usual, ours), segment(plain, usual, theirs), device)
        assert_equal(kept, segment(plain, rare, theirs), device)
        rare = [draw_image(1, 64, rare[0].shape[1] + 32)]


def test_each_thread_has_recordings_of_its_own(plain, engine, device):
    ours, theirs = vocabulary_of(engine), vocabulary_of(plain)
    frames = [draw_image(0, 90, 120)]

    def work():
        for _ in range(4):
            found.append(answers(segment(engine, frames, ours)[0]))

    found = []
    work()
    before = counts(engine)[IMAGE_ENCODER]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert counts(engine)[IMAGE_ENCODER] == 2 * before
    expected = answers(segment(plain, frames, theirs)[0])
    for each in found:
        for one, other in zip(each, expected, strict=True):
            assert (np.abs(one.astype(float) - other) <= (0 if device == "cpu" else 1e-3)).mean() > 0.99


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


def test_recordings_are_bounded_in_number(plain, engine, device, monkeypatch):
    most = 6
    monkeypatch.setattr(onnx_recordings, "MOST", most)
    vocabulary, kept = vocabulary_of(engine), []
    for side in range(64, 64 + most + 2):
        frames = [draw_image(side, side, 64)]
        kept += [segment(engine, frames, vocabulary)[0] for _ in range(3)]
    assert counts(engine)[IMAGE_ENCODER] == most
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


def test_where_recording_fails_another_session_takes_over(plain, engine, device):
    recordings, session = engine._recordings[IMAGE_ENCODER], engine._sessions[IMAGE_ENCODER]
    ours, theirs = vocabulary_of(engine), vocabulary_of(plain)
    frames = [draw_image(0, 90, 120)]
    expected = segment(plain, frames, theirs)
    for _ in range(3):
        assert_equal(segment(engine, frames, ours), expected, device)
    assert recordings.count

    def fail(*given):
        raise RuntimeError("operation failed due to a previous error during capture")

    recordings._replay = fail
    for _ in range(3):
        assert_equal(segment(engine, frames, ours), expected, device)
    assert "previous error" in recordings.failure
    assert IMAGE_ENCODER not in engine._recordings and DECODER in engine._recordings
    assert engine._sessions[IMAGE_ENCODER] is not session


def test_the_reason_of_a_failure_is_what_cuda_says():
    text = "Error in execution: call.cc:154 bool CudaCall(int) CUDA failure 900: not while capturing ; GPU=0 ; expr=x; "
    assert reason_of(RuntimeError(text)) == "CUDA failure 900: not while capturing"
    assert reason_of(RuntimeError("its output\nsums differs")) == "its output sums differs"
    assert reason_of(MemoryError()) == "MemoryError"


def test_recordings_keep_to_their_memory_and_say_so_once(exported_small, caplog):
    caplog.set_level(logging.INFO, "synseg_model")
    engine = OnnxEngine(exported_small, "cpu")
    recordings = OnnxRecordings(engine._sessions[MASKS], ("cpu", 0), memory=500)  # the first one has 384
    for side in (8, 9, 10):
        rows, thresholds = np.arange(side, dtype=np.int32), np.zeros(2, np.float32)
        given = {"activations": np.ones((1, 2, 4, 4), np.float32), "thresholds": thresholds, "rows": rows}
        for _ in range(COPIES + 2):
            recordings.run({**given, "columns": rows})
    assert recordings.count == 1
    assert [record.message for record in caplog.records if "further sizes" in record.message] == [
        "1 CUDA graphs are recorded, with 0 MiB: further sizes run without"
    ]


def test_shapes_of_outputs_follow_from_those_of_inputs():
    inputs = {"frames": ["batch", "height", "width", 3], "positions": ["rows", "columns", 24]}
    given = {"frames": (2, 90, 120, 3), "positions": (3, 4, 24)}
    outputs = {"tokens": ["batch", "2*rows", "2*columns", 16], "numbers": ["batch", 5]}
    assert output_shapes(inputs, outputs, given) == {"tokens": (2, 6, 8, 16), "numbers": (2, 5)}
    for size in ("labels", "rows + 1", None):
        with pytest.raises(ValueError, match=r"of an output: expected a number, or a multiple of one of \['batch'"):
            output_shapes(inputs, {"tokens": [size]}, given)


def test_outputs_in_memory_of_their_own_are_the_same(folder):
    engine = OnnxEngine(folder, "cpu")
    for graph in GPU_GRAPHS:
        check_outputs(engine._sessions[graph])
    session = engine._sessions[MASKS]
    given = {
        "activations": np.random.default_rng(0).uniform(size=(2, 3, 8, 6)).astype(np.float32),
        "thresholds": np.array([0.2, 0.5, 0.8], np.float32),
        "rows": np.arange(16, dtype=np.int32),
        "columns": np.arange(12, dtype=np.int32),
    }
    ours, theirs = (run_plainly(session, given, ("cpu", 0), own) for own in (True, False))
    assert ours.keys() == theirs.keys() == {"masks", "numbers", "sums", "peaks"}
    for name, array in ours.items():
        np.testing.assert_array_equal(array.value.numpy(), theirs[name].value.numpy())


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
