"""A slow move over the photographs, with the truth of every frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from synseg_model.io.image_file import read_image

FOLDER = Path(__file__).parent
MASKS_FILE = "masks.json"
SECONDS_EACH = 4 / 3
UNLABELLED, BACKGROUND = "unlabelled", "background"  # not known; known to be none of the labels
CLOSEST = 0.6, 0.8  # the closer view of a photograph, as a share of its widest
ASIDE = 0.12  # how far a view's middle may be from the photograph's focus, as a share of the view's size


@dataclass(frozen=True)
class Photograph:
    """One photograph with its masks.

    Attributes:
        name: Its name.
        focus: x and y, in pixels, of what it shows; views are centred there.
        image: (H, W, 3) uint8 RGB.
        index_map: (H, W) uint8, indices into the names of the masks.
    """

    name: str
    focus: tuple[float, float]
    image: np.ndarray
    index_map: np.ndarray


def load_photographs(folder: Path = FOLDER) -> tuple[list[Photograph], tuple[str, ...]]:
    """Read the photographs and draw their masks.

    Args:
        folder: Images and masks.json, which lists for each image its focus and its regions, as polygons in pixels.
            Later polygons cover earlier ones. What no polygon covers is unlabelled.

    Returns:
        The photographs in the order of the file, and the names that index maps point to: UNLABELLED, BACKGROUND, then
        the labels. Every label is drawn wherever it can be seen, so that elsewhere it is absent.

    Raises:
        MediaError: An image is missing or cannot be read.
    """
    entries = json.loads((folder / MASKS_FILE).read_text(encoding="utf-8"))["photographs"]
    found = (region["label"] for entry in entries for region in entry["regions"])
    names = tuple(dict.fromkeys((UNLABELLED, BACKGROUND, *found)))
    photographs = []
    for entry in entries:
        image = read_image(folder / entry["file"])
        index_map = np.zeros(image.shape[:2], np.uint8)
        for region in entry["regions"]:
            cv2.fillPoly(index_map, [np.array(region["polygon"], np.int32)], names.index(region["label"]))
        photographs.append(Photograph(Path(entry["file"]).stem, tuple(entry["focus"]), image, index_map))
    return photographs, names


class Tour:
    """Show one photograph after the other, each with a slow move from one view of it to another.

    A frame depends on its number only. Every round through the photographs moves differently.

    Args:
        width: Width of the frames in pixels.
        height: Height of the frames in pixels.
        fps: Frames per second.
        folder: Where the photographs are.
    """

    def __init__(self, width: int = 640, height: int = 480, fps: float = 15.0, folder: Path = FOLDER) -> None:
        self.photographs, self.names = load_photographs(folder)
        self._size = width, height
        self._each = max(2, round(SECONDS_EACH * fps))

    def __len__(self) -> int:
        """Return the number of frames until every photograph was shown once."""
        return self._each * len(self.photographs)

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw a frame, for any index from 0 on.

        Returns:
            The image (height, width, 3) uint8 RGB, and its index map (height, width) uint8 into `names`.
        """
        number, step = divmod(index, self._each)
        photograph = self.photographs[number % len(self.photographs)]
        share = step / (self._each - 1)
        share *= share * (3 - 2 * share)  # starts and ends slowly
        begin, end = _views(np.random.default_rng(number), photograph, self._size)
        left, top, scale = (1 - share) * begin + share * end
        # Of an output pixel's centre to that of the photograph's.
        inverse = np.array([[scale, 0, left + (scale - 1) / 2], [0, scale, top + (scale - 1) / 2]])
        options = {"dsize": self._size, "borderMode": cv2.BORDER_REPLICATE}
        image = cv2.warpAffine(photograph.image, inverse, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, **options)
        index_map = cv2.warpAffine(
            photograph.index_map, inverse, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, **options
        )
        return image, index_map


def _views(rng: np.random.Generator, photograph: Photograph, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Choose two views, each left and top in the photograph's pixels and its pixels per output pixel.

    One is as wide as the photograph allows, the other is closer; either may come first.
    """
    whole, out = np.array(photograph.index_map.shape[::-1]), np.array(size)
    widest = (whole / out).min()
    views = []
    for scale in (widest, widest * rng.uniform(*CLOSEST)):
        view = scale * out
        middle = photograph.focus + rng.uniform(-ASIDE, ASIDE, 2) * view
        views.append(np.array([*np.clip(middle - view / 2, 0, whole - view), scale]))
    return (views[0], views[1]) if rng.random() < 0.5 else (views[1], views[0])
