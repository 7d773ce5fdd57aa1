import dataclasses

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from synseg_model import ModelError
from synseg_model.cli.main import main
from synseg_model.config import EncoderConfig, ImageConfig, ModelConfig
from synseg_model.engines import torch as torch_engine
from synseg_model.engines.load import load_engine
from synseg_model.export import folder as export
from synseg_model.export.compact import restore
from synseg_model.export.float16 import to_half
from synseg_model.export.folder import export_model
from synseg_model.export.parity import LARGEST_DIFFERENCE, check_parity, draw_image
from synseg_model.network import postprocess as on_device
from synseg_model.network.clip_encoder import interpolate_position_embedding
from synseg_model.network.synseg import SynSeg
from synseg_model.preprocess import resize_frame, resize_positions
from synseg_model.vocabulary import prompt
from synseg_model.weights.exported_folder import DECODER, IMAGE_ENCODER, TEXT_ENCODER, Export
from synseg_model.weights.find import find_twin
from synseg_model.weights.model_folder import load_model, save_model
from training.scenes.scenes import make_scene

NOUNS = ("ball", "car", "grass", "sky", "house", "star", "water", "tree", "cube", "road")
COLORS = ("red", "green", "blue", "yellow", "")
FIFTY = [f"{color} {noun}".strip() for color in COLORS for noun in NOUNS]


@pytest.fixture(scope="module")
def tiny(exported_tiny):
    return load_both("synseg-tiny", exported_tiny)


@pytest.fixture(scope="module")
def vit_b16(make_once, make_graphs_once):
    config = ModelConfig("random", EncoderConfig("ViT-B-16-quickgelu", included=True), image=ImageConfig(224, "area"))

    def fill(folder):
        torch.manual_seed(0)
        save_model(folder / "model", SynSeg.from_config(config), config, torch.float16)
        network, fingerprint = load_model(folder / "model")
        graphs = make_graphs_once(network)
        for precision in export.PRECISIONS:  # without the parity report, as the tests compare themselves
            exported = folder / precision
            exported.mkdir()
            export.write_folder(network, exported, precision, fingerprint, graphs)

    folder = make_once("vit_b16", fill)
    return load_both(folder / "model", folder)


def load_both(model, folder):
    """Load a model and its exports in both precisions; returns engines: torch, twice onnxruntime, twice openvino."""
    names = export.PRECISIONS
    engines = [load_engine(folder / name, engine, "cpu") for engine in ("onnxruntime", "openvino") for name in names]
    return load_engine(model, "torch", "cpu"), *engines


def assert_parity(engines, frames, labels, largest=LARGEST_DIFFERENCE["fp32"]):
    """Compare engines from images and prompts to activations and masks; largest: difference that fp32 may have."""
    template = engines[0].config.templates[0]
    prompts = [prompt(template, label) for label in labels]
    maps, *others = (np.stack(each.activations(frames, each.encode_text(prompts))) for each in engines)
    threshold = engines[0].config.threshold
    assert maps.shape[:2] == (len(frames), len(labels))
    for engine, found in zip(engines[1:], others, strict=True):
        assert found.shape == maps.shape
        difference = np.abs(found - maps)
        if Export.read(engine.folder).precision == "fp32":
            assert difference.max() < largest and np.sqrt(np.mean(np.square(difference))) < 1e-5
            assert np.quantile(difference, 0.9999) < 1e-4
        both, either = (
            np.count_nonzero(f(found >= threshold, maps >= threshold)) for f in (np.logical_and, np.logical_or)
        )
        assert both >= 0.99 * either
        assert np.quantile(difference, 0.999) < 0.05  # where no mask is, none can differ


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "labels"), [(1, 1), (1, 7), (1, 50), (3, 1), (3, 7), (3, 20)])
@pytest.mark.parametrize("size", [(251, 333), (97, 61), (192, 192)])
def test_synseg_tiny_agrees_with_torch(tiny, size, batch, labels):
    scenes = [make_scene(seed, size) for seed in range(batch)]
    present = [label for scene in scenes for label in scene.labels]  # masks of a few pixels would say little
    chosen = list(dict.fromkeys([*present, *FIFTY]))[:labels]
    assert_parity(tiny, [scene.image for scene in scenes], chosen, 5e-4)  # on steep edges


@pytest.mark.slow
@pytest.mark.parametrize(("size", "batch", "labels"), [((481, 639), 1, 50), ((200, 99), 3, 7), ((224, 224), 3, 1)])
def test_vit_b16_agrees_with_torch(vit_b16, size, batch, labels):
    assert_parity(vit_b16, [draw_image(seed, *size) for seed in range(batch)], FIFTY[:labels])


