"""Train FiLM and the decoder on masks of base scenes: `python -m training.pretrain_decoder`.

This is what CLIPSeg did on PhraseCut, and what SynSeg starts from. The encoder is frozen; novel nouns and novel
colour-noun pairs appear in no picture and in no label here.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse
import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from synseg_model.checkpoints import fill, read_tensors, save_model
from synseg_model.clip_encoder import ClipEncoder
from synseg_model.config import (
    CLIP_MEAN,
    CLIP_STD,
    WEIGHTS_FILE,
    DecoderConfig,
    EncoderConfig,
    ImageConfig,
    ModelConfig,
)
from synseg_model.network import SynSeg
from synseg_model.trainer import cosine_with_warmup
from training.checkpoint import load_checkpoint, save_checkpoint
from training.datasets.scene_pool import Chunk, PoolConfig, build_pool, read_chunk
from training.datasets.scene_vocabulary import is_base
from training.datasets.scenes import BASE_NOUNS, COLORS, STUFF
from training.initialization import standardize
from training.optimizers import MuonAdamW
from training.pretrain_clip import to_tensor
from training.schedule import autocast
from training.tiny_clip import MERGES_FILE, TINY_CLIP, tokenizer

TEMPLATES = ("a {}", "a picture of a {}", "{}")


@dataclass
class PretrainDecoderConfig:
    """Settings of the decoder's training.

    Args:
        clip: folder that `training.pretrain_clip` wrote.
        start: model folder whose decoder to go on from, for a further run with other settings; empty for a fresh one.
        output: folder for checkpoints, TensorBoard events and the finished model folder `model/`.
        cache: folder for the rendered scenes.
        scenes: number of scenes, all of the base split, shaped like a camera's 4:3 picture.
        crop: side of the windows that training sees first, half of them around things.
        crop_steps: share of the steps that see windows; the rest sees whole pictures. A window shows a thing at the
            same size for a quarter of the work.
        batch: images in a batch. labels: labels decoded for each image, present and absent ones.
        resume: go on from the last checkpoint in `output`.
    """

    clip: str = "runs/clip"
    start: str = ""
    output: str = "runs/decoder"
    cache: str = "runs/cache"
    name: str = "synseg-tiny"
    scenes: int = 8_000
    steps: int = 1_900
    crop: int = 96
    crop_steps: float = 0.9
    batch: int = 20
    labels: int = 6
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: int = 100
    layers: tuple[int, ...] = (1, 3, 5)
    ffn: int = 512
    image_size: int = 192
    seed: int = 0
    device: str = "auto"
    resume: bool = False


def base_labels() -> list[str]:
    """List every label that mask training may use: base nouns, base colour-noun pairs, stuff."""
    pairs = [f"{color} {noun}" for noun in BASE_NOUNS for color in COLORS if is_base(color, noun)]
    return [*BASE_NOUNS, *pairs, *STUFF]


def embed_labels(encoder: ClipEncoder, labels: list[str], templates: tuple[str, ...], device: torch.device) -> Tensor:
    """Embed labels as the Segmenter does without normalisation: the mean over templates, (N, D)."""
    with torch.no_grad():
        parts = [
            encoder.encode_text(encoder.tokenize([template.format(label) for label in labels]).to(device))
            for template in templates
        ]
    return torch.stack(parts).mean(dim=0)


def draw_labels(
    segments: list[tuple[str, str | None]], visible: np.ndarray, count: int, rng: np.random.Generator
) -> list[str]:
    """Draw present and absent labels for a scene, half and half; the odd one is present.

    visible: share of the picture that each segment covers; of what covers less than 0.4 % neither presence nor absence
    is asked. Of the absent labels a third each are nouns, stuff and near misses: a present noun in another colour or
    another noun in a present colour. Without much absent stuff a decoder takes any of its names for "background".
    """
    shown = [segment for segment, share in zip(segments, visible, strict=True) if share]
    large = [segment for segment, share in zip(segments, visible, strict=True) if share >= 0.004]
    names = {name for noun, color in large for name in (noun, f"{color} {noun}" if color else noun)}
    present = [str(label) for label in rng.permutation(sorted(names))][: count - count // 2]
    known = {name for noun, color in shown for name in (noun, f"{color} {noun}")}
    things = [(noun, color) for noun, color in shown if color]
    absent: list[str] = []
    while len(present) + len(absent) < count:
        kind = rng.integers(6)
        noun, color = BASE_NOUNS[rng.integers(len(BASE_NOUNS))], list(COLORS)[rng.integers(len(COLORS))]
        if things and kind < 2:
            shown_noun, shown_color = things[rng.integers(len(things))]
            noun, color = (shown_noun, color) if kind == 0 else (noun, shown_color)
        label = STUFF[rng.integers(len(STUFF))] if kind in (2, 3) else noun if kind > 3 else f"{color} {noun}"
        if label not in known and label not in absent and (kind >= 2 or is_base(color, noun)):
            absent.append(label)
    return present + absent


def draw_window(
    index_map: np.ndarray, segments: list[tuple[str, str | None]], side: int, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Choose a square window: anywhere, or so that it holds the middle of a thing of the scene near its own."""
    if rng.random() < 0.5:
        top, left = (int(rng.integers(length - side + 1)) for length in index_map.shape)
        return slice(top, top + side), slice(left, left + side)
    things = [i for i, (_, color) in enumerate(segments) if color and (index_map == i).any()]
    rows, columns = np.nonzero(index_map == things[rng.integers(len(things))])
    middle = np.array([rows.mean(), columns.mean()]) + rng.uniform(-0.3, 0.3, 2) * side - side / 2
    top, left = np.clip(middle, 0, np.array(index_map.shape) - side).astype(int)
    return slice(top, top + side), slice(left, left + side)


