"""Pairs from webdataset shards, as img2dataset writes them, and the label sidecars of training.prepare beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import webdataset as wds
from webdataset.tariterators import tarfile_samples

from training.captions.sidecars import read_header, read_sidecar
from training.captions.sources import find_shards
from training.captions.webdataset_shards import IMAGES, TarShard
from training.datasets.pairs import Damages, Pair, Pairs, decode_image

MISSING, UNREADABLE, BAD_IMAGE = "labelled image missing from its shard", "damaged shard", "damaged image"


class _Encoded(NamedTuple):
    place: str
    image: bytes
    labels: list[str]


class WebdatasetPairs(Pairs):
    """Pairs streamed from shards: whole shards go to nodes and workers, in another order every epoch.

    Within a worker a buffer shuffles the images, still encoded. A node needs at least one shard; workers without one
    have nothing to do, so that there should be several times more shards than workers.

    Attributes:
        size: pairs in an epoch of all nodes together, as the sidecars say; damaged images are among them.
    """

    def __init__(self, shards: str | Path, labels: str | Path | None = None, buffer: int = 5000, seed: int = 0) -> None:
        """Find shards and sidecars.

        Args:
            shards: a folder, or a pattern with braces or wildcards: cc12m/{00000..01242}.tar.
            labels: folder of the sidecars, where they do not lie beside the shards.
            buffer: images in the buffer of a worker; 1 keeps the order within a shard.

        Raises:
            ValueError: there are no such shards, or one has no sidecar or one made of other data.
        """
        super().__init__(seed)
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}; it must be 1 or more")
        self.buffer = buffer
        found, _ = find_shards(str(shards), str(labels) if labels else None)
        self.size = sum(_kept(shard) for shard in found)
        self.sidecars = {str(shard.path.absolute()): shard.sidecar for shard in found}

    def read(self, damages: Damages) -> Iterator[Pair]:
        """Yield this worker's pairs of the epoch."""
        rank, nodes, worker, _ = self.place()
        if nodes > len(self.sidecars):
            raise ValueError(f"{len(self.sidecars)} shards for {nodes} nodes: each needs one, write smaller shards")
        paths = list(self.sidecars)
        self.rng().shuffle(paths)
        return iter(
            wds.DataPipeline(
                wds.SimpleShardList(paths),
                self.share,
                partial(self._labelled, damages),
                wds.shuffle(self.buffer, initial=self.buffer, rng=self.rng(rank, worker)),
                partial(_decoded, damages),
            )
        )

    def _labelled(self, damages: Damages, shards: Iterable[dict[str, str]]) -> Iterator[_Encoded]:
        """Yield the samples that have labels, shard by shard."""
        for shard in shards:
            path = Path(shard["url"])
            records = read_sidecar(self.sidecars[shard["url"]])
            labels = {record.key: list(record.labels) for record in records if record.labels}
            for sample in tarfile_samples([shard], handler=partial(_note_damage, damages, path.name)):
                key = sample["__key__"]
                image = next((sample[extension] for extension in IMAGES if sample.get(extension)), None)
                if image and key in labels:
                    yield _Encoded(f"{path.name}: {key}", image, labels.pop(key))
            if labels:
                damages.note(MISSING, f"{path.name}: {next(iter(labels))}", len(labels))


def _kept(shard: TarShard) -> int:
    """Count the labelled samples of a shard and check that its sidecar was made of it."""
    if not isinstance(shard, TarShard):
        raise ValueError(f"{shard.path} is no webdataset shard; expected .tar files")
    remedy = "run python -m training.prepare on the shards first"
    try:
        header = read_header(shard.sidecar)
    except FileNotFoundError:
        raise ValueError(f"{shard.path} has no labels, {shard.sidecar} is missing: {remedy}") from None
    size = shard.path.stat().st_size
    if header.source.get("bytes") != size:
        raise ValueError(
            f"{shard.sidecar} is of a shard of {header.source.get('bytes')} bytes, {shard.path} has {size}: {remedy}"
        )
    return header.kept


def _note_damage(damages: Damages, name: str, error: Exception) -> bool:
    """Take an error of webdataset's; true tells it to go on."""
    damages.note(UNREADABLE, f"{name}: {error.args[0] if error.args else error!r}")
    return True


def _decoded(damages: Damages, samples: Iterable[_Encoded]) -> Iterator[Pair]:
    for place, image, labels in samples:
        try:
            image = decode_image(image)
        except ValueError:
            damages.note(BAD_IMAGE, place)
            continue
        yield Pair(image, labels)
