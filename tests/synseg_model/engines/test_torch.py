import numpy as np
import pytest
import torch

from synseg_model import Result, Vocabulary
from synseg_model.engines.load import load_engine
from synseg_model.engines.torch import choose_device
from synseg_model.weights.model_folder import save_model
from training.scenes.scenes import BASE_NOUNS, NOUNS, STUFF, make_scene


@pytest.fixture
def engine(tmp_path, small_network, small_config):
    return load_engine(save_model(tmp_path / "model", small_network, small_config), "torch", "cpu")


@pytest.fixture(params=["torch", "onnxruntime", "openvino"])
def engines_of(request, small_model, exported_small):
    model = small_model if request.param == "torch" else exported_small
    return lambda kept: load_engine(model, request.param, "cpu", keep_labels=kept)


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


def test_logits_of_images_of_input_size_are_what_activations_are_made_of(engine, frames):
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


@pytest.mark.slow
def test_masks_of_synseg_tiny_are_in_bf16_what_they_are_in_fp32():
    engines = [load_engine("synseg-tiny", "torch", "cpu", precision=name) for name in ("fp32", "bf16")]
    scenes = [make_scene(seed, (240, 320)).image for seed in range(4)]
    text = engines[0].encode_text([f"a {noun}" for noun in (*NOUNS, *STUFF)])
    full, half = (np.stack(engine.activations(scenes, text)) for engine in engines)
    masks = [maps >= engines[0].config.threshold for maps in (full, half)]
    assert (masks[0] & masks[1]).sum() > 0.99 * (masks[0] | masks[1]).sum() > 1e5
    assert not np.array_equal(full, half)  # another arithmetic


@pytest.mark.parametrize(
    ("precision", "said"), [("int8", "expected auto, fp64, fp32, bf16, fp16"), ("fp16", "slow on a CPU")]
)
def test_a_precision_that_there_is_not_is_refused(precision, said):
    with pytest.raises(ValueError, match=said):
        load_engine("synseg-tiny", "torch", "cpu", precision=precision)


def test_labels_that_are_not_kept_are_skipped_and_the_others_unchanged(engines_of, frames):
    every, some = engines_of(0), engines_of(2)
    text = every.encode_text(["ball", "grass", "sky", "a house"])
    for whole, kept in zip(every.activations(frames, text), some.activations(frames, text), strict=True):
        seen = [label for label in range(4) if kept[label].max() > 1e-6]
        assert len(seen) == 2
        np.testing.assert_allclose(kept[seen], whole[seen], atol=1e-5)