@pytest.mark.parametrize("labels", [1, 7])
@pytest.mark.parametrize("size", [(64, 64), (131, 77), (21, 300)])
def test_a_plain_head_and_a_block_before_film_agree_with_torch(exported_small, small_model, size, labels):
    engines = load_engine(small_model, "torch", "cpu"), load_engine(exported_small, device="cpu")
    frames = [draw_image(seed, *size) for seed in range(2)]
    ours, theirs = (np.stack(e.activations(frames, e.encode_text(FIFTY[:labels]))) for e in engines)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "target"),
    [((480, 640), (168, 224)), ((251, 333), (160, 216)), ((97, 61), (192, 128)), ((50, 400), (64, 256)),
     ((8, 8), (8, 8))],
)  # fmt: skip
def test_the_graphs_resize_is_the_hosts(size, target):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = ImageConfig(size=1)
    object.__setattr__(image, "input_size", lambda *_: target)
    ours = on_device.resize(torch.from_numpy(frame).permute(2, 0, 1).float(), *target)
    np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), resize_frame(frame, image, 8), atol=1e-3)


@pytest.mark.parametrize("grid", [(16, 16), (21, 28), (4, 40), (7, 9)])
def test_position_embeddings_resampled_by_numpy_are_torchs(grid):
    positions = torch.randn(1 + 16 * 16, 32, generator=torch.Generator().manual_seed(0))
    expected = interpolate_position_embedding(positions, (16, 16), grid)[1:].view(*grid, 32)
    ours = resize_positions(positions[1:].view(16, 16, 32).numpy(), *grid)
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)


def test_graphs_have_the_inputs_and_dynamic_sizes_that_they_promise(exported_small):
    def sizes(name):
        graph = onnx.load(exported_small / name).graph
        return {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in [*graph.input, *graph.output]
        }

    encoder, decoder = sizes(IMAGE_ENCODER), sizes(DECODER)
    assert encoder["frames"] == ["batch", "height", "width", 3]
    assert encoder["positions"] == ["rows", "columns", 64]
    # Two of three states: the block before FiLM has taken one in.
    assert encoder["features"] == decoder["features"] == [2, "batch", "rows", "columns", 16]
    assert decoder["text"] == ["labels", 48]
    assert decoder["activations"] == ["batch", "labels", "16*rows", "16*columns"]
    assert sizes(TEXT_ENCODER) == {"tokens": ["texts", "length"], "embeddings": ["texts", 48]}


def test_an_export_leaves_its_report_and_nothing_else(exported_small, small_model):
    found = Export.read(exported_small)
    assert found.fingerprint == load_engine(small_model, "torch", "cpu").fingerprint
    assert found.precision == "fp32" and found.patch == 16
    assert found.parity["max_difference"] < 1e-4 and found.parity["mask_iou"] > 0.999
    assert {path.name for path in exported_small.iterdir()} == {*found.files, "config.json", "export.json"}
    assert [path.name for path in exported_small.parent.iterdir()] == [exported_small.name]


def test_graphs_that_disagree_with_torch_are_refused_and_leave_nothing(
    tmp_path, small_model, small_graphs, monkeypatch
):
    def shrink_otherwise(frame, image, patch):
        height, width = image.input_size(*frame.shape[:2], patch)
        return cv2.resize(frame.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)

    monkeypatch.setattr(torch_engine, "resize_frame", shrink_otherwise)
    with pytest.raises(ModelError, match="disagree with torch: max difference is"):
        export_model(small_model, tmp_path / "deep" / "exported", graphs=small_graphs)
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "precision"),
    [("max_difference", 2e-4, "fp32"), ("max_difference", np.nan, "fp16"), ("mask_iou", 0.98, "fp16"),
     ("text_difference", 0.01, "fp16")],
)  # fmt: skip
def test_each_figure_of_the_parity_report_can_refuse(name, value, precision):
    good = {"max_difference": 0.0, "rms_difference": 0.0, "mask_iou": 1.0, "text_difference": 0.0}
    good["fp32_rounding"] = 0.0
    check_parity(good, precision)
    with pytest.raises(ModelError, match=name.split("_")[0]):
        check_parity(good | {"rms_difference": 1e-5, name: value}, precision)


