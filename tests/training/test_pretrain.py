import copy
import gzip
import json
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from synseg_model import Segmenter
from synseg_model.config import DecoderConfig, EncoderConfig, ModelConfig
from synseg_model.network.clip_encoder import ClipEncoder
from synseg_model.network.synseg import SynSeg
from training.datasets.mask_batches import SceneMaskConfig
from training.datasets.scene_captions import SceneCaptionConfig, window_caption
from training.loop.initialization import mimetic_attention, standardize
from training.loop.optimizers import MuonAdamW, orthogonalize, parameter_groups
from training.networks.tiny_clip import TINY_CLIP, random_position, tokenizer, write_merges
from training.pretrain_clip import PretrainClipConfig
from training.pretrain_clip import train as train_clip
from training.pretrain_decoder import PretrainDecoderConfig, build_network
from training.pretrain_decoder import train as train_decoder


def test_orthogonalized_matrices_have_singular_values_near_one():
    for shape in ((192, 64), (64, 192)):  # square ones may have a value near 0 to start with
        matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalize(matrix))
        assert values.min() > 0.6 and values.max() < 1.3, shape


def test_muon_takes_the_matrices_of_blocks_and_adamw_all_else():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    optimizer = MuonAdamW(parameter_groups(net, 0.0, 0.05, [net[1]]), (0.9, 0.98))
    groups = optimizer.param_groups
    assert [[p is net[1].weight for p in group["params"]] for group in groups if group["muon"]] == [[True]]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in net.parameters())
    x = torch.randn(64, 4)
    losses = []
    for _ in range(100):
        loss = ((net(x) - 3 * x - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20


def test_one_step_of_both_is_one_step_of_adamw_and_of_momentum_with_an_orthogonal_update():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4))
    other = copy.deepcopy(net)
    x = torch.randn(16, 4)
    optimizer = MuonAdamW(parameter_groups(net, 0.1, 0.05, [net[1]]), (0.9, 0.98))
    reference = torch.optim.AdamW([other[0].weight], lr=0.05, weight_decay=0.1, betas=(0.9, 0.98))
    for module in (net, other):
        module(x).square().mean().backward()
    before, gradient = net[1].weight.detach().clone(), net[1].weight.grad.clone()
    optimizer.step()
    reference.step()
    torch.testing.assert_close(net[0].weight, other[0].weight)
    update = orthogonalize(gradient.lerp(0.05 * gradient, 0.95))
    torch.testing.assert_close(net[1].weight, before * (1 - 0.05 * 0.1) - 0.05 * 0.2 * 8**0.5 * update)


def test_mimetic_attention_looks_at_itself_and_its_neighbours():
    torch.manual_seed(0)
    clip = open_clip.CLIP(**TINY_CLIP)
    mimetic_attention(clip.visual)
    block, position = clip.visual.transformer.resblocks[0], clip.visual.positional_embedding[1:]
    x = F.layer_norm(position, position.shape[1:])
    query, key, _ = block.attn.in_proj_weight.chunk(3)
    head = slice(0, 64)
    attention = ((x @ query[head].T) @ (x @ key[head].T).T / 8).softmax(dim=-1)
    rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(28.0), indexing="ij")
    place = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    distance = torch.cdist(place, place)
    assert (attention * distance).sum(dim=1).mean() < distance.mean() / 2


@torch.no_grad()
def test_a_window_told_its_place_has_the_positions_of_the_whole_image():
    torch.manual_seed(0)
    encoder = ClipEncoder(open_clip.CLIP(**TINY_CLIP))
    image = torch.randn(1, 3, 96, 128)
    whole = encoder.embed_patches(image)[:, 1:].unflatten(1, (12, 16))
    position = encoder.window_position((12, 16), slice(2, 8), slice(5, 11))
    window = encoder.embed_patches(image[:, :, 16:64, 40:88], position)[:, 1:].unflatten(1, (6, 6))
    torch.testing.assert_close(window, whole[:, 2:8, 5:11])
    assert not torch.allclose(encoder.embed_patches(image[:, :, 16:64, 40:88])[:, 1:].unflatten(1, (6, 6)), window)


def test_standardized_decoder_gets_inputs_of_unit_variance():
    clip = open_clip.CLIP(**TINY_CLIP)
    config = ModelConfig("x", EncoderConfig(TINY_CLIP, included=True), DecoderConfig(layers=(1, 3, 5), ffn=32))
    network = SynSeg(ClipEncoder(clip), config)
    images, text = torch.randn(4, 3, 64, 64), torch.randn(40, 256) * 20 + 7
    standardize(network, images, text)
    with torch.no_grad():
        for x in [*(r.flatten(0, 1) for r in network.encode_image(images)), network.decoder.film.scale(text)]:
            torch.testing.assert_close(x.mean(dim=0), torch.zeros(64), atol=1e-3, rtol=0)
            torch.testing.assert_close(x.std(dim=0), torch.ones(64), atol=1e-3, rtol=0)


