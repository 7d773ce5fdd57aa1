"""One pass from frames to label maps gives what a Result of the same activations gives, and so does a recorded one."""

import threading

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from synseg_model import Result, Segmenter, Vocabulary
from synseg_model.engines.half_precision import halve_products, halve_throughout
from synseg_model.engines.label_sizes import NO_LABEL
from synseg_model.engines.load import load_engine
from synseg_model.engines.recorded_pass import RecordedPass, Sizes
from synseg_model.engines.recordings import Recordings
from synseg_model.engines.segment_pass import Arithmetic, InputPass, SegmentPass
from synseg_model.export.parity import draw_image
from synseg_model.weights.model_folder import load_model

CLOSE = 1e-4  # see test_device_batch
PATIENCE = 180.0  # seconds; only ever used up by a failure
CPU = torch.device("cpu")
LABELS = tuple(f"label {i}" for i in range(7))
needs_cuda = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


@pytest.fixture(params=["small", "levels"])
def model(request):
    return request.getfixturevalue(f"{request.param}_model")


def frames_of(count, size=(90, 120)):
    return [draw_image(seed, *size) for seed in range(count)]


def make_vocabulary(engine, frames, ids=(), labels=LABELS, uniform=False):
    """Make a vocabulary whose thresholds cut the first frame's activations in the middle, or are their mean."""
    text = engine.encode_text(list(labels))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    thresholds = np.median(engine.activations(frames[:1], text)[0], axis=(1, 2))
    if uniform:
        thresholds[:] = thresholds.mean()
    return Vocabulary(labels, thresholds, text, engine.fingerprint, ids)


def run_pass(segment, frames, vocabulary, places):
    """Run a pass with room for `places` labels; returns all that it gives, on the host."""
    device, rest = segment._run._mean.device, places - len(vocabulary)
    text = np.concatenate([vocabulary.embeddings, np.repeat(vocabulary.embeddings[:1], rest, axis=0)])
    thresholds = np.pad(vocabulary.thresholds, (0, rest), constant_values=NO_LABEL)
    ids = np.pad(np.array(vocabulary.ids, np.int32), (0, rest), constant_values=1)
    given = (torch.from_numpy(each).to(device) for each in (np.stack(frames), text, thresholds, ids))
    with torch.no_grad():
        return segment(*given)


def assert_same(label_map, confidence, measures, result):
    """Compare what a pass decided with a Result's own, where no activation is at its threshold or near the best."""
    limits = result.vocabulary.thresholds[:, None, None]
    sure = np.abs(result.activations - limits) >= CLOSE
    reaching = np.where(result.activations >= limits, result.activations, -1)
    best, second = -np.sort(-reaching, axis=0)[:2]
    clear = sure.all(axis=0) & ((best < 0) | (best - second >= CLOSE))
    assert clear.mean() > 0.9 and len(np.unique(result.label_map)) > 1
    np.testing.assert_array_equal(label_map[clear], result.label_map[clear])
    np.testing.assert_allclose(confidence[clear], result.confidence[clear], atol=CLOSE)
    numbers, sums, peaks = measures
    unsure = (~sure).sum(axis=(1, 2))
    areas = np.array([result.area(i) for i in range(len(result.labels))])
    assert (np.abs(numbers[:, 0] - areas) <= unsure).all()
    expected = areas * [result.score(i) for i in range(len(areas))]
    np.testing.assert_allclose(sums, expected, rtol=1e-3, atol=unsure.max() + 1e-2)
    np.testing.assert_allclose(peaks, result.presence, atol=CLOSE)


@pytest.mark.parametrize("places", [7, 10])
@pytest.mark.parametrize("memory", [1, 2**27])
@pytest.mark.parametrize("uniform", [False, True])
def test_a_pass_gives_the_label_maps_confidence_and_masks_of_results(model, places, memory, uniform):
    engine, frames = load_engine(model, "torch", "cpu"), frames_of(2)
    vocabulary = make_vocabulary(engine, frames, (7, 3, 5, 1, 300, 65535, 2), uniform=uniform)
    segment = SegmentPass(engine.network, engine._arithmetic, (90, 120), 0, True, uniform, memory)
    out = run_pass(segment, frames, vocabulary, places)
    assert out.logits.shape[1] == places
    for row, (maps, frame) in enumerate(zip(engine.activations(frames, vocabulary.embeddings), frames, strict=True)):
        np.testing.assert_allclose(out.logits[row, :7].sigmoid().numpy(), maps, atol=CLOSE)
        # The Result of the pass's own activations: how frames are resized is another test's.
        result = Result(vocabulary, out.logits[row, :7].sigmoid().numpy(), frame.shape[:2])
        measures = tuple(values[row, :7].numpy() for values in out.measures)
        assert_same(out.label_map[row].numpy(), out.confidence[row].numpy(), measures, result)


