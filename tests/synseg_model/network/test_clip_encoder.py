import copy

import open_clip
import pytest
import torch

from synseg_model.config import EncoderConfig, ModelError
from synseg_model.network import clip_encoder
from synseg_model.network.clip_encoder import ClipEncoder, build_encoder, interpolate_position_embedding


@torch.no_grad()
def test_hidden_states_equal_open_clips_own_intermediates(small_network):
    images = torch.randn(2, 3, 64, 64)
    encoder = small_network.encoder
    ours = encoder.hidden_states(images, [0, 2, 3])
    reference = encoder.clip.visual.forward_intermediates(
        images, indices=[0, 2, 3], output_fmt="NLC", output_extra_tokens=True
    )
    for state, patches, prefix in zip(
        ours, reference["image_intermediates"], reference["image_intermediates_prefix"], strict=True
    ):
        torch.testing.assert_close(state, torch.cat([prefix, patches], dim=1))


@torch.no_grad()
def test_blocks_behind_the_last_layer_do_not_run(small_network):
    small_network.encoder.clip.visual.transformer.resblocks[3].register_forward_hook(lambda *_: pytest.fail("ran"))
    small_network.encoder.hidden_states(torch.zeros(1, 3, 64, 64), [0, 2])


@torch.no_grad()
def test_image_embedding_equals_open_clip_at_its_native_size(small_network):
    images = torch.randn(2, 3, 64, 64)
    encoder = small_network.encoder
    torch.testing.assert_close(encoder.image_embedding(images), encoder.clip.encode_image(images))


@torch.no_grad()
def test_text_embedding_without_trailing_padding_equals_open_clip(small_network):
    encoder = small_network.encoder
    tokens = encoder.tokenize(["ball", "a long label with quite a few words, 12 of them or so", "草"])
    torch.testing.assert_close(encoder.encode_text(tokens), encoder.clip.encode_text(tokens), atol=1e-5, rtol=1e-5)


def test_position_embedding_at_its_own_grid_is_untouched():
    embedding = torch.randn(1 + 6, 8)
    assert interpolate_position_embedding(embedding, (2, 3), (2, 3)) is embedding


def test_position_embedding_of_a_linear_ramp_stays_a_ramp_on_a_finer_non_square_grid():
    ramp = torch.arange(8.0).view(8, 1).expand(8, 8).reshape(64, 1)
    embedding = torch.cat([torch.full((1, 1), 7.0), ramp])
    finer = interpolate_position_embedding(embedding, (8, 8), (16, 4))
    assert finer.shape == (1 + 64, 1)
    assert finer[0] == 7.0, "the class token has no place to interpolate"
    inner = finer[1:].view(16, 4)[4:12]
    # cubic convolution with a = -0.75 follows a line to within a few hundredths
    torch.testing.assert_close(inner[:, 0], (torch.arange(4.0, 12.0) - 0.5) / 2, atol=0.05, rtol=0.0)
    torch.testing.assert_close(inner[:, 0], inner[:, 3])


def test_tokens_are_counted_with_both_marks_and_without_truncation(small_network):
    encoder = small_network.encoder
    assert encoder.count_tokens("ball") == 3
    assert encoder.count_tokens("ball " * 200) == 202


@pytest.mark.parametrize(
    "mark",
    [
        "<end_of_text>",
        "<start_of_text>",
        "<End_Of_Text>",
        "&lt;end_of_text&gt;",
        "&lt;Start_of_text>",
        "&#60;end&#95;of_text&#x3e;",
        "&amp;amp;amp;amp;lt;end_of_text&amp;amp;gt;",
        "<end_of_&lt;end_of_text&gt;text>",
        "＜end_of_text＞",  # wide characters
    ],
)
def test_a_label_that_looks_like_a_tokenizer_mark_is_read_as_text(small_network, mark):
    tokens = small_network.encoder.tokenize([f"a {mark} b"])[0].tolist()
    assert tokens.count(49407) == 1 and tokens.count(49406) == 1
    assert small_network.encoder.count_tokens(f"a {mark} b") == tokens.index(49407) + 1


