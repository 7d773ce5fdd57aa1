"""Pairs with regions in webdataset shards: images, label maps and captions' labels as ordinary files in tars."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import webdataset as wds
from PIL import Image
from tqdm import tqdm
from webdataset.tariterators import tarfile_samples

from synseg_model.files import write_json, write_whole
from training.datasets.pairs import Damages, Pair, Pairs, Regions, decode_image

SHARD = 200  # pairs
INDEX_FILE = "index.json"


def write_regions(folder: Path, pairs: Callable[[int], Iterator[Pair]], size: int, settings: dict) -> None:
    """Write the shards that are missing, and the index that says what they hold.

    Args:
        folder: where to write.
        pairs: yields the pairs from a number on.
        size: how many there are. Fewer may come, where some are damaged.
        settings: of those who made the pairs; the index keeps them.

    Raises:
        OSError: the shards cannot be written.
    """
    if (folder / INDEX_FILE).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    with tqdm(total=size, desc="masks of captions", unit="image", mininterval=1) as bar:
        start = 0
        while (path := folder / f"{len(counts):05d}.tar").exists():  # of a broken run
            counts[path.name] = SHARD
            start += SHARD
        bar.update(start)
        stream = pairs(start) if start < size else iter(())
        while group := list(_counted(islice(stream, SHARD), bar)):
            path = folder / f"{len(counts):05d}.tar"
            write_whole(path, partial(_write_shard, group))
            counts[path.name] = len(group)
    index = {"settings": settings, "shards": counts}
    write_json(folder / INDEX_FILE, index)


def _counted(pairs: Iterable[Pair], bar: tqdm) -> Iterator[Pair]:
    for pair in pairs:
        yield pair
        bar.update()


def _write_shard(pairs: list[Pair], file: io.BufferedIOBase) -> None:
    with wds.TarWriter(file) as tar:
        for number, pair in enumerate(pairs):
            image, regions = (_png(array) for array in (pair.image, pair.regions.index_map))
            text = json.dumps({"labels": pair.labels, "names": pair.regions.names}).encode()
            tar.write({"__key__": f"{number:06d}", "png": image, "regions.png": regions, "json": text})


def _png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1)
    return file.getvalue()


class RegionPairs(Pairs):
    """Pairs with regions from a folder that `write_regions` wrote; images of a buffer are shuffled.

    Attributes:
        size: pairs in an epoch. settings: of those who made them.
    """

    def __init__(self, folder: str | Path, buffer: int = 2_000, seed: int = 0) -> None:
        """Read the index; raises OSError where there is none."""
        super().__init__(seed)
        index = json.loads((Path(folder) / INDEX_FILE).read_text())
        self.folder, self.buffer = Path(folder), buffer
        self.shards, self.settings = index["shards"], index["settings"]
        self.size = sum(self.shards.values())

    def read(self, damages: Damages) -> Iterator[Pair]:
        """Yield this worker's pairs of the epoch: every so many-th of one order, so that all processes share it."""
        paths = [str(self.folder / name) for name in self.shards]
        self.rng().shuffle(paths)
        encoded = wds.DataPipeline(
            wds.SimpleShardList(paths),
            partial(tarfile_samples, handler=partial(_note, damages)),
            wds.shuffle(self.buffer, initial=self.buffer, rng=self.rng(0)),
        )
        for sample in self.share(encoded):
            try:
                image, index_map = decode_image(sample["png"]), _decode_map(sample["regions.png"])
                text = json.loads(sample["json"])
                yield Pair(image, text["labels"], Regions(index_map, text["names"]))
            except (ValueError, KeyError) as error:
                damages.note("damaged sample", f"{sample['__url__']}: {sample['__key__']}: {error}")


def _decode_map(source: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(source)) as image:
        index_map = np.array(image)
    if index_map.ndim != 2 or index_map.dtype != np.uint8:
        raise ValueError(f"regions of shape {index_map.shape}, {index_map.dtype}: expected (H,W) uint8")
    return index_map


def _note(damages: Damages, error: Exception) -> bool:
    damages.note("damaged shard", str(error.args[0] if error.args else error))
    return True