def test_places_that_no_label_takes_change_nothing_whatever_is_in_them(model):
    engine, frames = load_engine(model, "torch", "cpu"), frames_of(1)
    vocabulary = make_vocabulary(engine, frames)
    for kept in (0, 3):
        segment = SegmentPass(engine.network, engine._arithmetic, (90, 120), kept, measured=True)
        exact, padded = (run_pass(segment, frames, vocabulary, places) for places in (7, 20))
        torch.testing.assert_close(padded.logits[:, :7], exact.logits, atol=1e-4, rtol=1e-4)
        assert (padded.label_map == exact.label_map).float().mean() > 0.999
        torch.testing.assert_close(padded.confidence, exact.confidence, atol=1e-4, rtol=1e-4)
        assert (padded.measures[0][:, 7:, 0] == 0).all() and (padded.measures[2][:, 7:] == 0).all()


def test_nothing_in_a_pass_breaks_a_compiled_graph(model):
    engine, frames = load_engine(model, "torch", "cpu"), frames_of(1, (64, 96))
    vocabulary = make_vocabulary(engine, frames)
    segment = SegmentPass(engine.network, engine._arithmetic, (64, 96), measured=True)
    expected = run_pass(segment, frames, vocabulary, 7)
    compiled = torch.compile(segment.__call__, backend="eager", fullgraph=True, dynamic=False)
    labels = (vocabulary.embeddings.copy(), vocabulary.thresholds.copy(), np.arange(1, 8, dtype=np.int32))
    given = (np.stack(frames), *labels)
    with torch.no_grad():
        out = compiled(*(torch.from_numpy(each) for each in given))
    assert torch.equal(out.label_map, expected.label_map)
    torch.testing.assert_close(out.logits, expected.logits)


class OneDevice(TorchDispatchMode):
    """Note every operation that makes or takes a tensor of another device than meta, which has no values."""

    def __init__(self):
        super().__init__()
        self.foreign = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, out)):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                self.foreign.append(str(operation))
        return out


@pytest.mark.parametrize(("kept", "uniform"), [(0, False), (3, True)])
def test_nothing_in_a_pass_waits_for_the_device_or_copies_to_it(model, kept, uniform):
    """Either would be the end of a recording. Without values, what asks for one fails."""
    network, meta = load_model(model)[0], torch.device("meta")
    network.to(meta)
    segment = SegmentPass(network, Arithmetic(meta, torch.float32, torch.float32), (90, 120), kept, True, uniform)
    frames = torch.zeros(2, 90, 120, 3, dtype=torch.uint8, device=meta)
    text, thresholds = torch.zeros(7, network.encoder.text_width, device=meta), torch.zeros(7, device=meta)
    with torch.no_grad(), OneDevice() as mode:
        out = segment(frames, text, thresholds, torch.ones(7, dtype=torch.int32, device=meta))
        assert out.label_map.shape == (2, 90, 120) and out.measures[0].shape == (2, 7, 5)
        assert mode.foreign == []
        thresholds + torch.tensor(0.5)
    assert mode.foreign, "a number that is copied is seen"


@pytest.mark.parametrize("device", DEVICES)
def test_a_recorded_pass_serves_one_vocabulary_after_the_other(model, device):
    engine = load_engine(model, "torch", device, precision="fp32")
    frames = frames_of(3)
    sizes = Sizes(2, (90, 120), 10, measured=True, wide=True)
    segment = SegmentPass(engine.network, engine._arithmetic, (90, 120), measured=True)
    width = engine.network.encoder.text_width
    recorded = RecordedPass(segment, sizes, width, torch.device(device), threading.Lock())
    several = make_vocabulary(engine, frames, ids=(7, 3, 5, 1, 300, 65535, 2))
    few = make_vocabulary(engine, frames, labels=LABELS[3:6])
    answers = []
    for vocabulary, batch in ((several, frames[:2]), (few, frames[1:]), (several, frames[:2])):
        answer = recorded(batch, vocabulary)
        for row, frame in enumerate(batch):
            result = Result(vocabulary, answer.logits[row].sigmoid().cpu().numpy(), frame.shape[:2])
            measures = tuple(values[row] for values in answer.measures)
            assert_same(answer.label_maps[row], answer.confidences[row].cpu().numpy(), measures, result)
        answers.append(answer)
    np.testing.assert_array_equal(answers[0].label_maps, answers[2].label_maps)
    assert not np.array_equal(answers[0].label_maps, answers[1].label_maps), "answers stay what they were"