def mask_of(label: str, segments: list[tuple[str, str | None]], index_map: np.ndarray) -> np.ndarray:
    """Return the pixels (H,W) bool of the segments that a label names."""
    hit = np.array([label == noun or label == f"{color} {noun}" for noun, color in segments])
    return hit[index_map]


def batches(chunks: list[Chunk], config: PretrainDecoderConfig, rows: dict[str, int], start: int) -> Iterator[tuple]:
    """Yield (images uint8, label rows (B,K), masks (B,K,H,W) bool); the order is a function of seed and step."""
    step = start
    while True:
        rng = np.random.default_rng((config.seed, 2, step))
        chunk = chunks[rng.integers(len(chunks))]
        images, labels, masks = [], [], []
        for row in rng.choice(len(chunk), config.batch, replace=False):
            image, index_map, segments = chunk.images[row], chunk.index_maps[row], chunk.segments[row]
            if step < config.crop_steps * config.steps:
                window = draw_window(index_map, segments, config.crop, rng)
                image, index_map = image[window], index_map[window]
            if rng.random() < 0.5:  # scenes have no left and right that a label names
                image, index_map = image[:, ::-1], index_map[:, ::-1]
            shares = np.bincount(index_map.ravel(), minlength=len(segments)) / index_map.size
            drawn = draw_labels(segments, shares, config.labels, rng)
            images.append(image)
            labels.append([rows[label] for label in drawn])
            masks.append(np.stack([mask_of(label, segments, index_map) for label in drawn]))
        yield np.stack(images), np.array(labels), np.stack(masks)
        step += 1


def mask_loss(logits: Tensor, masks: Tensor, balance: float = 0.0) -> Tensor:
    """Binary cross-entropy over all pixels plus Dice over present labels, so that thin things count too.

    logits: (B,K,H,W). masks: (B,K,H,W) bool. balance: from 0, every pixel of a map counts the same, to 1, the pixels
    inside a mask count together as much as those outside. A fresh decoder needs balance: things cover a few percent
    of a picture, and without it predicting nothing at all is a minimum that it does not leave.
    """
    logits, masks = logits.float().flatten(2), masks.float().flatten(2)
    share = masks.mean(dim=2, keepdim=True)
    even = torch.where(masks > 0, 0.5 / share.clamp(min=0.005), 0.5 / (1 - share).clamp(min=0.05))
    weight = balance * even + (1 - balance)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, weight)
    present = masks.any(dim=2)
    probability = logits.sigmoid()
    overlap = 2 * (probability * masks).sum(dim=2) + 1
    dice = 1 - overlap / (probability.sum(dim=2) + masks.sum(dim=2) + 1)
    return cross_entropy + 0.3 * dice[present].mean()


