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

from synseg_model.checkpoints import save_model
from synseg_model.clip_encoder import ClipEncoder
from synseg_model.config import CLIP_MEAN, CLIP_STD, DecoderConfig, EncoderConfig, ImageConfig, ModelConfig
from synseg_model.network import SynSeg
from training.checkpoint import load_checkpoint, save_checkpoint
from training.datasets.scene_pool import Chunk, PoolConfig, build_pool, read_chunk
from training.datasets.scene_vocabulary import is_base
from training.datasets.scenes import BASE_NOUNS, COLORS, STUFF
from training.pretrain_clip import to_tensor
from training.schedule import cosine_with_warmup, parameter_groups
from training.tiny_clip import MERGES_FILE, TINY_CLIP, tokenizer

TEMPLATES = ("a {}", "a picture of a {}", "{}")


@dataclass
class PretrainDecoderConfig:
    """Settings of the decoder's training.

    Args:
        clip: folder that `training.pretrain_clip` wrote.
        output: folder for checkpoints, TensorBoard events and the finished model folder `model/`.
        cache: folder for the rendered scenes.
        scenes: number of scenes, all of the base split.
        batch: images in a batch. labels: labels decoded for each image, present and absent ones.
        resume: go on from the last checkpoint in `output`.
    """

    clip: str = "runs/clip"
    output: str = "runs/decoder"
    cache: str = "runs/cache"
    name: str = "synseg-tiny"
    scenes: int = 14_000
    steps: int = 1_200
    batch: int = 14
    labels: int = 5
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 100
    layers: tuple[int, ...] = (1, 3, 5)
    ffn: int = 512
    image_size: int = 160
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
    """Draw present and absent labels for a scene, three to two, with near misses among the absent ones.

    A near miss has a present noun in another colour or another noun in a present colour.
    """
    shown = [segment for segment, area in zip(segments, visible, strict=True) if area]
    things = [(noun, color) for noun, color in shown if color]
    present = list({noun for noun, _ in shown} | {f"{color} {noun}" for noun, color in things})
    present = [str(label) for label in rng.permutation(sorted(present))][: count - 2 * count // 5]
    known = {noun for noun, _ in shown} | {f"{color} {noun}" for noun, color in things}
    absent: list[str] = []
    while len(present) + len(absent) < count:
        kind = rng.integers(4)
        noun, color = BASE_NOUNS[rng.integers(len(BASE_NOUNS))], list(COLORS)[rng.integers(len(COLORS))]
        if things and kind < 2:
            shown_noun, shown_color = things[rng.integers(len(things))]
            noun, color = (shown_noun, color) if kind == 0 else (noun, shown_color)
        label = STUFF[rng.integers(len(STUFF))] if kind == 2 else noun if kind == 3 else f"{color} {noun}"
        if label not in known and label not in absent and (kind >= 2 or is_base(color, noun)):
            absent.append(label)
    return present + absent


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
        picked = rng.choice(len(chunk), config.batch, replace=False)
        images, index_maps = chunk.images[picked], chunk.index_maps[picked]
        if rng.random() < 0.5:  # scenes have no left and right that a label names
            images, index_maps = images[:, :, ::-1].copy(), index_maps[:, :, ::-1].copy()
        labels, masks = [], []
        for row, index_map in zip(picked, index_maps, strict=True):
            segments = chunk.segments[row]
            visible = np.bincount(index_map.ravel(), minlength=len(segments))
            drawn = draw_labels(segments, visible, config.labels, rng)
            labels.append([rows[label] for label in drawn])
            masks.append(np.stack([mask_of(label, segments, index_map) for label in drawn]))
        yield images, np.array(labels), np.stack(masks)
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


@torch.no_grad()
def standardize(network: SynSeg, images: Tensor, text: Tensor) -> None:
    """Scale the decoder's input layers so that their outputs have mean 0 and variance 1 on real data.

    CLIP's hidden states and raw text embeddings are far from unit variance; a post-norm decoder behind them starts
    slowly or not at all. images: (B,3,H,W) normalised. text: (N,D), every training label.
    """
    decoder = network.decoder
    states = network.encoder.hidden_states(images, network.config.decoder.layers)
    inputs = [(layer, state.flatten(0, 1)) for layer, state in zip(decoder.reduces, reversed(states), strict=True)]
    for layer, x in [*inputs, (decoder.film.scale, text), (decoder.film.shift, text)]:
        y = x @ layer.weight.T
        mean, std = y.mean(dim=0), y.std(dim=0)
        layer.weight.div_(std[:, None])
        layer.bias.copy_(-mean / std)


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
            "commands": ["python -m training.pretrain_clip", "python -m training.pretrain_decoder"],
            "clip": clip_config,
            "zero_shot": state["zero_shot"],
            "decoder": asdict(config),
        },
    )
    return SynSeg(ClipEncoder(clip, tokenizer(folder)), model_config), model_config


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
    optimizer = torch.optim.AdamW(parameter_groups(decoder, config.weight_decay), lr=config.learning_rate, fused=True)
    start = load_checkpoint(output, decoder, optimizer) if config.resume else 0

    labels = base_labels()
    table = embed_labels(network.encoder, labels, model_config.templates, device)
    side, patch = config.image_size, network.encoder.patch
    wide = model_config.image.input_size(480, 640, patch)
    small = tuple(length * 13 // 16 // patch * patch for length in wide)
    sizes = (small, small, wide, (side * 13 // 16 // patch * patch,) * 2)  # mostly small ones: they cost less
    pool = PoolConfig(config.scenes, sizes, seed=50_000_000 + 1_000_000 * config.seed, split="base", objects=(1, 6),
                      captions=1, supersample=(1, 2, 3))  # fmt: skip
    chunks = [read_chunk(path) for path in tqdm(build_pool(pool, Path(config.cache)), desc="reading scenes")]
    stream = batches(chunks, config, {label: row for row, label in enumerate(labels)}, start)
    if start == 0:
        standardize(network, to_tensor(chunks[0].images[:32], device), table)
    writer = SummaryWriter(str(output))
    started = time.monotonic()
    with tqdm(total=config.steps, initial=start, desc="decoder", unit="step", mininterval=5) as bar:
        for step in range(start, config.steps):
            images, rows, masks = next(stream)
            factor = cosine_with_warmup(step, config.warmup, step / config.steps)
            for group in optimizer.param_groups:
                group["lr"] = factor * config.learning_rate
            with torch.autocast(device.type, torch.bfloat16):
                logits = network(to_tensor(images, device), table[torch.from_numpy(rows).to(device)])
            balance = max(0.0, 1 - 2 * step / config.steps)  # gone at half time, so that thresholds end calibrated
            loss = mask_loss(logits, torch.from_numpy(masks).to(device), balance)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower --learning_rate")
            optimizer.zero_grad(set_to_none=True)
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
