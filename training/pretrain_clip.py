"""Train synseg-tiny's CLIP on captions of generated scenes: `python -m training.pretrain_clip`.

The loss is open_clip's own. Captions are all it sees: no mask, no label list. It starts with small close views of one
thing, which teach shapes soonest and cost least, and goes on with parts of scenes and whole scenes among them. Small
images get the positions of a window of a whole one, drawn anew for every batch: so patches learn to attend to what
is near them wherever they are, and what close views taught holds in whole scenes.
"""

from __future__ import annotations

import json
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

from synseg_model.engines.torch import choose_device
from synseg_model.network.clip_encoder import ClipEncoder
from training.datasets.batches import to_tensor
from training.loop.checkpoint import load_checkpoint, save_checkpoint
from training.loop.initialization import mimetic_attention
from training.loop.optimizers import MuonAdamW
from training.loop.schedule import autocast
from training.loop.trainer import cosine_with_warmup
from training.networks.tiny_clip import PATCH, TINY_CLIP, random_window, tokenizer, write_merges
from training.scenes.captions import article
from training.scenes.pool import PoolConfig, build_pool, read_chunk, render, render_closeup
from training.scenes.scenes import COLORS, NOUNS

SIZE = tuple(TINY_CLIP["vision_cfg"]["image_size"])  # of a whole scene, height and width in pixels
PART = 96  # side of a part of a scene


@dataclass
class PretrainClipConfig:
    """Settings of CLIP's training.

    Args:
        output: folder for checkpoints, TensorBoard events and the final `clip.pt`.
        cache: folder for the rendered scenes.
        closeups: number of close views, 64x64 px. scenes: number of whole scenes, 168x224 px. Captions are of every
            split, as the web would have them.
        steps: optimiser steps.
        closeup_steps: share of the steps that see close views alone, shrunk to 48 px; then two in five steps do.
        batch: close views in a batch, all compared with all captions of the batch. Of parts of scenes there are half
            as many, of whole scenes an eighth.
        held_out: images that zero-shot classification is measured on, by the way.
        resume: go on from the last checkpoint in `output`.
        device: "auto" takes a GPU where there is one.
    """

    output: str = "runs/clip"
    cache: str = "runs/cache"
    closeups: int = 40_000
    scenes: int = 10_000
    steps: int = 1_100
    closeup_steps: float = 0.45
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    warmup: int = 50
    held_out: int = 300
    seed: int = 0
    device: str = "auto"
    resume: bool = False


def window_caption(index_map: np.ndarray, segments: list[tuple[str, str | None]], rng: np.random.Generator) -> str:
    """Caption a part of a scene: some or all things of which it shows a good deal, perhaps where they are.

    index_map: (H,W) of the part. Things of less than 1.5 % of it go unmentioned, as in captions of photographs.
    """
    shares = np.bincount(index_map.ravel(), minlength=len(segments)) / index_map.size
    things = [segments[i] for i in rng.permutation(len(segments)) if segments[i][1] and shares[i] > 0.015]
    ground = [noun for (noun, color), share in zip(segments, shares, strict=True) if not color and share > 0.1]
    colored = rng.random() < 0.5
    words = [f"{color} {noun}" if colored else noun for noun, color in things]
    caption = " and ".join(map(article, words))
    place = str(ground[rng.integers(len(ground))]) if ground else "scene"
    if not caption:
        return place
    return f"{caption} on {place}" if rng.random() < 0.3 else caption


