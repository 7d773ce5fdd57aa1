"""Models whose image encoder is a backbone with feature levels, in every engine, and their export."""

import dataclasses
import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from timm.layers import Conv2dSame
from torch.nn import functional as F

from synseg_model import ModelError, Result, Segmenter, Vocabulary
from synseg_model.config import CONFIG_FILE, WEIGHTS_FILE, ModelConfig
from synseg_model.engines import openvino as openvino_engine
from synseg_model.engines.load import load_engine
from synseg_model.engines.onnxruntime import OnnxEngine
from synseg_model.engines.tensorrt.build import Profile
from synseg_model.export.conv_graphs import make_conv_graphs, pad_evenly
from synseg_model.export.folder import export_model
from synseg_model.export.graphs import make_graphs
from synseg_model.export.parity import draw_image
from synseg_model.network.conv_encoder import build_backbone
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.description import describe
from synseg_model.weights.exported_folder import DECODER, GPU_GRAPHS, IMAGE_ENCODER, Export
from synseg_model.weights.model_folder import load_model, save_model
from synseg_model.weights.tensors import fingerprint

ENGINES = ("torch", "onnxruntime", "openvino")
LABELS = ("ball", "grass", "sky", "a house", "road", "tree", "dog")
SIZES = ((131, 77), (90, 120), (131, 77), (21, 300))


@pytest.fixture
def load(levels_model, exported_levels):
    """Load an engine by name."""

    def load(name, **options):
        return load_engine(levels_model if name == "torch" else exported_levels, name, "cpu", **options)

    return load


@pytest.fixture
def network(levels_model):
    return load_model(levels_model)[0]


@pytest.fixture
def frames():
    return [draw_image(seed, *size) for seed, size in enumerate(SIZES)]


def embed(engine, labels=LABELS):
    text = engine.encode_text(list(labels))
    return text / np.linalg.norm(text, axis=1, keepdims=True)


def assert_close(engines, frames, text, **tolerance):
    """Compare all engines with the first; returns its maps."""
    maps, *others = (engine.activations(frames, text) for engine in engines)
    for found in others:
        for ours, theirs in zip(maps, found, strict=True):
            np.testing.assert_allclose(theirs, ours, **tolerance)
    return maps


