import numpy as np
import pytest
import torch

from synseg_model.checkpoints import save_model
from synseg_model.engines import load_engine
from synseg_model.engines.torch_engine import choose_device


@pytest.fixture
def engine(tmp_path, small_network, small_config):
    return load_engine(save_model(tmp_path / "model", small_network, small_config), "torch", "cpu")


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in ((64, 64, 3), (90, 120, 3), (64, 64, 3))]


def test_batch_of_mixed_sizes_equals_single_calls_in_order(engine, frames):
    text = engine.encode_text(["ball", "grass"])
    together = engine.activations(frames, text)
    for frame, activation in zip(frames, together, strict=True):
        np.testing.assert_allclose(activation, engine.activations([frame], text)[0], atol=1e-5)


def test_activations_equal_the_network_on_a_normalised_image(engine, frames, small_network):
    text = engine.encode_text(["ball", "grass"])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (engine.config.image.mean, engine.config.image.std))
    image = (torch.from_numpy(frames[0]).permute(2, 0, 1) / 255 - mean) / std
    with torch.no_grad():
        expected = small_network(image[None], torch.from_numpy(text))[0].sigmoid().numpy()
    np.testing.assert_allclose(engine.activations(frames[:1], text)[0], expected, atol=1e-5)


def test_logits_of_pictures_of_input_size_are_what_activations_are_made_of(engine, frames):
    text = engine.encode_text(["ball", "grass"])
    logits = engine.logits(np.stack([frames[0], frames[2]]), text)
    assert logits.shape == (2, 2, 64, 64)
    for own, frame in zip(logits, (frames[0], frames[2]), strict=True):
        np.testing.assert_allclose(own.sigmoid().numpy(), engine.activations([frame], text)[0], atol=1e-6)


def test_text_of_many_prompts_equals_single_ones(engine):
    prompts = [f"label number {i}" for i in range(70)]
    many = engine.encode_text(prompts)
    assert many.shape == (70, 48) and many.dtype == np.float32
    np.testing.assert_allclose(many[69], engine.encode_text(prompts[69:])[0], atol=1e-5)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta", ""])
def test_unknown_device_is_refused_with_the_choices(device):
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        choose_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_gpu_is_said():
    with pytest.raises(ValueError, match="0 CUDA device"):
        choose_device("cuda")


def test_unknown_engine_is_refused_with_the_choices(tmp_path):
    with pytest.raises(ValueError, match="'tpu': expected one of auto, torch"):
        load_engine(tmp_path, "tpu")
