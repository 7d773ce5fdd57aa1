"""A small model for photographs, and photographs with known contents, for the tests of training on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig
from synseg_model.network.conv_encoder import ConvEncoder, build_backbone
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.model_folder import save_model
from training.datasets.photo_batches import Words
from training.datasets.photos import Photo
from training.datasets.photos.packed import Packed, pack
from training.words.merges import MERGES_FILE, learn_merges, write_merges

BACKBONE, LEVELS = "test_efficientnet", (1, 2, 3, 4)  # 82,300 weights; strides 4, 8, 16, 32
NAMES = ("ball", "grass", "sky", "dog", "person", "woman", "puppy", "sphere", "lawn", "cat", "rug", "carpet")
OTHERS = {"ball": ["sphere"], "grass": ["lawn"], "carpet": ["rug"]}
NARROWER = {"person": ["woman"], "dog": ["puppy"]}
TEXT_WIDTH = 16
COLORS = {"ball": (230, 20, 20), "grass": (20, 200, 20), "sky": (40, 40, 230), "dog": (240, 240, 10)}


def words(names=NAMES, others=OTHERS, narrower=NARROWER) -> Words:
    """Give names embeddings that are all at right angles."""
    return Words(names, np.eye(len(names), TEXT_WIDTH, dtype=np.float32), others, narrower)


def network() -> SynSeg:
    """Build a network of random weights, the same each time."""
    torch.manual_seed(0)
    text = TextTransformer(context_length=8, vocab_size=64, width=16, heads=2, layers=1, output_dim=TEXT_WIDTH)
    encoder = EncoderConfig({"text_cfg": {}}, included=True, backbone=BACKBONE, levels=LEVELS)
    decoder = DecoderConfig(
        layers=LEVELS, width=16, heads=2, ffn=32, conditional_layer=1, skips=(8, 4), context_width=16, dense=True,
        presence=True,
    )  # fmt: skip
    config = ModelConfig("small", encoder, decoder, ImageConfig(64, "area"), ("{}",), normalize_text=True)
    return SynSeg(ConvEncoder(build_backbone(BACKBONE, LEVELS), text), config)


def text_folder(folder: Path) -> Path:
    """Write what `training.pretrain_text` writes: a tower of random weights and a small tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(dict.fromkeys(NAMES, 3), 530)
    write_merges(folder / MERGES_FILE, merges)
    settings = {"context_length": 8, "vocab_size": 512 + len(merges) + 2, "width": 16, "heads": 2, "layers": 1,
                "output_dim": TEXT_WIDTH}  # fmt: skip
    torch.manual_seed(0)
    save_file(TextTransformer(**settings).half().state_dict(), folder / "text.safetensors")
    (folder / "text.json").write_text(json.dumps({"text_cfg": settings}))
    return folder


def masked(set_name: str, key: str, top: str, bottom: str, size: tuple[int, int] = (72, 96)) -> Packed:
    """Pack an image whose upper and lower half show two names, each in its colour; "" is none of the set's names."""
    regions = tuple((name,) if name else () for name in (top, bottom))
    index_map = np.zeros(size, np.uint8)
    index_map[size[0] // 2 :] = 1
    colors = np.array([COLORS.get(name, (128, 60, 60)) for name in (top, bottom)], np.uint8)
    return pack(Photo(colors[index_map], regions, index_map), set_name, key)


def named(set_name: str, key: str, names: tuple[str, ...], captions: tuple[str, ...] = ()) -> Packed:
    """Pack an image without masks, of which names are known."""
    rng = np.random.default_rng(len(key))
    image = rng.integers(0, 255, (6, 8, 3), np.uint8).repeat(12, axis=0).repeat(12, axis=1)
    return pack(Photo(image, captions=captions, names=() if captions else names), set_name, key, names)


def model_folder(folder: Path) -> tuple[Path, SynSeg]:
    """Write a model folder of random weights that reads texts; returns it with its network."""
    text_folder(folder)
    settings = json.loads((folder / "text.json").read_text())["text_cfg"]
    plain = network().config
    encoder = EncoderConfig({"text_cfg": settings}, included=True, merges=MERGES_FILE, backbone=BACKBONE, levels=LEVELS)
    config = ModelConfig("small", encoder, plain.decoder, plain.image, ("{}",), normalize_text=True, context_length=8)
    found = SynSeg.from_config(config, folder)
    save_model(folder, found, config)
    return folder, found.eval()