def test_captions_of_parts_name_what_they_show_and_nothing_else():
    index_map = np.zeros((96, 96), int)
    index_map[:40, :40] = 1
    index_map[90:, 90:] = 2  # a corner of a car
    segments = [("grass", None), ("ball", "red"), ("car", "blue"), ("hat", "pink")]
    captions = {window_caption(index_map, segments, np.random.default_rng(seed)) for seed in range(60)}
    assert captions == {"a ball", "a red ball", "a ball on grass", "a red ball on grass"}
    assert window_caption(np.zeros((96, 96), int), segments, np.random.default_rng(0)) == "grass"


def test_small_images_are_trained_on_windows_of_the_positions_of_whole_ones():
    torch.manual_seed(0)
    encoder = ClipEncoder(open_clip.CLIP(**TINY_CLIP))
    whole = encoder.clip.visual.positional_embedding[1:].unflatten(0, (21, 28))
    seen = set()
    for seed in range(40):
        position = random_position(encoder, torch.zeros(1, 3, 48, 64), np.random.default_rng(seed))
        window = position[1:].unflatten(0, (6, 8))
        corners = [(r, c) for r in range(16) for c in range(21) if torch.equal(window, whole[r : r + 6, c : c + 8])]
        assert len(corners) == 1
        seen.add(corners[0])
    assert len(seen) > 30
    full = random_position(encoder, torch.zeros(1, 3, 168, 224), np.random.default_rng(0))
    assert torch.equal(full, encoder.clip.visual.positional_embedding)


def test_small_tokenizer_has_6144_tokens_and_reads_any_script(tmp_path):
    write_merges(tmp_path)
    words = tokenizer(tmp_path)
    assert words.vocab_size == 6144
    assert words.decode(words.encode("a red ball, 草")).strip() == "a red ball , 草"


def test_merges_file_is_the_same_bytes_each_time(tmp_path):
    first = write_merges(tmp_path).read_bytes()
    assert write_merges(tmp_path).read_bytes() == first
    assert len(gzip.decompress(first).decode().splitlines()) == 5631


@pytest.mark.slow
def test_both_commands_make_a_model_folder_that_segments_and_resume_where_they_stopped(tmp_path):
    clip, decoder = (kind().trainer for kind in (PretrainClipConfig, PretrainDecoderConfig))
    common = {"steps": 2, "warmup": 1, "accelerator": "cpu", "save_every": 1}
    clip = replace(clip, output=str(tmp_path / "clip"), batch=8, **common)
    decoder = replace(decoder, output=str(tmp_path / "decoder"), batch=4, **common)
    cache = str(tmp_path / "cache")
    train_clip(PretrainClipConfig(SceneCaptionConfig(cache, closeups=16, scenes=16), clip, held_out=4))
    settings = {"clip": clip.output, "data": SceneMaskConfig(cache, scenes=8), "trainer": decoder, "checks": 2}
    folder = train_decoder(PretrainDecoderConfig(**settings))
    config = json.loads((folder / "config.json").read_text())
    assert config["training"]["decoder"]["trainer"]["seed"] == 0
    assert config["training"]["clip"]["trainer"]["steps"] == 2
    again = build_network(PretrainDecoderConfig(clip=str(folder)))[0]  # a model folder gives its encoder, too
    first = build_network(PretrainDecoderConfig(**settings))[0]
    for name, tensor in first.encoder.state_dict().items():
        assert torch.equal(tensor, again.encoder.state_dict()[name]), name
    stopped = replace(decoder, output=str(tmp_path / "stopped"), max_minutes=1e-9)
    assert train_decoder(PretrainDecoderConfig(**{**settings, "trainer": stopped})) is None
    train_decoder(PretrainDecoderConfig(**{**settings, "trainer": stopped}, resume=True))
    whole, resumed = (load_file(tmp_path / name / "model/weights.safetensors") for name in ("decoder", "stopped"))
    assert all(whole[name].equal(resumed[name]) for name in whole)
    segmenter = Segmenter.load(folder, cache_dir=tmp_path / "text")
    segmenter.set_vocabulary(["ball", "grass"])
    assert segmenter.segment(np.zeros((48, 64, 3), np.uint8)).activations.shape == (2, 48, 64)
