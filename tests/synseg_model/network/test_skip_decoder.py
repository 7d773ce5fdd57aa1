"""The decoder with skip connections: shapes, what labels share, and settings that contradict themselves."""

import dataclasses
import json

import pytest
import torch
from open_clip.transformer import TextTransformer
from torch.nn import functional as F

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig, ModelError
from synseg_model.network.clipseg_decoder import halve
from synseg_model.network.conv_encoder import ConvEncoder, build_backbone
from synseg_model.network.skip_decoder import POSITIONS, SCALE, SkipDecoder
from synseg_model.network.synseg import SynSeg

LEVELS = (1, 2, 3, 4)
ENCODER = EncoderConfig({"text_cfg": {}}, included=True, backbone="test_efficientnet", levels=LEVELS)
DECODER = DecoderConfig(
    layers=LEVELS, width=16, heads=2, ffn=32, conditional_layer=2, skips=(8, 4), context_width=24, dense=True,
    presence=True,
)  # fmt: skip


def build(**changes):
    torch.manual_seed(0)
    text = TextTransformer(context_length=8, vocab_size=64, width=16, heads=2, layers=1, output_dim=12)
    config = ModelConfig("x", ENCODER, dataclasses.replace(DECODER, **changes), ImageConfig(64, "area"))
    return SynSeg(ConvEncoder(build_backbone("test_efficientnet", LEVELS), text), config).eval()


@pytest.fixture(scope="module")
def network():
    return build()


@pytest.fixture
def texts():
    return F.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(1)), dim=-1)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("size", [(64, 64), (32, 160), (96, 64), (32, 32)])
@torch.no_grad()
def test_logits_have_a_quarter_of_the_inputs_sides_and_forward_has_its_own(network, texts, size):
    x = images(2, 3, *size)
    assert network.maps(x, texts).shape == (2, 5, size[0] // 4, size[1] // 4)
    logits = network(x, texts)
    assert logits.shape == (2, 5, *size) and logits.isfinite().all()
    assert tuple(side // network.config.decoder.stride for side in size) == network.maps(x, texts).shape[2:]


@torch.no_grad()
def test_what_labels_share_has_the_shapes_that_engines_expect(network):
    tokens, dense, skip8, skip4 = network.encode_image(images(2, 3, 64, 96))
    assert tokens.shape == (2, 4, 6, 16) and dense.shape == (2, 4, 6, 12)
    assert skip8.shape == (2, 8, 8, 12) and skip4.shape == (2, 4, 16, 24)
    torch.testing.assert_close(dense.norm(dim=-1), torch.ones(2, 4, 6))


@torch.no_grad()
def test_labels_do_not_depend_on_each_other(network, texts):
    x = images(2, 3, 64, 96)
    whole = network.maps(x, texts)
    for k in range(5):
        torch.testing.assert_close(network.maps(x, texts[k : k + 1])[:, 0], whole[:, k], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_images_do_not_depend_on_each_other_and_may_have_labels_of_their_own(network, texts):
    x = images(2, 3, 64, 96)
    own = torch.stack([texts[:3], texts[2:]])
    whole = network.maps(x, own)
    for b in range(2):
        torch.testing.assert_close(network.maps(x[b : b + 1], own[b])[0], whole[b], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("labels", [1, 2, 4])
@torch.no_grad()
def test_chunks_of_labels_give_what_all_at_once_give(texts, labels):
    network = build()
    x = images(2, 3, 64, 96)
    whole = network(x, texts)
    network.decoder_memory = labels * 2 * network.decoder.bytes_per_label(network.grid(x))
    calls = []
    network.decoder.register_forward_hook(lambda _module, _inputs, output: calls.append(output.shape[1]))
    torch.testing.assert_close(network(x, texts), whole, atol=1e-5, rtol=1e-5)
    assert calls == [min(labels, 5 - start) for start in range(0, 5, labels)]


@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 12), (0, 12)])
def test_texts_of_another_shape_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"expected \(K,12\) or \(2,K,12\), K >= 1"):
        network(images(2, 3, 64, 64), torch.zeros(shape))