def build_network(config: PretrainDecoderConfig) -> tuple[SynSeg, ModelConfig]:
    """Put a fresh decoder on the trained CLIP."""
    folder = Path(config.clip)
    state = torch.load(folder / "clip.pt", map_location="cpu", weights_only=True)
    clip = open_clip.CLIP(**TINY_CLIP)
    clip.load_state_dict(state["clip"])
    clip_config = json.loads((folder / "config.json").read_text())
    model_config = ModelConfig(
        name=config.name,
        encoder=EncoderConfig(TINY_CLIP, included=True, merges=MERGES_FILE),
        decoder=DecoderConfig(layers=tuple(config.layers), ffn=config.ffn, head="refined"),
        image=ImageConfig(size=config.image_size, resize="area", mean=CLIP_MEAN, std=CLIP_STD),
        templates=TEMPLATES,
        training={
            "clip": clip_config,
            "zero_shot": state["zero_shot"],
            "decoder": [*_earlier_runs(config), asdict(config)],
        },
    )
    network = SynSeg(ClipEncoder(clip, tokenizer(folder)), model_config)
    if config.start:
        tensors = read_tensors(Path(config.start) / WEIGHTS_FILE)
        fill(network, {k: v for k, v in tensors.items() if k.startswith("decoder.")}, False, config.start)
    return network, model_config


def _earlier_runs(config: PretrainDecoderConfig) -> list[dict]:
    """List the settings of the runs that made the decoder which this one starts from."""
    return ModelConfig.read(Path(config.start)).training["decoder"] if config.start else []


def train(config: PretrainDecoderConfig) -> Path:
    """Train and return the finished model folder."""
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )
    network, model_config = build_network(config)
    network.to(device).train()
    decoder = network.decoder
    optimizer = MuonAdamW(decoder, list(decoder.blocks), config.learning_rate, config.weight_decay)
    start = load_checkpoint(output, decoder, optimizer) if config.resume else 0

    labels = base_labels()
    table = embed_labels(network.encoder, labels, model_config.templates, device)
    size = model_config.image.input_size(480, 640, network.encoder.patch)
    pool = PoolConfig(config.scenes, (size,), seed=50_000_000 + 1_000_000 * config.seed, split="base", objects=(1, 6),
                      captions=1, supersample=(1, 2))  # fmt: skip
    chunks = [read_chunk(path) for path in tqdm(build_pool(pool, Path(config.cache)), desc="reading scenes")]
    stream = batches(chunks, config, {label: row for row, label in enumerate(labels)}, start)
    if start == 0 and not config.start:
        standardize(network, to_tensor(chunks[0].images[:32], device), table)
    writer = SummaryWriter(str(output))
    started = time.monotonic()
    with tqdm(total=config.steps, initial=start, desc="decoder", unit="step", mininterval=5) as bar:
        for step in range(start, config.steps):
            images, rows, masks = next(stream)
            optimizer.set_rate(cosine_with_warmup(step, config.warmup, config.steps) * config.learning_rate)
            with autocast(device):
                logits = network(to_tensor(images, device), table[torch.from_numpy(rows).to(device)])
            # Gone at half time, so that thresholds end calibrated; a decoder that can see already needs none.
            balance = 0.0 if config.start else max(0.0, 1 - 2 * step / config.steps)
            loss = mask_loss(logits, torch.from_numpy(masks).to(device), balance)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower --learning_rate")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
            optimizer.step()
            bar.update()
            if step % 10 == 0:
                writer.add_scalar("loss", loss.item(), step)
                bar.set_postfix(loss=f"{loss.item():.3f}")
            if (step + 1) % 200 == 0:
                save_checkpoint(output, decoder, optimizer, step + 1)
                bar.write(f"step {step + 1}: loss {loss.item():.3f}, {(time.monotonic() - started) / 60:.1f} min")
    writer.close()
    folder = save_model(output / "model", network, model_config, torch.float16)
    shutil.copyfile(Path(config.clip) / MERGES_FILE, folder / MERGES_FILE)
    print(f"wrote {folder}")
    return folder


if __name__ == "__main__":
    train(jsonargparse.auto_cli(PretrainDecoderConfig, as_positional=False))
