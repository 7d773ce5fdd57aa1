"""A figure of what rows change: the same held-out images, segmented by each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from synseg_model.io.drawing import contact_sheet
from synseg_model.segmenter import Segmenter
from training.evaluation.images import paint
from training.evaluation.scenes import arg_max, truth_map
from training.scenes.scenes import NOUNS, STUFF, Scene


class ImageRows:
    """Collect what models say about a few scenes, with all nouns and stuff competing as in the measures."""

    def __init__(self, scenes: Sequence[Scene]):
        self.scenes, self.labels = scenes, [*NOUNS, *STUFF]
        self.columns: dict[str, list[np.ndarray]] = {
            "image": [scene.image for scene in scenes],
            "truth": [paint(scene.image, truth_map(scene, self.labels), self.labels, False) for scene in scenes],
        }

    def add(self, name: str, segmenter: Segmenter) -> None:
        """Segment the scenes by one more model."""
        vocabulary = segmenter.prepare_vocabulary(self.labels)
        maps = (arg_max(segmenter.segment(scene.image, vocabulary).activations) for scene in self.scenes)
        self.columns[name] = [
            paint(scene.image, classes, self.labels, False) for scene, classes in zip(self.scenes, maps, strict=True)
        ]

    def write(self, path: Path) -> None:
        """Lay out a row per scene and a column per model."""
        images = [column[row] for row in range(len(self.scenes)) for column in self.columns.values()]
        names = [*self.columns, *[""] * (len(images) - len(self.columns))]
        cv2.imwrite(str(path), contact_sheet(images, columns=len(self.columns), captions=names)[:, :, ::-1])
