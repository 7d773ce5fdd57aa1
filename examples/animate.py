"""Make an animated image of photographs in which labels are typed, one after the other.

    python examples/animate.py docs/images/labels.webp
    python examples/animate.py mine.webp --images photos/ --labels "person, sofa, mug"

Without --images it shows the photographs that ship with the project, each with labels that change.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

import synseg_ros.player.photographs
from synseg_model import Segmenter
from synseg_model.files import write_whole
from synseg_model.io.drawing import overlay
from synseg_model.io.fonts import draw_text
from synseg_model.io.sources import ImageFiles, open_source

SHIPPED = Path(synseg_ros.player.photographs.__file__).parent
# What is typed for each of them: list after list.
TYPED = {
    "cat.jpg": ["cat", "kitten, wall"],
    "skyline.jpg": ["building", "skyscraper, sky"],
    "osprey.jpg": ["bird", "bird, tree"],
    "astronaut.jpg": ["person", "woman", "face, hair"],
    "coffee.jpg": ["cup", "cup, table"],
    "tourist.jpg": ["person"],
}
TYPING, READING = 70, 1300  # milliseconds of a letter, and of the finished list
BAR = 40  # pixels
PAPER, INK, HINT = (28, 30, 34), (240, 240, 240), (150, 150, 150)


@dataclass(frozen=True)
class Step:
    """One image of the animation, and for how many milliseconds it stays."""

    image: np.ndarray
    milliseconds: int


def texts_of(name: str, labels: str) -> list[str]:
    """Return what is typed for an image: the labels that were given, else those of the project's photograph."""
    return [labels] if labels else TYPED[name]


def steps(segmenter: Segmenter, image: np.ndarray, lists: list[str]) -> Iterator[Step]:
    """Type list after list under an image; the masks change when a list is complete."""
    shown = image
    for text in lists:
        for end in range(1, len(text), 2):
            yield Step(with_bar(shown, text[:end]), 2 * TYPING)
        segmenter.set_vocabulary([label.strip() for label in text.split(",")])
        shown = overlay(image, segmenter.segment(image))
        yield Step(with_bar(shown, text), READING)


def with_bar(image: np.ndarray, text: str) -> np.ndarray:
    """Put a line of text under an image."""
    bar = Image.new("RGB", (image.shape[1], BAR), PAPER)
    draw_text(bar, (12, BAR / 2), "labels:", 18, HINT, anchor="lm")
    draw_text(bar, (80, BAR / 2), text + "|", 18, INK, anchor="lm")
    return np.vstack([image, np.asarray(bar)])


def fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale an image so that it covers a size, and cut off what is too much on both sides."""
    scale = max(width / image.shape[1], height / image.shape[0])
    size = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    large = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.ascontiguousarray(large[top : top + height, left : left + width])


def write(path: Path, animation: list[Step], quality: int) -> None:
    """Write an animated WebP, GIF or PNG, whole or not at all."""
    images = [Image.fromarray(step.image) for step in animation]
    options = {"quality": quality, "method": 5} if path.suffix.lower() == ".webp" else {}
    times = [step.milliseconds for step in animation]
    kind = Image.registered_extensions()[path.suffix.lower()]
    write_whole(
        path,
        lambda file: images[0].save(
            file, kind, save_all=True, append_images=images[1:], duration=times, loop=0, **options
        ),
    )


def main() -> int:
    """Segment the images and write the animation; return 0, or 2 for what the user can put right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help=".webp, .gif or .png to write")
    parser.add_argument("--images", type=Path, help="an image, a folder or a video")
    parser.add_argument("--labels", default="", help='typed for each image, such as: "person, sofa, mug"')
    parser.add_argument("--model", default="synseg-everyday", help="a shipped model or a model folder")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 320), metavar=("WIDTH", "HEIGHT"), help="pixels")
    parser.add_argument("--quality", type=int, default=60, help="of a WebP, 0 to 100 (default: 60)")
    arguments = parser.parse_args()
    if arguments.output.suffix.lower() not in (".webp", ".gif", ".png"):
        parser.error(f"{arguments.output}: expected a name that ends with .webp, .gif or .png")
    if bool(arguments.images) != bool(arguments.labels):
        parser.error("--images and --labels belong together")
    try:
        source = open_source(arguments.images) if arguments.images else ImageFiles(SHIPPED / name for name in TYPED)
        segmenter = Segmenter.load(arguments.model)
        animation = [
            step
            for name, image in tqdm(source, unit="image")
            for step in steps(segmenter, fit(image, *arguments.size), texts_of(name, arguments.labels))
        ]
        write(arguments.output, animation, arguments.quality)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.output}: {len(animation)} images, {arguments.output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