@pytest.mark.parametrize("labels", [1, 7])
def test_all_engines_agree_on_text_and_on_images_of_any_shape(load, frames, labels):
    engines = [load(name) for name in ENGINES]
    text = embed(engines[0], LABELS[:labels])
    for engine in engines[1:]:
        np.testing.assert_allclose(embed(engine, LABELS[:labels]), text, atol=1e-5)
    for maps, frame in zip(assert_close(engines, frames, text, atol=1e-4), frames, strict=True):
        height, width = engines[0].config.image.input_size(*frame.shape[:2], 32)
        assert maps.shape == (labels, height // 4, width // 4)
        assert maps.std() > 0.01


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_of_mixed_sizes_equals_single_calls_in_order(load, frames, name):
    engine = load(name)
    text = embed(engine)
    for frame, maps in zip(frames, engine.activations(frames, text), strict=True):
        np.testing.assert_allclose(maps, engine.activations([frame], text)[0], atol=1e-5)


def test_sizes_that_come_again_are_compiled_for_and_give_the_same(load, frames, monkeypatch):
    monkeypatch.setattr(openvino_engine, "KEPT_SHAPES", 2)
    engine = load("openvino")
    text = embed(engine)
    first = [engine.activations([frame], text)[0] for frame in frames]
    compiled = []
    for graph in engine._graphs.values():
        graph._compile_for = lambda shapes, of=graph._compile_for: compiled.append(shapes) or of(shapes)
    for _ in range(3):
        for frame, expected in zip(frames, first, strict=True):  # three sizes, of which two are kept
            for _ in range(3):
                np.testing.assert_allclose(engine.activations([frame], text)[0], expected, atol=1e-5)
    assert len(compiled) >= 6
    assert all(len(graph._fixed) == 2 for graph in engine._graphs.values())


@pytest.mark.parametrize("name", ENGINES)
def test_labels_that_are_not_kept_are_skipped_and_the_others_unchanged(load, frames, name):
    every, some = load(name), load(name, keep_labels=3)
    text = embed(every)
    for whole, kept in zip(every.activations(frames, text), some.activations(frames, text), strict=True):
        seen = [label for label in range(len(LABELS)) if kept[label].max() > 1e-6]
        assert len(seen) == 3
        np.testing.assert_allclose(kept[seen], whole[seen], atol=1e-5)


def test_all_engines_keep_the_labels_that_are_most_active_at_half_the_strides(load, frames):
    engines = [load(name, keep_labels=3) for name in ENGINES]
    assert_close(engines, frames, embed(engines[0]), atol=1e-4)


def test_many_labels_are_decoded_in_passes_within_the_memory_budget(exported_levels, network):
    text = np.random.default_rng(0).normal(size=(301, 24)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    frames = [draw_image(0, 96, 160)] * 2
    whole = OnnxEngine(exported_levels, "cpu", decoder_memory=2**40).activations(frames, text)
    engine, chunks = OnnxEngine(exported_levels, "cpu", decoder_memory=2**23), []
    run = engine.run
    engine.run = lambda graph, inputs: chunks.append(len(inputs.get("text", ()))) or run(graph, inputs)
    maps = engine.activations(frames, text)
    grid = tuple(side // 32 for side in engine.config.image.input_size(96, 160, 32))
    assert sum(chunks) == 301 and len(chunks) > 3
    assert max(chunks) * 2 * network.decoder.bytes_per_label(grid) <= 2**23
    np.testing.assert_allclose(maps[1], whole[1], atol=1e-5)


def test_label_maps_are_those_of_torch_also_refined(load, tmp_path):
    pytest.importorskip("skimage", reason="needs scikit-image: pip install 'synseg[refine]'")
    image = draw_image(0, 131, 177)
    for refine in ("none", "superpixels"):
        label_maps = []
        for name in ENGINES:
            segmenter = Segmenter(load(name), cache_dir=tmp_path, refine=refine)
            segmenter.set_vocabulary(LABELS, [0.0] * len(LABELS))
            label_maps.append(segmenter.segment(image).label_map)
        assert len(np.unique(label_maps[0])) > 1
        assert all((label_maps[0] == other).mean() > 0.99 for other in label_maps[1:])


def test_maps_on_a_device_are_decided_as_on_the_host(load, frames):
    """onnxruntime's device may be the CPU: the way of a GPU, without one."""
    engine = load("onnxruntime")
    text = embed(engine)
    expected = engine.activations(frames, text)
    for maps, own, frame in zip(engine.device_maps(frames, text), expected, frames, strict=True):
        vocabulary = Vocabulary(LABELS, np.median(own, axis=(1, 2)), text, engine.fingerprint)
        ours, theirs = (Result(vocabulary, each, frame.shape[:2]) for each in (maps, own))
        assert maps.shape == own.shape and 0 < theirs.masks.mean() < 1
        assert (ours.label_map == theirs.label_map).mean() > 0.99
        assert ours.area(0) == ours.mask(0).sum()


def test_logits_of_images_of_an_input_size_have_that_size(load, network):
    engine, text = load("torch"), np.float32(np.eye(24)[:3])
    images = np.stack([draw_image(seed, 64, 96) for seed in range(2)])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (engine.config.image.mean, engine.config.image.std))
    with torch.no_grad():
        expected = network((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std, torch.from_numpy(text))
    found = engine.logits(images, text)
    assert found.shape == (2, 3, 64, 96)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_half_precision_is_near(load, frames, name):
    try:
        half = load(name, precision="bf16")
    except ValueError as error:
        pytest.skip(str(error))  # of OpenVINO: this CPU has no bf16
    full = load(name)
    for ours, theirs in zip(*(engine.activations(frames, embed(full)) for engine in (full, half)), strict=True):
        assert 0 < np.abs(ours - theirs).mean() < 0.02


def test_no_attention_means_no_refinement_by_it(load):
    with pytest.raises(ValueError, match="'tf_mobilenetv3_small_minimal_100' has no attention"):
        load("torch").attention(draw_image(0, 64, 64), -1)
    for name in ENGINES:
        with pytest.raises(ValueError, match=r"refine 'sgc' needs CLIP's attention.*choose superpixels"):
            Segmenter(load(name), refine="sgc")


def test_graphs_have_the_inputs_and_dynamic_sizes_that_they_promise(exported_levels):
    def sizes(name):
        graph = onnx.load(exported_levels / name).graph
        return {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in [*graph.input, *graph.output]
        }

    encoder, decoder = sizes(IMAGE_ENCODER), sizes(DECODER)
    assert encoder["frames"] == ["batch", "height", "width", 3]
    assert encoder["positions"] == ["rows", "columns", 24]
    assert encoder["tokens"] == ["batch", "2*rows", "2*columns", 16]
    assert encoder["dense"] == ["batch", "2*rows", "2*columns", 24]
    assert encoder["skip8"] == ["batch", 8, "4*rows", "4*columns"]
    assert encoder["skip4"] == ["batch", 4, "8*rows", "8*columns"]
    assert list(decoder) == ["tokens", "dense", "skip8", "skip4", "text", "activations"]
    assert decoder["activations"] == ["batch", "labels", "rows4", "columns4"]
    assert np.load(exported_levels / "positions.npy").shape == (9, 12, 24)


def test_every_dynamic_size_of_the_graphs_is_limited(exported_levels, levels_config):
    limits = Profile(labels=50, cameras=3, side=1000).limits(levels_config, 32)
    for name in GPU_GRAPHS:
        for value in onnx.load(exported_levels / name).graph.input:
            assert all(dim.dim_value or dim.dim_param in limits for dim in value.type.tensor_type.shape.dim), value
    for height, width in [(480, 640), (1, 1000), (1000, 1), (7, 7)]:
        for axis, side in zip(("rows", "columns"), levels_config.image.input_size(height, width, 32), strict=True):
            map_axis = {"rows": "map_height", "columns": "map_width"}[axis]
            for key, stride in ((axis, 32), (f"token_{axis}", 16), (f"{axis}8", 8), (f"{axis}4", 4), (map_axis, 4)):
                assert limits[key][0] <= side // stride <= limits[key][2]


@pytest.mark.slow
def test_tensorrt_builds_the_graphs(tmp_path, exported_levels):
    pytest.importorskip("tensorrt_rtx", reason="comes for x86-64 Linux only")
    from synseg_model.engines.tensorrt.build import Plans
    from synseg_model.engines.tensorrt.cache import EngineCache
    from synseg_model.engines.tensorrt.flavour import load_flavour

    plans = Plans(exported_levels, load_flavour(), "", Profile(), EngineCache(tmp_path))
    for name in GPU_GRAPHS:
        assert plans.get(name)


def test_half_precision_is_exported(tmp_path, levels_model, exported_levels):
    graphs = {path.name: onnx.load(path) for path in exported_levels.glob("*.onnx")}
    found = export_model(levels_model, tmp_path / "half", "fp16", graphs)
    assert found.parity["mask_iou"] >= 0.99
    assert (tmp_path / "half" / IMAGE_ENCODER).stat().st_size < 0.6 * (exported_levels / IMAGE_ENCODER).stat().st_size
    assert load_engine(tmp_path / "half", "openvino").fingerprint == Export.read(exported_levels).fingerprint


@pytest.mark.slow
def test_a_decoder_without_embeddings_of_tokens_and_presence_is_exported(
    tmp_path, levels_config, network, exported_levels
):
    decoder = dataclasses.replace(levels_config.decoder, dense=False, presence=False, conditional_layer=0)
    config = dataclasses.replace(levels_config, decoder=decoder)
    torch.manual_seed(0)
    other = SynSeg.from_config(config)
    other.encoder.load_state_dict(network.encoder.state_dict())
    save_model(tmp_path / "model", other, config)
    same = {path.name: onnx.load(path) for path in exported_levels.glob("*.onnx")}  # but for the two that are made here
    export_model(tmp_path / "model", tmp_path / "exported", graphs=same | make_conv_graphs(other.eval()))
    graph = onnx.load(tmp_path / "exported" / DECODER).graph
    assert [value.name for value in graph.input] == ["tokens", "skip8", "skip4", "text"]
    engines = [load_engine(tmp_path / "model", "torch", keep_labels=3)]
    engines += [load_engine(tmp_path / "exported", name, "cpu", keep_labels=3) for name in ENGINES[1:]]
    assert_close(engines, [draw_image(0, 90, 120)], embed(engines[0]), atol=1e-4)


def test_a_text_tower_unlike_clips_is_refused(network):
    network.encoder.text.pool_type = "first"
    with pytest.raises(ModelError, match="causal and read at its end mark"):
        make_graphs(network)


@torch.no_grad()
def test_constant_padding_is_timms_for_inputs_that_the_strides_divide():
    image = build_backbone("tf_mobilenetv3_small_minimal_100", (1, 2, 3, 4))
    padded, pixels = pad_evenly(image), torch.randn(1, 3, 64, 96)
    assert any(isinstance(module, Conv2dSame) for module in image.modules())
    for ours, theirs in zip(padded(pixels), image(pixels), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert next(padded.parameters()).data_ptr() == next(image.parameters()).data_ptr(), "weights are shared"


def test_decoding_with_and_without_a_backward_pass_is_the_same(network):
    network.requires_grad_(True)
    images, text = torch.randn(2, 3, 64, 96), F.normalize(torch.randn(3, 24), dim=-1)
    trained = network.maps(images, text)
    with torch.no_grad():
        torch.testing.assert_close(network.maps(images, text), trained, atol=1e-5, rtol=1e-5)
    trained.sum().backward()
    assert network.decoder.head4.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_skips_of_stride_8_see_both_levels(network):
    decoder = network.decoder
    fine, coarse = torch.randn(1, network.encoder.widths[1], 8, 12), torch.randn(1, 24, 4, 6)
    resampled = F.interpolate(coarse, size=(8, 12), mode="bilinear")
    expected = decoder.skip8(torch.cat([fine, resampled], dim=1))
    torch.testing.assert_close(decoder._make_skip8(fine, coarse), expected, atol=1e-5, rtol=1e-5)


def test_info_names_the_backbone(levels_model, exported_levels):
    for folder in (levels_model, exported_levels):
        lines = "\n".join(describe(folder))
        assert "tf_mobilenetv3_small_minimal_100 of timm" in lines and "text tower 1 x 16, 49408 tokens" in lines
        assert "skips of 8 and 4 channels at strides 8 and 4, with dense and presence" in lines
        assert "1, 2, 3, 4 of the backbone" in lines


def test_the_fingerprint_depends_on_the_backbone_and_its_levels(levels_model, levels_config, small_model):
    weights, own = levels_model / WEIGHTS_FILE, load_model(levels_model)[1]
    for change in ({"backbone": "another"}, {"levels": (0, 1, 2, 3)}):
        other = dataclasses.replace(
            levels_config,
            encoder=dataclasses.replace(levels_config.encoder, **change),
            decoder=dataclasses.replace(levels_config.decoder, layers=change.get("levels", (1, 2, 3, 4))),
        )
        assert fingerprint(weights, other) != own
    assert fingerprint(weights, levels_config) == own


def test_a_folder_gives_back_what_was_saved(tmp_path, network, levels_config):
    loaded, _ = load_model(save_model(tmp_path / "model", network, levels_config))
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not any(module.training for module in loaded.encoder.modules())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone": "tf_mobilenetv3_small"}, "no backbone 'tf_mobilenetv3_small': similar: tf_mobilenetv3_small_"),
        ({"backbone": "zzz"}, "no backbone 'zzz': for instance tf_efficientnet_lite0"),
        ({"levels": (1, 2, 3, 9)}, r"levels \[1, 2, 3, 9\]: backbone .* has 0 \(stride 2\).*4 \(stride 32\)"),
        ({"levels": (0, 1, 2, 3)}, r"strides \[2, 4, 8, 16\]: the decoder reads \[4, 8, 16, 32\]"),
        ({"backbone": "mobilenetv3_small_050"}, r"does not fit its config: .*encoder\.image"),
        ({"backbone": None}, "only a backbone has them"),
        ({"included": False}, "must be included in the folder"),
        ({"model": {"text_cfg": {}, "vision_cfg": {}}}, "the text tower beside it"),
        ({"model": {"text_cfg": {"depth": 3}}}, "cannot build the text tower"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_with_what_is_accepted(tmp_path, levels_model, change, said):
    folder = shutil.copytree(levels_model, tmp_path / "model")
    values = dataclasses.asdict(ModelConfig.read(folder))
    values["encoder"] |= change
    values["decoder"]["layers"] = values["encoder"]["levels"]
    (folder / CONFIG_FILE).write_text(json.dumps(values))
    with pytest.raises(ModelError, match=said) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_named(tmp_path, network, levels_config):
    save_model(tmp_path / "model", network, levels_config)
    wider = dataclasses.replace(levels_config, decoder=dataclasses.replace(levels_config.decoder, skips=(8, 6)))
    (tmp_path / "model" / CONFIG_FILE).write_text(wider.to_json())
    with pytest.raises(ModelError, match=r"decoder\.\w+4\.\w+ is \(.*\), expected \("):
        load_model(tmp_path / "model")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{"precision": "fp32"}, {}, {"cuda_graphs": True}])
def test_a_gpu_finds_what_the_cpu_finds(load, levels_model, frames, options):
    here, there = load("torch"), load_engine(levels_model, "torch", "cuda", **options)
    text = embed(here)
    for maps, expected in zip(there.device_maps(frames, text), here.activations(frames, text), strict=True):
        assert np.abs(maps.numpy() - expected).mean() < (1e-4 if "precision" in options else 0.02)
