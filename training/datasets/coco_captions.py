"""Pairs of the COCO captions data set, or of another in its layout: a folder of images and one captions file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from training.captions.sidecars import read_header, read_sidecar, sidecar_name
from training.captions.sources import labels_folder
from training.datasets.pairs import Damages, Pair, Pairs, decode_image

NO_IMAGE, BAD_IMAGE = "labelled image missing from its folder", "damaged image"


class CocoCaptions(Pairs):
    """Every image once an epoch, with the labels of one of its captions, drawn by seed and epoch.

    Images are few enough to know them all by name: they are shuffled as a whole before nodes and workers share them.

    Attributes:
        size: pairs in an epoch of all nodes together; damaged images are among them.
    """

    def __init__(
        self, images: str | Path, captions: str | Path, labels: str | Path | None = None, seed: int = 0
    ) -> None:
        """Find images and labels.

        Args:
            images: folder of the images: coco/train2017.
            captions: coco/annotations/captions_train2017.json, whose labels training.prepare has extracted.
            labels: folder of these labels, where it is not beside the captions file.

        Raises:
            ValueError: labels are missing or were made of another file, or none of them is of an image that is there.
        """
        super().__init__(seed)
        captions, images = Path(captions), Path(images)
        folder = Path(labels) if labels else labels_folder(captions)
        self.labels = _read_labels(captions, folder)
        self.images = {path.stem: path for path in images.iterdir()} if images.is_dir() else {}
        if not self.labels.keys() & self.images.keys():
            raise ValueError(f"{images} holds none of the {len(self.labels)} images that {folder} has labels of")
        self.size = len(self.labels)

    def read(self, damages: Damages) -> Iterator[Pair]:
        """Yield this worker's pairs of the epoch."""
        rng = self.rng()
        chosen = [(key, rng.choice(captions)) for key, captions in self.labels.items()]
        rng.shuffle(chosen)
        for key, labels in self.share(chosen):
            if key not in self.images:
                damages.note(NO_IMAGE, key)
                continue
            try:
                image = decode_image(self.images[key])
            except ValueError:
                damages.note(BAD_IMAGE, self.images[key].name)
                continue
            yield Pair(image, list(labels))


def _read_labels(captions: Path, folder: Path) -> dict[str, list[tuple[str, ...]]]:
    """Read the sidecars of a captions file: for every image the labels of its captions that have some."""
    remedy = f"run python -m training.prepare --input {captions} --output {folder}"
    try:
        parts = int(read_header(folder / sidecar_name(0)).source["parts"])
        source = {"file": captions.name, "bytes": captions.stat().st_size, "parts": parts}
        found: dict[str, list[tuple[str, ...]]] = {}
        for part in range(parts):
            path = folder / sidecar_name(part)
            made_of = read_header(path).source
            if {name: made_of.get(name) for name in source} != source:
                raise ValueError(f"{path} was made of {made_of}, {captions} is {source}: {remedy}")
            for record in read_sidecar(path):
                if record.labels:
                    found.setdefault(record.key, []).append(tuple(map(sys.intern, record.labels)))
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is missing: {remedy}") from None
    except KeyError:
        raise ValueError(f"{folder} holds labels of something else than a captions file: {remedy}") from None
    return found
