"""Where training from captions takes its images: generated scenes, shards, COCO or packed photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.datasets.pairs import Pairs
from training.scenes.pool import PoolConfig


@dataclass
class DataConfig:
    """Where images and captions come from.

    Args:
        source: one of four. scenes: the program generates images. webdataset: shards as img2dataset writes them, after
            `training.prepare`. coco: a folder of images and a captions file, after `training.prepare`. photos: the
            photographs with captions of a folder that `training.prepare_photos` wrote.
        scenes: number of generated scenes. By default there are as many as the steps see: each takes time to render.
        scene_size: height and width of generated scenes in pixels. The default is what synseg-tiny sees of a 4:3
            camera.
        rehearsal: generated scenes with exact masks that are shown for each image whose masks are made of its caption.
            They are of the kind that the shipped decoder was pre-trained on. Needs objective.masks.
        cache: folder for generated scenes and for masks of captions.
        shards: a folder or a pattern of shards: "cc12m/{00000..01242}.tar".
        images: folder of the images of `captions`.
        captions: COCO captions file.
        photos: folder of packed photographs.
        labels: folder of the label files that training.prepare wrote; empty where they lie beside the data.
        buffer: images that each reader of shards shuffles among.
    """

    source: Literal["scenes", "webdataset", "coco", "photos"] = "scenes"
    scenes: int = 1_280
    scene_size: tuple[int, int] = (168, 224)
    rehearsal: float = 0.0
    cache: str = "runs/cache"
    shards: str = ""
    images: str = ""
    captions: str = ""
    photos: str = "runs/photos"
    labels: str = ""
    buffer: int = 5_000


def open_pairs(config: DataConfig, seed: int) -> Pairs:
    """Open the images with their labels.

    Args:
        config: which images.
        seed: of generated scenes, and of the order.

    Returns:
        The data set.

    Raises:
        ValueError: images or labels are missing.
    """
    if config.source == "scenes":
        from training.datasets.scene_pairs import ScenePairs

        pool = scene_pool(config.scene_size, config.scenes, 80_000_000 + 1_000_000 * seed)
        return ScenePairs(pool, config.cache, seed=seed)
    if config.source == "coco":
        from training.datasets.coco_captions import CocoCaptions

        return CocoCaptions(config.images, config.captions, config.labels or None, seed=seed)
    if config.source == "photos":
        from training.datasets.packed_captions import PackedCaptions

        return PackedCaptions(config.photos, seed=seed)
    from training.datasets.webdataset_pairs import WebdatasetPairs

    return WebdatasetPairs(config.shards, config.labels or None, config.buffer, seed)


def scene_pool(size: tuple[int, int], count: int, seed: int, split: str = "all") -> PoolConfig:
    """Describe scenes with captions for training: height and width in pixels, their number, seed and split."""
    return PoolConfig(count, (tuple(size),), seed, split, objects=(2, 5), captions=3, supersample=(1, 2))