def load_recording(model, device):
    """Load an engine that records; on the CPU it does what it does on a GPU, but for the graph."""
    engine = load_engine(model, "torch", device, precision="fp32")
    if device == "cpu":
        engine.recordings = Recordings(engine._record)
        engine.device = "cuda:0"  # what the Segmenter goes by
    return engine


@pytest.mark.parametrize("device", DEVICES)
def test_frames_are_answered_at_once_and_from_a_recording_when_there_is_one(model, device, tmp_path):
    segmenter = Segmenter(load_recording(model, device), cache_dir=tmp_path)
    frame = frames_of(1)[0]
    segmenter.set_vocabulary(LABELS)
    vocabulary = make_vocabulary(load_engine(model, "torch", "cpu"), [frame])
    first, second = (segmenter.segment(frame, vocabulary) for _ in range(2))
    assert segmenter.engine.recordings.wait(PATIENCE) and not segmenter.engine.recordings.failure
    third = segmenter.segment(frame, vocabulary)
    names = [type(result._on_device.batch).__name__ for result in (first, second, third)]
    assert names == ["TorchBatch", "TorchBatch", "DecidedBatch"]
    exact = device == "cpu"  # a GPU chooses other kernels for other numbers of labels, and TF32 for convolutions
    for ours in (third, segmenter.segment(frame, vocabulary)):
        assert (ours.label_map == first.label_map).mean() > (0.999 if exact else 0.95)
        np.testing.assert_allclose(ours.maps, first.maps, atol=1e-3 if exact else 1e-2)
        np.testing.assert_allclose(ours.presence, first.presence, atol=1e-3 if exact else 1e-2)
        assert ours.present == first.present and ours.label_map.dtype == np.uint16
        assert abs(ours.confidence - first.confidence).mean() < (1e-3 if exact else 1e-2)
    # Measures were asked for: passes make them from now on.
    segmenter.segment(frame, vocabulary)
    segmenter.segment(frame, vocabulary)
    assert segmenter.engine.recordings.wait(PATIENCE)
    measured = segmenter.segment(frame, vocabulary)
    assert measured._on_device.batch._measures is not None
    if exact:
        assert [measured.roi(i) for i in measured.present] == [first.roi(i) for i in first.present]


def test_a_recording_that_gives_something_else_is_not_taken(small_model, monkeypatch, caplog):
    engine, frames = load_recording(small_model, "cpu"), frames_of(1)
    vocabulary = make_vocabulary(load_engine(small_model, "torch", "cpu"), frames)
    record = engine._checked

    def wrong(way, sizes, segment):
        def noisy(*given):
            out = way(*given)
            return out._replace(logits=out.logits + 1)

        return record(noisy, sizes, segment)

    monkeypatch.setattr(engine, "_checked", wrong)
    for _ in range(2):
        engine.device_maps(frames, vocabulary.embeddings, vocabulary)
    assert engine.recordings.wait(PATIENCE)
    assert "its activations differ" in engine.recordings.failure
    (maps,) = engine.device_maps(frames, vocabulary.embeddings, vocabulary)
    assert type(maps.batch).__name__ == "TorchBatch" and "1 frame(s) of 120x90 with 10 labels" in caplog.text


@pytest.mark.parametrize("device", DEVICES)
def test_a_new_vocabulary_of_about_the_size_records_nothing(model, device):
    engine, frames = load_recording(model, device), frames_of(1)
    plain = load_engine(model, "torch", "cpu")
    one, other = (make_vocabulary(plain, frames, labels=tuple(f"{n} {i}" for i in range(n))) for n in (6, 9))
    for _ in range(2):
        engine.device_maps(frames, one.embeddings, one)
    assert engine.recordings.wait(PATIENCE)
    (maps,) = engine.device_maps(frames, other.embeddings, other)
    assert type(maps.batch).__name__ == "DecidedBatch" and maps.shape[0] == 9
    (expected,) = plain.device_maps(frames, other.embeddings)
    assert (maps.label_map(other) == expected.label_map(other)).mean() > (0.99 if device == "cpu" else 0.95)


