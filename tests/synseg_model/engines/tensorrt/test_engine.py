"""The TensorRT engine on a GPU; tests of building, which need none, are in test_tensorrt.py."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from synseg_model import Result, Vocabulary
from synseg_model.engines.load import load_engine
from synseg_model.engines.tensorrt.build import Profile
from synseg_model.engines.tensorrt.cache import EngineCache
from synseg_model.engines.tensorrt.flavour import missing
from synseg_model.export.parity import draw_image

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(missing() is not None, reason=missing() or "")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory, exported_small):
    from synseg_model.engines.tensorrt.engine import TensorRtEngine

    profile = Profile(labels=4, cameras=2, side=640)
    return TensorRtEngine(exported_small, cache=EngineCache(tmp_path_factory.mktemp("cache")), profile=profile)


@pytest.mark.parametrize("labels", [1, 4, 11])
@pytest.mark.parametrize("cameras", [1, 2, 5])
def test_activations_are_onnxruntimes_whatever_passes_they_take(engine, exported_small, labels, cameras):
    reference = load_engine(exported_small, "onnxruntime", "cpu")
    text = reference.encode_text([f"label {i}" for i in range(labels)])
    sizes = [(64, 64), (131, 77), (64, 64), (480, 640), (64, 64)]
    frames = [draw_image(seed, *size) for seed, size in enumerate(sizes[:cameras])]
    for ours, theirs in zip(engine.activations(frames, text), reference.activations(frames, text), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("labels", [1, 4, 11])
def test_label_maps_and_masks_made_on_the_gpu_are_the_hosts(engine, labels):
    text = engine.encode_text([f"label {i}" for i in range(labels)])
    frames = [draw_image(seed, *size) for seed, size in enumerate([(64, 64), (131, 77), (64, 64), (480, 640)])]
    kept = engine.device_maps(frames, text)
    engine.device_maps(frames[::-1], text)  # those of one call stay what they are through the next
    thresholds = [np.median(maps.numpy(), axis=(1, 2)) for maps in kept]
    for maps, limits, frame in zip(kept, thresholds, frames, strict=True):
        vocabulary = Vocabulary(tuple(map(str, range(labels))), limits, text, engine.fingerprint)
        there, here = (Result(vocabulary, each, frame.shape[:2]) for each in (maps, maps.numpy()))
        assert 0 < here.masks.mean() < 1
        assert (there.label_map == here.label_map).mean() > 0.98
        assert (there.masks == here.masks).mean() > 0.98
        assert there.present == here.present
        for index in here.present:
            assert there.area(index) == there.mask(index).sum()
            assert there.score(index) == pytest.approx(here.score(index), abs=1e-3)
        same = there.label_map == here.label_map
        np.testing.assert_allclose(there.confidence[same], here.confidence[same], atol=1e-3)


def test_a_frame_larger_than_the_profile_is_refused_with_the_limit(engine):
    with pytest.raises(ValueError, match="takes sides up to 640"):
        engine.activations([np.zeros((10, 641, 3), np.uint8)], engine.encode_text(["ball"]))


def test_what_the_cache_lacks_is_built_beside_and_then_taken(exported_small):
    engine = load_engine(exported_small, "tensorrt", build_beside=True)
    assert engine.name == "onnxruntime"
    frame, text = draw_image(0, 480, 640), engine.encode_text(["ball", "grass"])
    before = engine.activations([frame], text)[0]
    engine.start()
    engine._thread.join()
    assert (engine.name, engine.failure) == ("tensorrt", "")
    np.testing.assert_allclose(engine.activations([frame], text)[0], before, atol=1e-3)
    assert load_engine(exported_small, "tensorrt", build_beside=True).name == "tensorrt"


def test_an_engine_of_another_thread_gives_its_memory_back(exported_small, tmp_path):
    import pycuda.driver as cuda

    from synseg_model.engines.tensorrt.engine import TensorRtEngine

    def run(cache, profile):
        engine = TensorRtEngine(exported_small, cache=cache, profile=profile)
        engine.activations([draw_image(0, 640, 640)], engine.encode_text(["ball"]))
        with engine._gpu:
            free.append(cuda.mem_get_info()[0])
        return engine

    free: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        for _ in range(4):  # let go of on this thread, made on that one
            thread.submit(run, EngineCache(tmp_path), Profile(labels=4, cameras=2, side=640)).result()
    assert free[-1] >= free[1]


def test_a_gpu_that_is_not_there_is_refused(exported_small):
    with pytest.raises(ValueError, match="CUDA device"):
        load_engine(exported_small, "tensorrt", "cuda:99")
