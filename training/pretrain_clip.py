"""Train synseg-tiny's CLIP on captions of generated scenes: `python -m training.pretrain_clip`.

The loss is open_clip's own. Captions are all it sees: no mask, no label list. Half of the pictures are close views of
one thing, which teach shapes soonest; of larger pictures a part of the patches is dropped, which makes a step cheaper
(FLIP, arXiv 2212.00794).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse
import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from synseg_model.clip_encoder import ClipEncoder
from synseg_model.config import CLIP_MEAN, CLIP_STD
from training.checkpoint import load_checkpoint, save_checkpoint
from training.datasets.scene_pool import PoolConfig, build_pool, read_chunk
from training.datasets.scenes import COLORS, NOUNS
from training.schedule import cosine_with_warmup, parameter_groups
from training.tiny_clip import TINY_CLIP, tokenizer, write_merges

KEPT_PATCHES = 64  # patch dropout leaves at least so many; small pictures stay whole


@dataclass
class PretrainClipConfig:
    """Settings of CLIP's training.

    Args:
        output: folder for checkpoints, TensorBoard events and the final `clip.pt`.
        cache: folder for the rendered scenes.
        scenes: number of scenes; captions of every split, as the web would have them.
        steps: optimiser steps.
        batch: images in a batch, all compared with all captions of the batch.
        patch_dropout: share of patches left out in training, of pictures with more than KEPT_PATCHES of them.
        minutes: stop early after so many minutes (the schedule then ends early too); 0 means no limit.
        resume: go on from the last checkpoint in `output`.
        device: "auto" takes a GPU where there is one.
    """

    output: str = "runs/clip"
    cache: str = "runs/cache"
    scenes: int = 48_000
    steps: int = 1_200
    batch: int = 256
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.1
    warmup: int = 100
    patch_dropout: float = 0.4
    minutes: float = 0.0
    seed: int = 0
    device: str = "auto"
    resume: bool = False


def to_tensor(images: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """Normalise uint8 RGB images (B,H,W,3) to float (B,3,H,W) with CLIP's statistics."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (CLIP_MEAN, CLIP_STD))
    return (torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() - mean) / std


