"""Label maps and masks made on a device are those that the host makes; the CPU stands in for the GPU here."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from synseg_model import Result, Segmenter, Vocabulary
from synseg_model.engines.exported_batch import ExportedBatch
from synseg_model.engines.load import load_engine
from synseg_model.engines.onnxruntime import OnnxEngine
from synseg_model.engines.torch_batch import TorchBatch
from synseg_model.export.parity import draw_image
from synseg_model.weights.exported_folder import LABEL_MAP

# How far resampled activations may differ: float32 places a sample among 352 within 3e-5 of their distance.
CLOSE = 1e-4
THRESHOLDS = [[0.5] * 6, [0.0, 0.2, 0.9, 1.0, 0.3, 0.5], [1.0] * 6, [0.0] * 6]
SIZES = [(37, 53), (12, 17), (5, 4), (4, 1), (1, 4), (1, 1)]


@pytest.fixture(scope="module")
def onnx(exported_small):
    return OnnxEngine(exported_small, "cpu")


@pytest.fixture(params=["torch", "onnxruntime"])
def keep(request, onnx):
    """Have logits (B,K,h,w) kept for frames of a size: returns the frames' maps; the ONNX graphs see three passes."""

    def keep_logits(logits, size, memory=2**28):
        if request.param == "torch":
            return TorchBatch(torch.from_numpy(logits), size, memory).frames()
        onnx.decoder_memory = memory
        maps = torch.from_numpy(logits).sigmoid().numpy()
        cuts = sorted({0, 1, logits.shape[1] // 2, logits.shape[1]})
        parts = [np.ascontiguousarray(maps[:, a:b]) for a, b in pairwise(cuts)]
        return ExportedBatch(onnx, [onnx.keep(part) for part in parts], size).frames()

    return keep_logits


def random_logits(labels=6, batch=2, seed=0):
    """Smooth logits, some activations exactly 0 and 1, and labels 0 and 1 equal in the upper half."""
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, labels, 6, 9)).astype(np.float32))
    logits = 2 * torch.nn.functional.interpolate(noise, (12, 17), mode="bicubic").numpy()
    logits[logits < -4] = -np.inf
    logits[:, 2, 8:10, 4:8] = np.inf
    logits[:, 1, :6] = logits[:, 0, :6]
    return logits


def vocabulary_of(thresholds, ids=()):
    labels = tuple(f"label {i}" for i in range(len(thresholds)))
    return Vocabulary(labels, np.float32(thresholds), np.zeros((len(labels), 4)), "00", ids)


def assert_same(there, here):
    """Compare a Result whose maps are on a device with that of the same maps on the host; returns the share compared.

    Not compared are pixels where an activation is about its threshold or about the best one. Labels 0 and 1 may be
    equal: then label 0 must win.
    """
    activations, limits = here.activations, here.vocabulary.thresholds[:, None, None]
    sure = (np.abs(activations - limits) >= CLOSE) | (limits == 0)
    np.testing.assert_array_equal(there.masks[sure], here.masks[sure])
    reaching = np.where(activations >= limits, activations, -1)
    reaching[1, activations[1] == activations[0]] = -1
    best, second = -np.sort(-reaching, axis=0)[:2]
    clear = sure.all(axis=0) & ((best < 0) | (best - second >= CLOSE))
    np.testing.assert_array_equal(there.label_map[clear], here.label_map[clear])
    assert there.label_map.dtype == here.label_map.dtype and there.masks.dtype == here.masks.dtype
    same = there.label_map == here.label_map
    np.testing.assert_allclose(there.confidence[same], here.confidence[same], atol=CLOSE)
    assert there.confidence.dtype == np.float32
    return clear.mean()


@pytest.mark.parametrize("thresholds", THRESHOLDS)
@pytest.mark.parametrize("size", SIZES)
def test_label_maps_masks_and_confidence_are_the_hosts(keep, thresholds, size):
    vocabulary = vocabulary_of(thresholds, ids=(7, 3, 5, 1, 300, 65535))
    for maps in keep(random_logits(), size):
        there, here = Result(vocabulary, maps, size), Result(vocabulary, maps.numpy(), size)
        share = assert_same(there, here)
        if thresholds == THRESHOLDS[0] and size == SIZES[0]:
            assert share > 0.99 and len(np.unique(here.label_map)) == 7


@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_statistics_and_single_masks_describe_the_masks(keep, thresholds):
    for maps in keep(random_logits(), SIZES[0]):
        result = Result(vocabulary_of(thresholds), maps, SIZES[0])
        assert result.present == tuple(np.flatnonzero(result.masks.any(axis=(1, 2))))
        np.testing.assert_array_equal(result.label_map == 0, ~result.masks.any(axis=0))
        for index, mask in enumerate(result.masks):
            np.testing.assert_array_equal(result.mask(index), mask)
            assert result.area(index) == mask.sum()
            if not mask.any():
                assert (result.score(index), result.roi(index)) == (0.0, (0, 0, 0, 0))
                continue
            assert result.score(index) == pytest.approx(result.activations[index][mask].mean(), abs=CLOSE)
            rows, columns = np.nonzero(mask)
            x, y, width, height = result.roi(index)
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("memory", [1, 2**28])
def test_presence_is_the_largest_activation_of_each_label(keep, memory):
    for maps in keep(random_logits(), SIZES[0], memory):
        result = Result(vocabulary_of([0.5] * 6), maps, SIZES[0])
        assert (result.presence.shape, result.presence.dtype) == ((6,), np.float32)
        np.testing.assert_allclose(result.presence, maps.numpy().max(axis=(1, 2)), atol=1e-6)
        assert len(set(result.presence.tolist())) > 3


