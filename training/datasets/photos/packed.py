"""Photographs of all sets packed into a few tar files: what a machine without the data sets trains on.

`python -m training.prepare_photos` writes them. A folder holds `index.json` (the sets with their exhaustive names, the
number of photographs of each), and shards with an image, JSON, and an index map where there are masks, for each
photograph. Images are decoded on demand.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from synseg_model.files import write_json, write_whole
from training.datasets.photos.photo import Photo, PhotoError

INDEX_FILE = "index.json"
SHARD_BYTES = 48 * 2**20
QUALITY = 88  # of JPEG; the sets are reduced already, and a network of 288 pixels sees no difference


@dataclass(frozen=True)
class Packed:
    """A photograph as bytes, and what its set says of it.

    Attributes:
        set: the set's name. key: of the photograph. kind: masks, captions or names.
        image, index_map: encoded; index_map is empty without masks.
        regions: names of each region. names: of the whole image, or of its captions' labels.
    """

    set: str
    key: str
    kind: str
    image: bytes
    index_map: bytes
    regions: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]

    def decode(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the image (H,W,3) uint8 RGB and the index map (H,W) uint8, None without masks.

        Raises:
            PhotoError: the bytes are no image, or the two differ in size.
        """
        image = _decode(self.image, cv2.IMREAD_COLOR)
        index_map = _decode(self.index_map, cv2.IMREAD_UNCHANGED)
        if image is None or (self.index_map and (index_map is None or index_map.shape != image.shape[:2])):
            raise PhotoError(f"{self.set} {self.key}: the packed image or its index map is damaged")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), index_map


def _decode(content: bytes, flags: int) -> np.ndarray | None:
    """Decode an image file's content; None where it is empty or no image."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None


def pack(photo: Photo, set_name: str, key: str, names: Iterable[str] = (), largest: int = 640) -> Packed:
    """Encode a photograph.

    Args:
        photo: what to encode.
        set_name: its data set.
        key: its name there.
        names: of the whole image; by default the photograph's own.
        largest: longer side in pixels. A larger photograph is reduced to it.

    Returns:
        The packed photograph.
    """
    image, index_map = photo.image, photo.index_map
    scale = largest / max(image.shape[:2])
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        index_map = None if index_map is None else cv2.resize(index_map, size, interpolation=cv2.INTER_NEAREST)
    kind = "masks" if index_map is not None else "captions" if photo.captions else "names"
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    png = b"" if index_map is None else cv2.imencode(".png", index_map)[1].tobytes()
    return Packed(set_name, key, kind, jpeg, png, photo.regions, tuple(names) or photo.names)


def write_packed(folder: Path, photos: Iterable[Packed], about: dict) -> dict:
    """Write shards of at most about SHARD_BYTES, and the index.

    Args:
        folder: where to write.
        photos: what to write.
        about: what else the index says.

    Returns:
        The index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards, counts, group, size = [], Counter(), [], 0

    def finish() -> None:
        nonlocal group, size
        name = f"{len(shards):05d}.tar"
        write_whole(folder / name, partial(_write_shard, group))
        shards.append(name)
        group, size = [], 0

    for photo in photos:
        group.append(photo)
        counts[photo.set] += 1
        size += len(photo.image) + len(photo.index_map)
        if size >= SHARD_BYTES:
            finish()
    if group:
        finish()
    index = {**about, "counts": dict(counts), "shards": shards}
    write_json(folder / INDEX_FILE, index, indent=1)
    return index


def _write_shard(photos: list[Packed], file: io.BufferedIOBase) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, photo in enumerate(photos):
            about = {"set": photo.set, "key": photo.key, "kind": photo.kind, "regions": photo.regions,
                     "names": photo.names}  # fmt: skip
            members = {"jpg": photo.image, "png": photo.index_map, "json": json.dumps(about).encode()}
            for ending, content in members.items():
                if content:
                    member = tarfile.TarInfo(f"{number:06d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def read_packed(folder: str | Path) -> tuple[dict, list[Packed]]:
    """Read a folder that `write_packed` wrote into memory: its index and its photographs, still encoded.

    Raises:
        ValueError: the folder holds none, or its index or a shard is missing or damaged.
    """
    folder = Path(folder)
    try:
        index = json.loads((folder / INDEX_FILE).read_text())
        photos = [photo for name in index["shards"] for photo in _read_shard(folder / name)]
        expected = sum(index["counts"].values())
        if "exhaustive" not in index or len(photos) != expected:  # a shard cut between two photographs reads well
            raise ValueError(f"{len(photos)} photographs, of {expected} that {INDEX_FILE} counts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{folder} holds no packed photographs ({problem}): python -m training.prepare_photos "
            f"--output {folder.parent} packs them"
        ) from None
    return index, photos


def _read_shard(path: Path) -> Iterator[Packed]:
    """Yield a shard's photographs; raise OSError where it is missing, ValueError where it is damaged."""
    try:
        with tarfile.open(path, "r:") as tar:
            files: dict[str, dict[str, bytes]] = {}
            for member in tar:
                key, _, ending = member.name.partition(".")
                files.setdefault(key, {})[ending] = tar.extractfile(member).read()
        for content in files.values():
            about = json.loads(content["json"])
            regions = tuple(tuple(names) for names in about["regions"])
            yield Packed(about["set"], about["key"], about["kind"], content["jpg"], content.get("png", b""), regions,
                         tuple(about["names"]))  # fmt: skip
    except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from None