@torch.no_grad()
def test_dense_adds_the_cosine_of_tokens_and_text(texts):
    network = build(presence=False)
    reduced = network.encode_image(images(1, 3, 64, 64))
    with_dense = network.decoder.decode(reduced, texts[None])[0]
    network.decoder.dense_shown.zero_()
    shown_apart = network.decoder.decode(reduced, texts[None])[0]
    network.decoder.dense_scale.fill_(-100.0)  # a scale of nothing
    without = network.decoder.decode(reduced, texts[None])[0]
    cosine = torch.einsum("kc,hwc->khw", texts, reduced[1][0])[None]
    expected = F.interpolate(SCALE * cosine, size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(shown_apart - without, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(with_dense, shown_apart), "the label's block sees the cosine, too"


@torch.no_grad()
def test_presence_lowers_the_logits_of_a_label_that_is_not_there(network, texts):
    reduced = network.encode_image(images(1, 3, 64, 64))
    logits, presence = network.decoder.decode(reduced, texts[None])
    assert presence.shape == (1, 5)
    network = build()
    network.decoder.presence.bias -= 20
    lowered, absent = network.decoder.decode(reduced, texts[None])
    torch.testing.assert_close(absent, presence - 20)
    expected = F.logsigmoid(presence) - F.logsigmoid(absent)
    torch.testing.assert_close(logits - lowered, expected[:, :, None, None].expand_as(logits), atol=1e-4, rtol=0)


@torch.no_grad()
def test_decoders_without_dense_and_presence_have_none(texts):
    network = build(dense=False, presence=False)
    reduced = network.encode_image(images(1, 3, 64, 64))
    assert reduced[1].shape == (1, 4, 4, 0)
    logits, presence = network.decoder.decode(reduced, texts[None])
    assert logits.shape == (1, 5, 16, 16) and presence is None
    assert not any(name.startswith(("dense", "presence")) for name in network.decoder.state_dict())


@pytest.mark.parametrize("blocks", [0, 1, 3])
@torch.no_grad()
def test_any_number_of_blocks_before_the_labels(texts, blocks):
    network = build(conditional_layer=blocks)
    assert len(network.decoder.blocks) == blocks
    assert network(images(1, 3, 64, 64), texts).isfinite().all()


def test_positions_are_the_learned_ones_on_their_grid_and_resampled_elsewhere(network):
    decoder = network.decoder
    assert torch.equal(decoder.positions(POSITIONS), decoder.position)
    assert decoder.positions((3, 20)).shape == (3, 20, 24)
    twice = decoder.positions((18, 24)).detach().permute(2, 0, 1)[None]
    back = F.avg_pool2d(twice, 2)[0].permute(1, 2, 0)
    assert F.cosine_similarity(back.flatten(), decoder.position.detach().flatten(), dim=0) > 0.9


@torch.no_grad()
def test_positions_that_are_given_are_used(network):
    levels = network.encoder.hidden_states(images(1, 3, 64, 96))
    own = network.decoder.reduce(levels)
    given = network.decoder.reduce(levels, network.decoder.positions((2, 3)))
    other = network.decoder.reduce(levels, torch.ones(2, 3, 24))
    assert all(torch.equal(a, b) for a, b in zip(own, given, strict=True))
    assert not torch.allclose(own[0], other[0])


@pytest.mark.parametrize("channels_last", [True, False])
def test_halving_averages_blocks_and_smaller_ones_at_odd_ends(channels_last):
    x = images(2, 3, 5, 4)
    halved = halve(x.permute(0, 2, 3, 1) if channels_last else x, channels_last)
    halved = halved.permute(0, 3, 1, 2) if channels_last else halved
    expected = torch.empty(2, 3, 3, 2)
    for i in range(3):
        for j in range(2):
            expected[:, :, i, j] = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(dim=(2, 3))
    torch.testing.assert_close(halved, expected)


@pytest.mark.parametrize("size", [(64, 64), (96, 32)])
@torch.no_grad()
def test_peaks_come_from_the_halved_grid(network, texts, size):
    x = images(2, 3, *size)
    reduced, grid = network.encode_image(x), network.grid(x)
    peaks = network.peaks(reduced, texts, grid)
    coarse = [halve(part, place < 2) for place, part in enumerate(reduced)]
    torch.testing.assert_close(peaks, network.decoder(coarse, texts.expand(2, -1, -1)).amax(dim=(2, 3)))


def test_every_weight_gets_a_gradient(texts):
    network = build()
    logits, presence = network.decoder.decode(network.encode_image(images(2, 3, 64, 64)), texts.expand(2, -1, -1))
    (logits.square().mean() + presence.square().mean()).backward()
    without = [name for name, p in network.decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_channels_of_a_backbone_decide_the_decoders_shapes(network):
    decoder = SkipDecoder(DECODER, (10, 20, 30, 40), 12, 32)
    assert decoder.skip4.in_channels == 10 and decoder.project_coarse.in_channels == 40
    assert network.decoder.skip4.in_channels == network.encoder.widths[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"skips": (8,)}, r"skips \[8\], context_width 24: expected two numbers"),
        ({"skips": (8, 0)}, r"skips \[8, 0\]"),
        ({"context_width": 0}, "context_width 0: expected .* a width of 1 or more"),
        ({"heads": 5}, "decoder width 24 is not a multiple of its 5 heads"),
        ({"skips": ()}, "context_width, dense and presence need skips"),
        ({"conditional_layer": 4}, "conditional_layer 4: expected 0 to 3"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(changes, reason):
    with pytest.raises(ModelError, match=reason):
        dataclasses.replace(DECODER, **changes)


def test_models_whose_encoder_and_decoder_do_not_fit_are_refused():
    plain = DecoderConfig(layers=LEVELS, width=16, heads=2, ffn=32)
    with pytest.raises(ModelError, match="with a backbone, levels and layers are the same four"):
        ModelConfig("x", ENCODER, plain)
    with pytest.raises(ModelError, match=r"levels \[1, 2, 3, 4\], decoder layers \[0, 1, 2, 3\]"):
        ModelConfig("x", ENCODER, dataclasses.replace(DECODER, layers=(0, 1, 2, 3)))
    with pytest.raises(ModelError, match=r"skips \[8, 4\]: they need an encoder with a backbone"):
        ModelConfig("x", EncoderConfig("ViT-B-16"), DECODER)


def test_configs_come_back_from_json_as_they_were():
    config = build().config
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config