def test_graphs_that_were_exported_without_peaks_have_presence_too(onnx, monkeypatch):
    run = onnx.run
    monkeypatch.setattr(onnx, "run", lambda *given: {k: v for k, v in run(*given).items() if k != "peaks"})
    activations = torch.from_numpy(random_logits(batch=1)).sigmoid().numpy()
    passes = [onnx.keep(np.ascontiguousarray(part)) for part in (activations[:, :2], activations[:, 2:])]
    (maps,) = ExportedBatch(onnx, passes, (9, 7)).frames()
    result = Result(vocabulary_of([0.5] * 6), maps, (9, 7))
    np.testing.assert_array_equal(result.presence, activations[0].max(axis=(1, 2)))


def test_of_equals_the_first_wins_across_passes_and_zero_reaches_zero(keep):
    (maps,) = keep(np.full((1, 5, 4, 4), 1.5, np.float32), (8, 8), memory=1)
    assert (Result(vocabulary_of([0.9, 0.5, 0.5, 0.5, 0.5]), maps, (8, 8)).label_map == 2).all()
    (maps,) = keep(np.full((1, 3, 4, 4), -np.inf, np.float32), (8, 8))
    result = Result(vocabulary_of([0.5, 0.0, 0.0]), maps, (8, 8))
    assert (result.label_map == 2).all() and (result.confidence == 0).all() and result.present == (1, 2)


def test_many_labels_are_taken_in_parts_that_keep_to_the_memory(keep, onnx, monkeypatch):
    size, labels, taken, run = (30, 40), 203, [], onnx.run
    monkeypatch.setattr(onnx, "run", lambda graph, inputs: taken.append((graph, inputs)) or run(graph, inputs))
    memory = 16 * size[0] * size[1] * 2 * 10  # ten labels of two frames
    vocabulary = vocabulary_of(np.random.default_rng(1).uniform(0.2, 1, labels))
    for maps in keep(random_logits(labels), size, memory):
        there, here = Result(vocabulary, maps, size), Result(vocabulary, maps.numpy(), size)
        assert assert_same(there, here) > 0.8
    runs = [inputs["activations"].shape[1] for graph, inputs in taken if graph == LABEL_MAP]
    assert not runs or (max(runs) == 20 and sum(runs) == 2 * labels)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_an_engine_leaves_the_activations_that_it_else_brings(engine, small_model, exported_small):
    engine = load_engine(small_model if engine == "torch" else exported_small, engine, "cpu")
    text = engine.encode_text([f"label {i}" for i in range(7)])
    frames = [draw_image(seed, *size) for seed, size in enumerate([(64, 64), (90, 120), (64, 64), (33, 200)])]
    kept = engine.device_maps(frames, text)
    engine.device_maps(frames[::-1], text)  # those of one call stay what they are through the next
    for maps, expected in zip(kept, engine.activations(frames, text), strict=True):
        assert maps.shape == expected.shape
        np.testing.assert_allclose(maps.numpy(), expected, atol=1e-4)


def test_what_the_device_has_no_memory_for_comes_to_the_host(exported_small):
    engine, frame = OnnxEngine(exported_small, "cpu", decoder_memory=4 * 64 * 64 * 8), draw_image(0, 64, 64)
    text = np.random.default_rng(0).normal(size=(9, 48)).astype(np.float32)
    assert not isinstance(engine.device_maps([frame], text[:8])[0], np.ndarray)
    (maps,) = engine.device_maps([frame], text)
    np.testing.assert_array_equal(maps, engine.activations([frame], text)[0])


def test_a_segmenter_on_a_gpu_brings_down_only_what_is_asked_for(small_model, tmp_path, monkeypatch):
    segmenter = Segmenter(load_engine(small_model, "torch", "cpu"), cache_dir=tmp_path)
    image = draw_image(0, 90, 120)
    segmenter.set_vocabulary(["ball", "grass", "sky"], [0.4, 0.5, 0.6])
    here = segmenter.segment(image)
    segmenter.engine.device = "cuda:0"  # what the Segmenter goes by; the network stays where it is
    downloads = []
    for name in ("download", "activations"):
        come_down = getattr(TorchBatch, name)

        def noting(*given, come_down=come_down):
            found = come_down(*given)
            downloads.append(found.shape)
            return found

        monkeypatch.setattr(TorchBatch, name, noting)
    there, _ = segmenter.segment_batch([image, image])
    assert downloads == []
    assert there.label_map.shape == (90, 120) and downloads == [(90, 120)]
    assert there.confidence.shape == (90, 120) and downloads == [(90, 120)] * 2
    del downloads[:]
    assert there.present and downloads == [(2, 3), (3, 5)]
    np.testing.assert_allclose(there.presence, here.presence, atol=1e-4)
    assert len(downloads) == 2
    del downloads[:]
    np.testing.assert_allclose(there.activations, here.activations, atol=1e-4)
    assert downloads == [here.maps.shape]


def test_refinement_has_its_activations_on_the_host(small_model, tmp_path):
    engine = load_engine(small_model, "torch", "cpu")
    results = []
    for device in ("cpu", "cuda:0"):
        engine.device = device
        segmenter = Segmenter(engine, cache_dir=tmp_path, refine="superpixels")
        segmenter.set_vocabulary(["ball", "grass"])
        results.append(segmenter.segment(draw_image(0, 64, 64)).maps)
    np.testing.assert_array_equal(*results)
