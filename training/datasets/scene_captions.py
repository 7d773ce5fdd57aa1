"""Generated scenes with captions: what training a CLIP on images and texts sees.

It starts with small close views of one thing, which teach shapes soonest and cost least, and goes on with parts of
scenes and whole scenes among them. Small images get the positions of a window of a whole one, drawn anew for every
batch: so patches learn to attend to what is near them wherever they are, and what close views taught holds in whole
scenes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.nn import functional as F
from tqdm import tqdm

from training.datasets.arrays import to_tensor
from training.loop.trainer import Share
from training.networks.tiny_clip import SIZE, random_window
from training.objective.batch import ContrastBatch
from training.scenes.captions import article
from training.scenes.pool import Chunk, PoolConfig, build_pool, read_chunk

PART = 96  # side of a part of a scene in pixels
CLOSE = 48  # side in pixels to which close views are shrunk at first


@dataclass
class SceneCaptionConfig:
    """Which scenes with captions a CLIP sees.

    Args:
        cache: folder for the rendered scenes.
        closeups: number of close views, 64x64 pixels each.
        scenes: number of whole scenes, 168x224 pixels each. Captions name things of every split, as those of the web
            would.
        closeup_steps: share of the steps that see close views alone, shrunk to 48 pixels. Later, two in five steps see
            close views.
    """

    cache: str = "runs/cache"
    closeups: int = 40_000
    scenes: int = 10_000
    closeup_steps: float = 0.45


def window_caption(index_map: np.ndarray, segments: list[tuple[str, str | None]], rng: np.random.Generator) -> str:
    """Caption a part of a scene: some or all things of which it shows a good deal, perhaps where they are.

    Args:
        index_map: (H,W) of the part, indices of segments.
        segments: noun and colour of each; stuff has no colour. Things of less than 1.5 % of the part go unmentioned,
            as in captions of photographs.
        rng: chooses the words.

    Returns:
        The caption.
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


class SceneCaptionBatches:
    """Batches of close views, parts of scenes and whole scenes, with captions.

    They are a function of seed and step. A step of `batch` close views has half as many parts of scenes in their place,
    or an eighth as many whole scenes.
    """

    def __init__(self, config: SceneCaptionConfig, seed: int, steps: int):
        """Render what is missing of the scenes and read them.

        Args:
            config: which scenes.
            seed: of the scenes and of what each step sees.
            steps: of the whole run.
        """
        self.config, self.seed, self.steps = config, seed, steps
        first, cache = 1_000_000 * (seed + 1), Path(config.cache)
        closeups = PoolConfig(config.closeups, ((64, 64),), first, objects=(1, 2), closeup=True)
        scenes = PoolConfig(config.scenes, (SIZE,), first + config.closeups, objects=(1, 4), plain_captions=3)
        self.closeups, self.scenes = (_read(pool, cache) for pool in (closeups, scenes))

    def __call__(self, share: Share) -> Iterator[list[ContrastBatch]]:
        """Yield the parts of each step, without end."""
        step = share.start
        while True:
            yield [self.part(step, number, share) for number in share.numbers()]
            step += 1

    def part(self, step: int, number: int, share: Share) -> ContrastBatch:
        """Draw a part of a step: its number among the parts of all processes decides what it shows."""
        rng = np.random.default_rng((self.seed, step, 0, number))
        early = step < self.config.closeup_steps * self.steps
        kind = "close" if early else str(rng.choice(["close", "part", "whole"], p=(0.4, 0.4, 0.2)))
        count = max(2, share.size // {"close": 1, "part": 2, "whole": 8}[kind])
        pool = self.closeups if kind == "close" else self.scenes
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
            images = F.interpolate(images, size=(CLOSE, CLOSE), mode="area")
        if kind != "whole" and rng.random() < 0.5:  # captions of scenes may say what is on the left
            images = images.flip(3)
        window = random_window(SIZE, images.shape[2:], np.random.default_rng((self.seed, step, 1, number)))
        return ContrastBatch(images.to(share.device), captions, window)


def _read(pool: PoolConfig, cache: Path) -> list[Chunk]:
    return [read_chunk(path) for path in tqdm(build_pool(pool, cache), desc="reading scenes", unit="chunk")]
