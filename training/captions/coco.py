"""Captions in a COCO annotations file, captions_*.json: several for each image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.captions.samples import BAD_LINE, CaptionSample, ShardFile, checked
from training.captions.sidecars import sidecar_name


@dataclass(frozen=True)
class CocoShard(ShardFile):
    """Some images of a COCO file with their captions, carried along: the file is read once, by the caller."""

    index: int
    parts: int
    rows: tuple[CaptionSample, ...]

    @property
    def name(self) -> str:
        """Name the file and the part of it."""
        return f"{self.path.name} #{self.index}"

    def identity(self) -> dict[str, object]:
        """Name the file, and which part of how many this is."""
        return {**super().identity(), "part": self.index, "parts": self.parts}

    def samples(self) -> Iterator[CaptionSample]:
        """Yield the captions, those of an image one after the other; the key is the image's file name."""
        return iter(self.rows)


def coco_shards(path: Path, folder: Path, shard_size: int) -> list[CocoShard]:
    """Split a COCO captions file into shards of about `shard_size` captions, sorted by image and caption id.

    Raises:
        ValueError: the file is no COCO captions file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: Path(image["file_name"]).stem for image in data["images"]}
        annotations = list(data["annotations"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no COCO captions file ({type(error).__name__}: {error}); expected a JSON object with "
            '"images" (id, file_name) and "annotations" (id, image_id, caption).'
        ) from error
    rows = sorted((_sample(number, entry, names) for number, entry in enumerate(annotations)), key=_order)
    starts = [0]
    for i, row in enumerate(rows):
        if i - starts[-1] >= shard_size and row.key != rows[i - 1].key:
            starts.append(i)
    ends = [*starts[1:], len(rows)]
    return [
        CocoShard(path, folder / sidecar_name(i), i, len(starts), tuple(rows[start:end]))
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _sample(number: int, entry: object, names: dict[object, str]) -> CaptionSample:
    if not isinstance(entry, dict) or entry.get("image_id") not in names or not isinstance(entry.get("id"), int):
        return CaptionSample(f"annotation {number}", problem=BAD_LINE)
    return checked(names[entry["image_id"]], entry.get("caption"), entry["id"])


def _order(sample: CaptionSample) -> tuple[str, int]:
    return sample.key, sample.caption_id if isinstance(sample.caption_id, int) else -1