def test_single_pixels_may_differ_more_where_all_of_them_say_that_it_is_rounding():
    report = {"max_difference": 3e-4, "rms_difference": 1e-6, "mask_iou": 1.0, "text_difference": 0.0}
    check_parity(report | {"fp32_rounding": 1.01e-7}, "fp32")
    with pytest.raises(ModelError, match=r"max difference is 0\.0003, at most 0\.0001 is accepted"):
        check_parity(report | {"fp32_rounding": 0.99e-7}, "fp32")
    with pytest.raises(ModelError, match=r"max difference is 0\.0011, at most 0\.001 is accepted"):
        check_parity(report | {"max_difference": 1.1e-3, "fp32_rounding": 1e-6}, "fp32")


def test_an_earlier_export_is_replaced_and_anything_else_is_kept(tmp_path, small_model, monkeypatch):
    def write_nothing(*_):
        raise ModelError("reached the writing")

    monkeypatch.setattr(export, "write_folder", write_nothing)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="holds files that are not an export"):
        export_model(small_model, tmp_path / "notes")
    (tmp_path / "notes" / "export.json").write_text("{}")
    with pytest.raises(ModelError, match="reached the writing"):
        export_model(small_model, tmp_path / "notes")
    assert (tmp_path / "notes" / "thesis.txt").exists()


def test_an_exported_folder_or_another_precision_is_refused(tmp_path, exported_small):
    with pytest.raises(ModelError, match="is an exported folder already"):
        export_model(exported_small, tmp_path / "again")
    with pytest.raises(ValueError, match="'int8': expected one of fp32, fp16"):
        export_model("synseg-tiny", tmp_path / "again", "int8")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    assert main(["export", "no-such-model", "--output", str(tmp_path / "exported")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("synseg: no model 'no-such-model'") and error.count("\n") == 1


@pytest.mark.usefixtures("small_graphs_at_hand")
def test_the_command_exports_over_an_earlier_export(tmp_path, small_model, capsys):
    (tmp_path / "export.json").write_text("{}")
    assert main(["export", str(small_model), "--output", str(tmp_path), "--precision", "fp16"]) == 0
    assert "max difference" in capsys.readouterr().out
    assert Export.read(tmp_path).precision == "fp16"
    assert len(load_engine(tmp_path, device="cpu").encode_text(["ball"])) == 1


def test_half_precision_leaves_norms_softmax_and_the_graphs_ends_in_float32():
    rng = np.random.default_rng(0)
    weight, scale = rng.normal(size=(8, 8)).astype(np.float32), np.ones(8, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["projected"]),
        helper.make_node("LayerNormalization", ["projected", "scale"], ["normed"]),
        helper.make_node("Softmax", ["normed"], ["soft"]),
        helper.make_node("Add", ["soft", "projected"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(scale, "scale")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights)
    half = to_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    onnx.checker.check_model(half, full_check=True)
    types = precisions(half)
    assert types["MatMul"] == types["Add"] == {TensorProto.FLOAT16}
    assert types["LayerNormalization"] == types["Softmax"] == {TensorProto.FLOAT}
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


@pytest.mark.slow
def test_half_precision_halves_all_weights_but_the_text_encoders_and_the_norms(tiny):
    folder = tiny[2].folder
    for name in (IMAGE_ENCODER, DECODER):
        types = precisions(onnx.load(folder / name))
        assert types["LayerNormalization"] == types["Softmax"] == {TensorProto.FLOAT}
        assert types["Conv"] == {TensorProto.FLOAT16}
    assert (folder / TEXT_ENCODER).read_bytes() == (tiny[1].folder / TEXT_ENCODER).read_bytes()
    whole = restore(onnx.load(tiny[1].folder / IMAGE_ENCODER))  # synseg-tiny's weights are stored in half as they are
    assert (folder / IMAGE_ENCODER).stat().st_size < 0.6 * whole.ByteSize()


def precisions(model):
    """Tell the floating-point types that each kind of node reads."""
    model = onnx.shape_inference.infer_shapes(model)
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        read = {types[name] for name in node.input} & {TensorProto.FLOAT, TensorProto.FLOAT16}
        found.setdefault(node.op_type, set()).update(read)
    return found


def test_a_text_tower_unlike_clips_is_refused(small_config, small_network):
    network = SynSeg(small_network.encoder, dataclasses.replace(small_config))
    network.encoder.clip.text_pool_type = "first"
    with pytest.raises(ModelError, match="causal and read at its end mark"):
        export.make_graphs(network)


@pytest.mark.parametrize("folder", ["small", "shipped"])
def test_graphs_tell_nothing_of_the_machine_that_exported_them(folder, exported_small):
    place = exported_small if folder == "small" else find_twin("synseg-everyday")
    graphs = list(place.glob("*.onnx"))
    assert len(graphs) == 5
    for graph in graphs:
        content = graph.read_bytes()
        assert b"site-packages" not in content and b"stack_trace" not in content and b'File "' not in content
