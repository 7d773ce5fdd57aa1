"""Images of a run for TensorBoard: held-out photographs with the maps that the model in training gives their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from torch import nn

from synseg_model.io.drawing import contact_sheet
from synseg_model.network.synseg import SynSeg
from training.datasets.photo_batches import Words
from training.datasets.photos.packed import Packed
from training.evaluation.activation_images import heat
from training.evaluation.photos import logits_of

LABELS = 5  # maps of a photograph that are shown
HEIGHT = 240


def photo_images(
    network: SynSeg, photos: Sequence[Packed], words: Words
) -> Callable[[nn.Module], dict[str, np.ndarray]] | None:
    """Return a function that draws the maps of averaged weights for photographs and their first names.

    None where there are no photographs.
    """
    if not photos:
        return None

    def draw(averaged: nn.Module) -> dict[str, np.ndarray]:
        logits = logits_of(network, averaged, words)
        cells, captions = [], []
        for photo in photos:
            image, _ = photo.decode()
            image = cv2.resize(image, (round(HEIGHT * image.shape[1] / image.shape[0]), HEIGHT))
            names = dict.fromkeys([*(n for region in photo.regions for n in region), *photo.names])
            names = [name for name in names if name in words.names][:LABELS]
            maps = logits(image, names).sigmoid().cpu().numpy() if names else []
            row = [("", image), *((name, heat(image, plane)) for name, plane in zip(names, maps, strict=True))]
            row += [("", np.full_like(image, 255))] * (1 + LABELS - len(row))
            captions += [name for name, _ in row]
            cells += [cell for _, cell in row]
        return {"activations": contact_sheet(cells, 1 + LABELS, captions, tile=160)}

    return draw