def test_weights_that_are_loaded_later_are_used(levels_model):
    engine, frames = load_engine(levels_model, "torch", "cpu"), frames_of(1)
    text = np.float32(np.eye(24)[:3])
    before = engine.activations(frames, text)[0]
    state = {name: tensor + 0.05 for name, tensor in engine.network.decoder.state_dict().items()}
    engine.network.decoder.load_state_dict(state)
    after = engine.activations(frames, text)[0]
    fresh = InputPass(engine.network, engine._arithmetic, engine.config.image.input_size(90, 120, 32))
    planes = torch.from_numpy(frames[0][None]).permute(0, 3, 1, 2).float()
    size = engine.config.image.input_size(90, 120, 32)
    planes = torch.nn.functional.interpolate(planes, size=size, mode="area" if size[0] <= 90 else "bilinear")
    with torch.no_grad():
        expected = fresh(planes, torch.from_numpy(text)).sigmoid()[0].numpy()
    assert np.abs(after - before).mean() > 1e-3
    assert np.abs(after - expected).mean() < np.abs(after - before).mean() / 10


@torch.no_grad()
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_throughout_where_activations_stay_and_autocast_elsewhere(model, half):
    torch.manual_seed(0)
    network, _ = load_model(model)
    layers = [module for module in network.decoder.modules() if isinstance(module, torch.nn.LayerNorm)]
    arithmetic = Arithmetic(CPU, half, torch.float32)
    size = network.config.image.input_size(90, 120, network.encoder.patch)
    planes = 255 * torch.rand(1, 3, *size)
    text = torch.nn.functional.normalize(torch.randn(3, network.encoder.text_width))

    def activations(throughout):
        values = half if throughout else torch.float32
        return InputPass(network, arithmetic._replace(values=values), size)(planes, text).float().sigmoid()

    halve_products(network, half)
    expected = activations(False)
    assert layers[0].weight.dtype == torch.float32
    weight = layers[0].weight.clone()
    largest = 0.02 if half == torch.float16 else 0.5  # bfloat16 has three bits less
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synseg_model.engines.half_precision.LARGEST_DIFFERENCE", -1.0)
        assert not halve_throughout(network, half, activations)
        assert layers[0].weight.dtype == torch.float32 and torch.equal(layers[0].weight, weight)
        torch.testing.assert_close(activations(False), expected)
        patch.setattr("synseg_model.engines.half_precision.LARGEST_DIFFERENCE", largest)
        assert halve_throughout(network, half, activations)
    assert {tensor.dtype for tensor in network.decoder.parameters()} == {half}
    assert (activations(True) - expected).abs().max() <= largest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_half_precision_recorded_and_compiled_gives_nearly_what_float32_gives(model, compile):
    frames, plain = frames_of(2), load_engine(model, "torch", "cpu")
    engine = load_engine(model, "torch", "cuda", compile=compile)
    vocabulary = make_vocabulary(plain, frames)
    for _ in range(2):
        engine.device_maps(frames, vocabulary.embeddings, vocabulary)
    assert engine.recordings.wait(PATIENCE) and not engine.recordings.failure
    found = engine.device_maps(frames, vocabulary.embeddings, vocabulary)
    for maps, expected in zip(found, plain.activations(frames, vocabulary.embeddings), strict=True):
        assert type(maps.batch).__name__ == "DecidedBatch"
        assert np.abs(maps.numpy() - expected).mean() < 0.02
        label_map = Result(vocabulary, expected, (90, 120)).label_map
        assert (maps.label_map(vocabulary) == label_map).mean() > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recordings_of_several_sizes_share_their_memory(small_model):
    engine = load_engine(small_model, "torch", "cuda", precision="fp32")
    plain = load_engine(small_model, "torch", "cpu")
    batches = [frames_of(count, size) for count, size in ((1, (90, 120)), (3, (90, 120)), (2, (64, 64)))]
    vocabulary = make_vocabulary(plain, batches[0])
    for _ in range(2):
        for frames in batches:
            engine.device_maps(frames, vocabulary.embeddings, vocabulary)
    assert engine.recordings.wait(PATIENCE)
    for frames in batches * 3:
        for maps, frame in zip(engine.device_maps(frames, vocabulary.embeddings, vocabulary), frames, strict=True):
            assert type(maps.batch).__name__ == "DecidedBatch"
            np.testing.assert_allclose(maps.numpy(), plain.activations([frame], vocabulary.embeddings)[0], atol=1e-2)
