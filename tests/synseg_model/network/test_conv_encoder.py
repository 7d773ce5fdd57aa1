"""The convolutional encoder: its levels, its weights, and what cannot be built."""

import pytest
import timm
import torch
from open_clip.transformer import TextTransformer

from synseg_model.config import EncoderConfig, ModelError
from synseg_model.network.conv_encoder import ConvEncoder, build_backbone, build_conv_encoder, load_packaged_weights

NAME, LEVELS = "test_efficientnet", (1, 2, 3, 4)  # 82,300 weights
TOWER = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "output_dim": 12}


def config(**changes):
    values = {"model": {"text_cfg": TOWER}, "included": True, "backbone": NAME, "levels": LEVELS}
    return EncoderConfig(**values | changes)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build_conv_encoder(config())


@pytest.mark.parametrize("size", [(64, 64), (32, 160), (96, 64)])
def test_levels_have_the_strides_4_8_16_and_32(encoder, size):
    levels = encoder.hidden_states(torch.randn(2, 3, *size))
    assert [tuple(level.shape) for level in levels] == [
        (2, width, size[0] // stride, size[1] // stride)
        for width, stride in zip(encoder.widths, (4, 8, 16, 32), strict=True)
    ]
    assert encoder.patch == 32 and encoder.text_width == 12


def test_sides_that_are_no_multiples_of_the_patch_are_refused_with_the_nearest_that_are(encoder):
    with pytest.raises(ValueError, match=r"images of 100x20 px: .* multiples of 32, for instance 96x32"):
        encoder.hidden_states(torch.zeros(1, 3, 100, 20))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 0, 64)])
def test_what_is_no_batch_of_images_is_refused(encoder, shape):
    with pytest.raises(ValueError, match=r"expected \(B,3,H,W\)"):
        encoder.hidden_states(torch.zeros(shape))


def test_batch_statistics_are_never_updated(encoder):
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder.train()
    encoder.hidden_states(torch.randn(2, 3, 64, 64))
    assert not any(module.training for module in encoder.image.modules())
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


def test_texts_are_embedded_as_open_clips_own_tower_does(encoder):
    tokens = encoder.tokenize(["a red ball", "dog", ""])
    assert tokens.shape == (3, 8) and encoder.count_tokens("dog") == 3
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_text(tokens), encoder.text(tokens))


def test_building_does_not_move_the_callers_random_numbers():
    torch.manual_seed(0)
    build_backbone(NAME, LEVELS)
    moved = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(moved, torch.rand(3))


@pytest.mark.parametrize(
    ("name", "levels", "reason"),
    [
        ("tf_eficientnet_lite0", LEVELS, "has no backbone 'tf_eficientnet_lite0': similar: tf_efficientnet_lite0"),
        ("zzzzzzzz", LEVELS, "for instance tf_efficientnet_lite0"),
        (NAME, (1, 2, 3, 9), r"levels \[1, 2, 3, 9\]: backbone 'test_efficientnet' has 0 \(stride 2\), 1 \(stride 4\)"),
        (NAME, (), r"levels \[\]: backbone"),
        (NAME, (-1, 1), r"levels \[-1, 1\]"),
        ("test_vit_relpos_nowhere", LEVELS, "similar: test_vit_relpos"),
    ],
)
def test_backbones_and_levels_that_are_not_there_are_named_with_those_that_are(name, levels, reason):
    with pytest.raises(ModelError, match=reason):
        build_backbone(name, levels)


def test_weights_that_timm_does_not_have_are_an_error_that_says_so():
    assert not timm.get_pretrained_cfg("test_coatnet").has_weights
    with pytest.raises(ModelError, match="timm has no weights of 'test_coatnet' or cannot fetch them"):
        build_backbone("test_coatnet", LEVELS, pretrained=True)


def test_levels_of_other_strides_are_refused():
    with pytest.raises(ModelError, match=r"strides \[2, 4, 8, 16\]: the decoder reads \[4, 8, 16, 32\]"):
        ConvEncoder(build_backbone(NAME, (0, 1, 2, 3)), TextTransformer(**TOWER))


def test_a_text_tower_that_cannot_be_built_is_named():
    with pytest.raises(ModelError, match=r"open_clip cannot build the text tower .*hight"):
        build_conv_encoder(config(model={"text_cfg": {**TOWER, "hight": 3}}))
    with pytest.raises(ModelError, match="the tokenizer has 49408 tokens, the text tower 100"):
        build_conv_encoder(config(model={"text_cfg": {**TOWER, "vocab_size": 100}}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backbone": None}, r"levels \[1, 2, 3, 4\]: only a backbone has them"),
        ({"model": "ViT-B-16"}, "a backbone needs"),
        ({"included": False}, "weights must be included"),
    ],
)
def test_configs_of_a_backbone_that_contradict_themselves_are_refused(changes, reason):
    with pytest.raises(ModelError, match=reason):
        config(**changes)


@pytest.fixture
def packaged(tmp_path):
    """A file of a whole classifier's weights under names of its own, in timm's order; and the classifier."""
    torch.manual_seed(1)
    whole = timm.create_model(NAME)
    state = {f"layer{i}.x": value for i, value in enumerate(whole.state_dict().values())}
    torch.save(state, tmp_path / "weights.pth")
    return tmp_path / "weights.pth", whole, state


def test_packaged_weights_fill_a_backbone_by_their_order(packaged):
    path, whole, _ = packaged
    image = build_backbone(NAME, LEVELS)
    load_packaged_weights(image, path)
    own, expected = image.state_dict(), whole.state_dict()
    assert len(own) < len(expected), "the classifier's head is dropped"
    assert all(torch.equal(value, expected[name]) for name, value in own.items())


def test_packaged_weights_of_another_shape_are_refused(packaged):
    path, _, state = packaged
    reason = r"weights\.pth does not fit: tensor 0 is \(24, 3, 3, 3\), conv_stem\.weight is \(32, 3, 3, 3\)"
    with pytest.raises(ModelError, match=reason):
        load_packaged_weights(build_backbone("tf_efficientnet_lite0", LEVELS), _shortened(path, state, len(state), 9))
    with pytest.raises(ModelError, match=r"holds 5 tensors: this backbone has \d+"):
        load_packaged_weights(build_backbone(NAME, LEVELS), _shortened(path, state, 5))


def _shortened(path, state, count, times=1):
    """Write the first tensors of a state, several times over."""
    tensors = list(state.values())[:count] * times
    torch.save({str(i): tensor for i, tensor in enumerate(tensors)}, path)
    return path


@pytest.mark.parametrize("content", [None, b"", b"no weights", {"step": 3}, [1, 2]])
def test_files_that_are_no_packaged_weights_are_named(tmp_path, content):
    path = tmp_path / "other.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ModelError, match=r"other\.pth"):
        load_packaged_weights(build_backbone(NAME, LEVELS), path)