@pytest.mark.parametrize("text", ["red ball", "salt &amp;amp;amp; pepper", "a < b", "Ｗｉｄｅ", "草"])
def test_a_label_without_tokenizer_marks_has_open_clips_own_tokens(small_network, text):
    encoder = small_network.encoder
    assert encoder.tokenize([text]).equal(encoder.tokenizer([text]))


@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu", "ViT-B-32"])
@torch.no_grad()
def test_public_architectures_build(name):
    encoder = build_encoder(EncoderConfig(name, included=True))
    assert encoder.patch == int(name.split("-")[2]) and encoder.text_width == 512 and encoder.depth == 12


def test_an_image_tower_that_is_no_vit_is_refused_by_name():
    with pytest.raises(ModelError, match="ModifiedResNet"):
        ClipEncoder(open_clip.CLIP(64, {"layers": [1, 1, 1, 1], "width": 32, "image_size": 64}, {"layers": 1}))


def test_unknown_architecture_is_named():
    with pytest.raises(ModelError, match="'ViT-Z-99'"):
        build_encoder(EncoderConfig("ViT-Z-99", pretrained="openai"))


def test_public_weights_without_a_network_name_the_offline_choice(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def no_network(*_args, **_kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", no_network)
    with pytest.raises(ModelError, match=r"ViT-B-16-quickgelu/openai.*no route.*synseg-everyday.*-dir DIR.*\.pth"):
        build_encoder(EncoderConfig("ViT-B-16-quickgelu", pretrained="openai"))


@pytest.mark.parametrize("layer", [0, 2, 3])
@torch.no_grad()
def test_attention_is_what_torch_says_the_block_attends_to(small_network, layer):
    images = torch.randn(2, 3, 64, 96)
    encoder = small_network.encoder
    block = encoder.clip.visual.transformer.resblocks[layer]
    tokens = encoder.hidden_states(images, [layer - 1])[0] if layer else encoder.embed_patches(images)
    inputs = [block.ln_1(tokens)] * 3
    expected = block.attn(*inputs, need_weights=True, average_attn_weights=True)[1]
    attention = encoder.attention(images, layer)
    assert attention.shape == (2, 25, 25)
    torch.testing.assert_close(attention, expected)
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, 25))


@pytest.mark.parametrize("layer", [-1, 4])
def test_attention_of_a_block_that_is_not_there_is_refused(small_network, layer):
    with pytest.raises(ValueError, match=f"layer {layer}: this encoder has blocks 0 to 3"):
        small_network.encoder.attention(torch.zeros(1, 3, 64, 64), layer)


@torch.no_grad()
def test_hidden_states_are_those_of_open_clips_own_blocks(small_network):
    images = torch.randn(2, 3, 64, 96)
    encoder = small_network.encoder
    x = encoder.embed_patches(images)
    expected = []
    for block in encoder.clip.visual.transformer.resblocks:
        x = block(x)
        expected.append(x)
    torch.testing.assert_close(encoder.hidden_states(images, range(encoder.depth)), expected, atol=1e-5, rtol=1e-5)


def test_positions_are_resampled_once_for_a_grid_and_again_for_other_weights(small_network, monkeypatch):
    encoder, calls = copy.deepcopy(small_network.encoder), []
    resample = clip_encoder.interpolate_position_embedding

    def counted(*arguments):
        calls.append(arguments[2])
        return resample(*arguments)

    monkeypatch.setattr(clip_encoder, "interpolate_position_embedding", counted)
    with torch.inference_mode():
        first = encoder.position((3, 5))
    assert encoder.position((3, 5)) is first and not first.is_inference() and calls == [(3, 5)]
    own = encoder.clip.visual.positional_embedding
    assert torch.equal(first, resample(own, tuple(encoder.clip.visual.grid_size), (3, 5)))
    encoder.position((4, 4))
    own.data.mul_(2)
    encoder.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder.position((3, 5)), 2 * first)
    assert calls == [(3, 5), (4, 4), (3, 5)]
    own.requires_grad_(True)
    assert encoder.position((3, 5)).requires_grad, "weights that train are never kept"