def batches(paths: list[Path], config: PretrainClipConfig, start: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Yield (images, captions) without end, as a function of seed and step: a resumed run sees the same."""
    chunks: dict[tuple[int, ...], list] = {}
    for path in tqdm(paths, desc="reading scenes", unit="chunk"):
        chunk = read_chunk(path)
        chunks.setdefault(chunk.images.shape[1:3], []).append(chunk)
    pools = [
        (np.concatenate([c.images for c in group]), np.concatenate([c.captions for c in group]))
        for group in chunks.values()
    ]
    chunks.clear()
    shares = np.array([len(images) for images, _ in pools], dtype=float)
    step = start
    while True:
        rng = np.random.default_rng((config.seed, step))
        images, captions = pools[rng.choice(len(pools), p=shares / shares.sum())]
        rows = rng.choice(len(images), config.batch, replace=False)
        texts = [str(captions[row, rng.integers(captions.shape[1])]) for row in rows]
        yield images[rows], texts
        step += 1


def embed_with_dropout(encoder: ClipEncoder, images: Tensor, dropout: float) -> Tensor:
    """Embed images from a random subset of their patches; subsets of one batch have one size."""
    visual = encoder.clip.visual
    x = encoder.embed_patches(images)
    if dropout > 0:
        patches = x.shape[1] - 1
        count = max(min(KEPT_PATCHES, patches), round(patches * (1 - dropout)))
        kept = torch.rand(len(x), patches, device=x.device).argsort(dim=1)[:, :count]
        rows = torch.arange(len(x), device=x.device)[:, None]
        x = torch.cat([x[:, :1], x[:, 1:][rows, kept]], dim=1)
    for block in visual.transformer.resblocks:
        x = block(x)
    pooled, _ = visual._pool(x)
    return pooled @ visual.proj


@torch.no_grad()
def zero_shot(encoder: ClipEncoder, device: torch.device, count: int = 300) -> dict[str, float]:
    """Classify held-out scenes with one thing: share of right nouns among all nouns, and of right colours."""
    from training.datasets.scene_pool import render

    scenes = [render(90_000_000 + i, (128, 128), "all", (1, 1), 2) for i in range(count)]
    images = to_tensor(np.stack([scene.image for scene in scenes]), device)
    features = torch.cat([encoder.image_embedding(part) for part in images.split(50)]).float()
    things = [next(s for s in scene.segments if s.kind == "thing") for scene in scenes]
    scores = {}
    for name, words, truth in (
        ("noun", list(NOUNS), [t.noun for t in things]),
        ("color", list(COLORS), [t.color for t in things]),
    ):
        prompts = [f"a {word}" if name == "noun" else f"a {word} object" for word in words]
        text = encoder.encode_text(encoder.tokenize(prompts).to(device)).float()
        guess = (features @ torch.nn.functional.normalize(text, dim=-1).T).argmax(dim=1)
        scores[name] = float(np.mean([words[g] == t for g, t in zip(guess.tolist(), truth, strict=True)]))
    return scores


def train(config: PretrainClipConfig) -> Path:
    """Train and return the path of `clip.pt` (weights only; load with weights_only=True)."""
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )

    write_merges(output)
    encoder = ClipEncoder(open_clip.CLIP(**TINY_CLIP), tokenizer(output)).to(device)
    clip = encoder.clip.requires_grad_(True)
    loss_function = open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(
        parameter_groups(clip, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98), fused=True
    )
    start = load_checkpoint(output, clip, optimizer) if config.resume else 0

    seed, half = 1_000_000 * (config.seed + 1), config.scenes // 2
    sizes = ((96, 96), (96, 96), (96, 96), (128, 128))
    closeups = PoolConfig(half, ((64, 64),), seed, objects=(1, 2), closeup=True)
    scenes = PoolConfig(half, sizes, seed + half, objects=(1, 3), plain_captions=3)
    paths = [path for pool in (closeups, scenes) for path in build_pool(pool, Path(config.cache))]
    stream = batches(paths, config, start)
    writer = SummaryWriter(str(output))
    started = time.monotonic()
    step = start
    with tqdm(total=config.steps, initial=start, desc="clip", unit="step", mininterval=5) as bar:
        for step in range(start, config.steps):
            images, captions = next(stream)
            progress = step / config.steps
            if config.minutes:
                progress = max(progress, (time.monotonic() - started) / 60 / config.minutes)
            if progress >= 1:
                break
            rate = cosine_with_warmup(step, config.warmup, progress) * config.learning_rate
            for group in optimizer.param_groups:
                group["lr"] = rate
            tokens = encoder.tokenize(captions).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                image_features = embed_with_dropout(encoder, to_tensor(images, device), config.patch_dropout)
                text_features = encoder.encode_text(tokens)
            image_features, text_features = (
                torch.nn.functional.normalize(f.float(), dim=-1) for f in (image_features, text_features)
            )
            loss = loss_function(image_features, text_features, clip.logit_scale.exp())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                clip.logit_scale.clamp_(0, np.log(100))
            bar.update()
            if step % 10 == 0:
                accuracy = (image_features @ text_features.T).argmax(1).eq(torch.arange(len(tokens), device=device))
                writer.add_scalar("loss", loss.item(), step)
                bar.set_postfix(loss=f"{loss.item():.3f}", top1=f"{accuracy.float().mean().item():.2f}")
            if (step + 1) % 200 == 0:
                save_checkpoint(output, clip, optimizer, step + 1)
                scores = zero_shot(encoder, device)
                for name, value in scores.items():
                    writer.add_scalar(f"zero_shot/{name}", value, step)
                bar.write(f"step {step + 1}: loss {loss.item():.3f}, zero-shot " + json.dumps(scores))
    writer.close()
    path = output / "clip.pt"
    torch.save({"clip": clip.state_dict(), "zero_shot": zero_shot(encoder, device), "steps": step + 1}, path)
    print(f"wrote {path}")
    return path


if __name__ == "__main__":
    train(jsonargparse.auto_cli(PretrainClipConfig, as_positional=False))
