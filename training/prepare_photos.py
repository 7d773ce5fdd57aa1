"""Pack photographs for training: `python -m training.prepare_photos --root ../shared/data`.

The program reads every data set once. It holds out a share of each for measuring, turns captions into labels with
spaCy, and writes one folder. `training.pretrain_photos` reads this folder on any machine, without the data sets, spaCy
or a network.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from training.captions.extraction import extract_labels, head_noun
from training.captions.stop_words import stop_list
from training.captions.taggers import load_tagger
from training.datasets.photos import MissingPhotosError, PhotoError, PhotoSet, training_and_held_out
from training.datasets.photos.names import clean_name
from training.datasets.photos.packed import Packed, pack, write_packed
from training.loop.command_line import run_program

SETS = {
    "nyu": ("nyu", "nyu-depth-v2"),
    "camvid": ("camvid", "camvid"),
    "voc": ("voc", "voc-aug"),
    "clothing": ("clothing", "clothing-co-parsing"),
    "coco": ("coco", "coco-mini"),
    "flickr8k": ("flickr8k", "flickr8k"),
    "caltech101": ("folders", "caltech101"),
    "imagenet": ("folders", "imagenet-sample"),
}
MEASURED = {"nyu", "camvid", "voc", "clothing", "coco"}  # sets with masks, of which a share is held out


@dataclass
class PreparePhotosConfig:
    """What to pack.

    Args:
        root: folder that holds the data sets, each in a folder of its own.
        output: folder to write. It gets the folders `train` and `held_out`.
        folders: other places of data sets, by the names in `sets`.
        sets: data sets to read. Those whose folder is missing are listed and left out.
        share: share of each set with masks that is held out from training, from 0 to 1. CamVid has a split of its own.
        seed: seed of the held-out share.
    """

    root: str = "../shared/data"
    output: str = "runs/photos"
    folders: dict[str, str] = field(default_factory=dict)
    sets: tuple[str, ...] = tuple(SETS)
    share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.sets) - set(SETS))
        if unknown:
            raise ValueError(f"sets {', '.join(unknown)}: expected some of {', '.join(SETS)}")


def prepare(config: PreparePhotosConfig) -> Path:
    """Write both parts and return the output folder; raise ValueError where no data set was found."""
    train, apart = [], []
    for name in config.sets:
        kind, folder = SETS[name]
        place = Path(config.folders.get(name, Path(config.root) / folder))
        try:
            parts = training_and_held_out(kind, place, config.share if name in MEASURED else 0.0, config.seed)
        except MissingPhotosError as error:
            reason = str(error).splitlines()[0].removesuffix(" Expected:")
            print(f"{name}: left out, {reason}", file=sys.stderr)
            continue
        train.append((name, parts[0]))
        apart.append((name, parts[1]))
    if not train:
        folders = ", ".join(SETS[name][1] for name in config.sets)
        raise ValueError(f"no data set below {config.root}: expected folders {folders}, or others by --folders")
    output = Path(config.output)
    for part, sets in (("train", train), ("held_out", apart)):
        damages: Counter[str] = Counter()
        about = {"settings": asdict(config), "exhaustive": {name: list(photos.exhaustive) for name, photos in sets}}
        index = write_packed(output / part, _packed(sets, config, damages), about)
        for problem, count in damages.most_common(20):
            print(f"left out: {problem}" + (f" ({count} times)" if count > 1 else ""), file=sys.stderr)
        print(f"{output / part}: " + ", ".join(f"{name} {count}" for name, count in index["counts"].items()))
    return output


def _packed(sets: list[tuple[str, PhotoSet]], config: PreparePhotosConfig, damages: Counter[str]) -> Iterator[Packed]:
    for name, photos in sets:
        for place in tqdm(range(len(photos)), desc=name, unit="image", mininterval=1):
            try:
                photo = photos[place]
            except PhotoError as error:
                damages[str(error)] += 1
                continue
            names = caption_names(photo.captions) if photo.captions and photo.index_map is None else photo.names
            yield pack(photo, name, photos.keys[place], names)


def caption_names(captions: tuple[str, ...]) -> list[str]:
    """Return the cleaned labels of an image's captions and their nouns alone, each once.

    "A brown dog" says that there is a dog, too: without the nouns, a name that is always described would not be met.
    """
    stop = stop_list()
    labels = [label for words in load_tagger().tag(captions) for label in extract_labels(words, stop)]
    labels += [noun for noun in map(head_noun, labels) if noun not in stop.heads]
    return [*dict.fromkeys(name for name in map(clean_name, labels) if name)]


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and pack; returns 0, or 2 for what the user can put right."""
    return run_program(PreparePhotosConfig, prepare, arguments)


if __name__ == "__main__":
    sys.exit(run())