def test_all_engines_keep_the_labels_that_are_most_active_at_a_quarter_of_the_tokens(
    small_model, exported_small, frames, small_network
):
    names = ("torch", "onnxruntime", "openvino")
    models = (small_model, exported_small, exported_small)
    engines = [load_engine(model, name, "cpu", keep_labels=3) for name, model in zip(names, models, strict=True)]
    text = engines[0].encode_text([f"thing {i}" for i in range(12)])
    size = engines[0].config.image.input_size(*frames[1].shape[:2], small_network.encoder.patch)
    grid = tuple(side // small_network.encoder.patch for side in size)
    assert any(side % 2 for side in grid)
    for frame in frames:
        maps = [engine.activations([frame], text)[0] for engine in engines]
        for other in maps[1:]:
            np.testing.assert_allclose(maps[0], other, atol=1e-4)
        assert (maps[0].max(axis=(1, 2)) > 1e-6).sum() == 3
    for engine in engines[1:]:
        together = engine.activations(frames, text)
        np.testing.assert_allclose(together[1], engine.activations(frames[1:2], text)[0], atol=1e-5)


@torch.no_grad()
def test_a_coarse_look_at_tokens_that_are_alike_is_the_full_one(small_network):
    grid, text = (3, 5), torch.randn(4, 48)
    reduced = [
        torch.randn(2, 1, tokens.shape[2]).expand(2, 16, -1)
        for tokens in small_network.encode_image(torch.randn(2, 3, 48, 80))
    ]
    coarse = small_network.decoder.coarsen(reduced, grid)
    for tokens, averaged in zip(reduced, coarse, strict=True):
        torch.testing.assert_close(averaged, tokens[:, : 1 + 2 * 3])
    torch.testing.assert_close(
        small_network.peaks(reduced, text, grid), small_network.decode(coarse, text, (2, 3)).amax(dim=(2, 3))
    )


def test_most_labels_that_are_in_a_image_are_kept():
    labels = [*BASE_NOUNS, *STUFF]
    engine = load_engine("synseg-tiny", "torch", "cpu", keep_labels=12)
    text = engine.encode_text([f"a {label}" for label in labels])
    found = []
    for seed in range(6):
        scene = make_scene(2_000_000_000 + seed, (240, 320), "base", (1, 5))
        kept = np.flatnonzero(engine.activations([scene.image], text)[0].max(axis=(1, 2)) > 1e-6)
        shown = [s.noun for s, area in zip(scene.segments, scene.areas, strict=True) if area > 100]
        found += [labels.index(noun) in kept for noun in shown]
    assert len(found) > 15 and np.mean(found) > 0.85


def test_no_more_labels_than_are_kept_are_all_decoded(small_model, frames):
    text = load_engine(small_model, "torch", "cpu").encode_text(["ball", "grass"])
    every, some = (load_engine(small_model, "torch", "cpu", keep_labels=n).activations(frames, text) for n in (0, 2))
    for whole, kept in zip(every, some, strict=True):
        np.testing.assert_array_equal(kept, whole)


def test_options_that_an_engine_does_not_have_are_refused(small_model, exported_small):
    with pytest.raises(ValueError, match="compile, precision: the engine onnxruntime has no such option"):
        load_engine(exported_small, "onnxruntime", "cpu", keep_labels=3, compile=True, precision="bf16")
    with pytest.raises(ValueError, match="cuda_graphs: the engine openvino has no such option"):
        load_engine(exported_small, "openvino", "cpu", keep_labels=3, cuda_graphs=True, precision="fp32")
    with pytest.raises(ValueError, match="keep_labels: the engine tensorrt has no such option"):
        load_engine(exported_small, "tensorrt", "cpu", keep_labels=3)
    for model in (small_model, exported_small):
        with pytest.raises(ValueError, match="keep_labels -1"):
            load_engine(model, "auto", "cpu", keep_labels=-1)
    with pytest.raises(ValueError, match="they need a GPU"):
        load_engine(small_model, "torch", "cpu", cuda_graphs=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_passes_give_what_passes_give(small_model, frames):
    plain, recorded = (load_engine(small_model, "torch", "cuda", cuda_graphs=graphs) for graphs in (False, True))
    text = plain.encode_text(["ball", "grass", "sky"])
    for labels in (3, 1, 3):
        maps = zip(*(each.activations(frames, text[:labels]) for each in (plain, recorded)), strict=True)
        for ours, theirs in maps:
            np.testing.assert_allclose(theirs, ours, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_on_a_gpu_frames_are_resized_and_decided_as_on_the_host(small_model, frames, cuda_graphs):
    here = load_engine(small_model, "torch", "cpu")
    there = load_engine(small_model, "torch", "cuda", precision="fp32", cuda_graphs=cuda_graphs)
    text = here.encode_text(["ball", "grass", "sky"])
    kept = there.device_maps(frames, text)
    there.device_maps(frames[::-1], text)  # those of one call stay what they are through the next
    for maps, expected, frame in zip(kept, here.activations(frames, text), frames, strict=True):
        np.testing.assert_allclose(maps.numpy(), expected, atol=1e-3)
        vocabulary = Vocabulary(("ball", "grass", "sky"), np.median(expected, axis=(1, 2)), text, here.fingerprint)
        ours, theirs = (Result(vocabulary, each, frame.shape[:2]) for each in (maps, maps.numpy()))
        assert 0 < theirs.masks.mean() < 1
        assert (ours.label_map == theirs.label_map).mean() > 0.98
        assert (ours.masks == theirs.masks).mean() > 0.98
        assert ours.area(0) == ours.mask(0).sum()