def batches(config: PretrainClipConfig, start: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield (normalised images, captions) without end, as a function of seed and step: a resumed run sees the same."""
    seed, cache = 1_000_000 * (config.seed + 1), Path(config.cache)
    closeup_pool = PoolConfig(config.closeups, ((64, 64),), seed, objects=(1, 2), closeup=True)
    scene_pool = PoolConfig(config.scenes, (SIZE,), seed + config.closeups, objects=(1, 4), plain_captions=3)
    closeups, scenes = (
        [read_chunk(path) for path in tqdm(build_pool(pool, cache), desc="reading scenes", unit="chunk")]
        for pool in (closeup_pool, scene_pool)
    )
    step = start
    while True:
        rng = np.random.default_rng((config.seed, step))
        early = step < config.closeup_steps * config.steps
        kind = "close" if early else str(rng.choice(["close", "part", "whole"], p=(0.4, 0.4, 0.2)))
        count = max(2, config.batch // {"close": 1, "part": 2, "whole": 8}[kind])
        pool = closeups if kind == "close" else scenes
        chunk = pool[rng.integers(len(pool))]
        rows = rng.choice(len(chunk), min(count, len(chunk)), replace=False)
        if kind == "part":
            corners = [tuple(rng.integers(whole - PART + 1) for whole in SIZE) for _ in rows]
            windows = [np.s_[row, y : y + PART, x : x + PART] for row, (y, x) in zip(rows, corners, strict=True)]
            images = to_tensor(np.stack([chunk.images[window] for window in windows]))
            captions = [window_caption(chunk.index_maps[window], chunk.segments[window[0]], rng) for window in windows]
        else:
            images = to_tensor(chunk.images[rows])
            captions = [str(chunk.captions[row, rng.integers(chunk.captions.shape[1])]) for row in rows]
        if early:
            images = F.interpolate(images, size=(48, 48), mode="area")
        if kind != "whole" and rng.random() < 0.5:  # captions of scenes may say what is on the left
            images = images.flip(3)
        yield images, captions
        step += 1


def random_position(encoder: ClipEncoder, images: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the position embeddings (1+P,C) of a window of the size of `images` (B,3,h,w), drawn anywhere."""
    grid = (SIZE[0] // PATCH, SIZE[1] // PATCH)
    return encoder.window_position(grid, *random_window(SIZE, images.shape[2:], rng))


class ZeroShot:
    """Held-out images of one thing each, to be told apart by noun and by colour."""

    def __init__(self, count: int):
        seeds = range(90_000_000, 90_000_000 + count)
        closeups = [render_closeup(seed, (64, 64), "all", (1, 1))[0] for seed in seeds]
        scenes = [render(seed, SIZE, "all", (1, 1), 2) for seed in seeds]
        self.images = {"closeup": closeups, "scene": scenes}
        self.words = {"noun": list(NOUNS), "color": list(COLORS)}

    @torch.no_grad()
    def __call__(self, encoder: ClipEncoder, device: torch.device) -> dict[str, float]:
        """Return the share named right of all nouns and of all colours, for close views and for whole scenes."""
        scores = {}
        for kind, scenes in self.images.items():
            images = to_tensor(np.stack([scene.image for scene in scenes])).to(device)
            position = random_position(encoder, images, np.random.default_rng(0))
            features = torch.cat([encoder.image_embedding(part, position) for part in images.split(50)]).float()
            things = [next(s for s in scene.segments if s.kind == "thing") for scene in scenes]
            for name, words in self.words.items():
                prompts = [f"a {word}" if name == "noun" else f"a {word} object" for word in words]
                text = F.normalize(encoder.encode_text(encoder.tokenize(prompts).to(device)).float(), dim=-1)
                guesses = [words[index] for index in (features @ text.T).argmax(dim=1).tolist()]
                hits = [guess == getattr(thing, name) for guess, thing in zip(guesses, things, strict=True)]
                scores[f"{kind}_{name}"] = round(float(np.mean(hits)), 3)
        return scores


def train(config: PretrainClipConfig) -> Path:
    """Train and return the path of `clip.pt` (weights only; load with weights_only=True)."""
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    torch.manual_seed(config.seed)
    device = choose_device(config.device)

    write_merges(output)
    encoder = ClipEncoder(open_clip.CLIP(**TINY_CLIP), tokenizer(output)).to(device)
    clip = encoder.clip.requires_grad_(True)
    mimetic_attention(clip.visual)
    blocks = [*clip.visual.transformer.resblocks, *clip.transformer.resblocks]
    loss_function = open_clip.ClipLoss()
    optimizer = MuonAdamW(clip, blocks, config.learning_rate, config.weight_decay)
    start = load_checkpoint(output, clip, optimizer) if config.resume else 0

    stream, zero_shot = batches(config, start), ZeroShot(config.held_out)
    writer = SummaryWriter(str(output))
    with tqdm(total=config.steps, initial=start, desc="clip", unit="step", mininterval=5) as bar:
        for step in range(start, config.steps):
            images, captions = next(stream)
            factor = cosine_with_warmup(step, config.warmup, config.steps)
            optimizer.set_rate(factor * config.learning_rate)
            tokens = encoder.tokenize(captions).to(device)
            with autocast(device):
                position = random_position(encoder, images, np.random.default_rng((config.seed, step, 1)))
                image_features = encoder.image_embedding(images.to(device), position)
                text_features = encoder.encode_text(tokens)
            image_features, text_features = (F.normalize(f.float(), dim=-1) for f in (image_features, text_features))
            loss = loss_function(image_features, text_features, clip.logit_scale.exp())
            optimizer.zero_grad()
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
            if (step + 1) % 100 == 0:
                save_checkpoint(output, clip, optimizer, step + 1)
                scores = zero_shot(encoder, device)
                for name, value in scores.items():
                    writer.add_scalar(f"zero_shot/{name}", value, step)
                bar.write(f"step {step + 1}: loss {loss.item():.3f}, zero-shot " + json.dumps(scores))
    writer.close()
    path = output / "clip.pt"
    torch.save({"clip": clip.state_dict(), "zero_shot": zero_shot(encoder, device), "steps": config.steps}, path)
    print(f"wrote {path}")
    return path


if __name__ == "__main__":
    train(jsonargparse.auto_cli(PretrainClipConfig, as_positional=False))
