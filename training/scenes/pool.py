"""Scenes rendered once into files, so that several epochs of training cost one rendering.

A pool is a folder of chunks, `00000.npz` and so on. Chunk and image are functions of the pool's settings alone, so
a broken rendering goes on where it stopped and two machines make the same pool.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from synseg_model.files import write_whole
from training.scenes.captions import article
from training.scenes.scenes import Scene, make_scene

CHUNK = 500  # scenes in a file


@dataclass(frozen=True)
class PoolConfig:
    """Say which scenes a pool holds.

    sizes: (height, width) of the images; chunk i has size i modulo their number.
    objects: least and most things in a scene. captions: phrasings kept for each.
    plain_captions: further captions that name the things alone ("a key and a ball"), as most captions of the web do.
        Colours and stuff tell most scenes of a batch apart; these make CLIP learn shapes too.
    closeup: crop each image around one of its things and name that thing alone, as a product photo does.
    supersample: scenes are rendered larger by a factor drawn from these and then shrunk, as a camera's frames are.
    """

    count: int
    sizes: tuple[tuple[int, int], ...]
    seed: int
    split: str = "all"
    objects: tuple[int, int] = (1, 4)
    captions: int = 4
    plain_captions: int = 0
    closeup: bool = False
    supersample: tuple[int, ...] = (1, 1, 2)

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Chunk:
    """Hold images of one size.

    images: (N,H,W,3) uint8. index_maps: (N,H,W) uint8. segments[i][index] is (noun, color).
    """

    images: np.ndarray
    index_maps: np.ndarray
    segments: list[list[tuple[str, str | None]]]
    captions: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def render(seed: int, size: tuple[int, int], split: str, objects: tuple[int, int], scale: int) -> Scene:
    """Render a scene `scale` times larger and shrink it to `size`, as a camera image reaches the network."""
    height, width = size
    scene = make_scene(seed, size=(height * scale, width * scale), split=split, objects=objects)
    if scale == 1:
        return scene
    image = cv2.resize(scene.image, (width, height), interpolation=cv2.INTER_AREA)
    index_map = cv2.resize(scene.index_map, (width, height), interpolation=cv2.INTER_NEAREST)
    return dataclasses.replace(scene, image=image, index_map=index_map)


def _plain_captions(scene: Scene, count: int, seed: int) -> list[str]:
    rng = np.random.default_rng((seed, 1))
    things = [s.noun for s, area in zip(scene.segments, scene.areas, strict=True) if s.kind == "thing" and area]
    captions = []
    for _ in range(count):
        captions.append(" and ".join(map(article, rng.permutation(things))) if things else scene.caption)
    return captions


def render_closeup(seed: int, size: tuple[int, int], split: str, objects: tuple[int, int]) -> tuple[Scene, list[str]]:
    """Render a scene and crop a square around one of its things; returns it with captions of that thing."""
    rng = np.random.default_rng((seed, 2))
    scene = make_scene(seed, size=(160, 160), split=split, objects=objects)
    chosen = rng.choice([i for i, segment in enumerate(scene.segments) if segment.kind == "thing"])
    thing = scene.segments[chosen]
    x, y, width, height = cv2.boundingRect((scene.index_map == chosen).view(np.uint8))
    side = min(160, int(max(width, height) * rng.uniform(1.05, 1.5)))
    left, top = (
        int(np.clip(start + (length - side) / 2 + rng.uniform(-0.1, 0.1) * side, 0, 160 - side))
        for start, length in ((x, width), (y, height))
    )
    window = np.s_[top : top + side, left : left + side]
    scene = dataclasses.replace(
        scene,
        image=cv2.resize(scene.image[window], size[::-1], interpolation=cv2.INTER_AREA),
        index_map=cv2.resize(scene.index_map[window], size[::-1], interpolation=cv2.INTER_NEAREST),
        geometry=None,
    )
    noun, pair = article(thing.noun), article(f"{thing.color} {thing.noun}")
    return scene, [
        noun,
        pair,
        f"a picture of {noun}",
        pair,
        f"a close view of {pair}",
        thing.noun,
        f"the {thing.color} {thing.noun}",
    ]


def _render_chunk(config: PoolConfig, number: int, path: Path) -> None:
    cv2.setNumThreads(1)
    size = config.sizes[number % len(config.sizes)]
    images, index_maps, segments, captions = [], [], [], []
    for i in range(number * CHUNK, min((number + 1) * CHUNK, config.count)):
        seed = config.seed + i
        if config.closeup:
            scene, texts = render_closeup(seed, size, config.split, config.objects)
        else:
            scale = config.supersample[i % len(config.supersample)]
            scene = render(seed, size, config.split, config.objects, scale)
            texts = [*scene.captions(config.captions), *_plain_captions(scene, config.plain_captions, seed)]
        images.append(scene.image)
        index_maps.append(scene.index_map)
        segments.append([(segment.noun, segment.color) for segment in scene.segments])
        captions.append(texts)
    arrays = {
        "images": np.stack(images),
        "index_maps": np.stack(index_maps),
        "segments": np.array(json.dumps(segments)),
        "captions": np.array(captions),
    }
    write_whole(path, lambda file: np.savez(file, **arrays))


def build_pool(config: PoolConfig, root: Path, workers: int | None = None) -> list[Path]:
    """Render what is missing of a pool under `root`, with a progress bar; return its chunk files."""
    folder = Path(root) / f"scenes-{config.split}-{config.key}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.npz" for number in range(-(-config.count // CHUNK))]
    missing = [(number, path) for number, path in enumerate(paths) if not path.exists()]
    if missing:
        # spawn: a child forked beside the threads of torch and OpenCV can wait forever
        with ProcessPoolExecutor(workers or os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(_render_chunk, config, number, path) for number, path in missing]
            for job in tqdm(jobs, desc=f"rendering {config.count} {config.split} scenes", unit="chunk"):
                job.result()
    return paths


def read_chunk(path: Path) -> Chunk:
    """Read a chunk file; nothing in it is unpickled."""
    with np.load(path, allow_pickle=False) as file:
        segments = [[tuple(segment) for segment in scene] for scene in json.loads(str(file["segments"]))]
        return Chunk(file["images"], file["index_maps"], segments, file["captions"])
