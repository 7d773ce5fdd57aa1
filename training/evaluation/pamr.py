"""Pixel-adaptive mask refinement: maps follow the image's edges, without training.

Source: Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels",
arXiv 2005.08104.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

ITERATIONS, DILATIONS = 10, (1, 2, 4, 8, 12, 24)
_AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def affinity(image: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Weigh each pixel's neighbours by how alike they look.

    image: (3,H,W) float, any scale. Neighbours: the eight around a pixel at every dilation, edge pixels repeated.
    Returns (8*len(dilations),H,W), softmax over the neighbours of the mean over channels of
    -|x_i - x_j| / (0.1 * deviation_i); deviation_i is over the neighbours and, once per dilation, the pixel itself.
    """
    reach = max(dilations)
    padded = F.pad(image[None], [reach] * 4, mode="replicate")[0]
    neighbours = torch.stack([_shift(padded, reach, d * dy, d * dx) for d in dilations for dy, dx in _AROUND])
    own = image.expand(len(dilations), *image.shape)
    deviation = torch.cat([neighbours, own]).std(dim=0)  # (3,H,W)
    alike = -(neighbours - image).abs() / (1e-8 + 0.1 * deviation)
    return alike.mean(dim=1).softmax(dim=0)


def refine(maps: Tensor, image: Tensor, iterations: int = ITERATIONS, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Replace each map's pixels, again and again, by the weighted mean of their neighbours.

    maps: (K,H,W), image: (3,H,W), of one size and on one device. Returns (K,H,W); values stay within the maps' range.
    Raise ValueError for other shapes, iterations below 1 or dilations that are not positive.
    """
    if maps.ndim != 3 or image.ndim != 3 or image.shape[0] != 3 or maps.shape[1:] != image.shape[1:]:
        raise ValueError(f"maps {tuple(maps.shape)} and image {tuple(image.shape)}: expected (K,H,W) and (3,H,W)")
    if iterations < 1 or not dilations or min(dilations) < 1:
        raise ValueError(f"iterations {iterations} and dilations {list(dilations)}: expected numbers of 1 and above")
    weights, reach = affinity(image, dilations), max(dilations)
    places = [(d * dy, d * dx) for d in dilations for dy, dx in _AROUND]
    for _ in range(iterations):
        padded = F.pad(maps[None], [reach] * 4, mode="replicate")[0]
        maps = torch.zeros_like(maps)
        for weight, (dy, dx) in zip(weights, places, strict=True):  # one at a time: never 48 copies of all maps
            maps.addcmul_(weight, _shift(padded, reach, dy, dx))
    return maps


def _shift(padded: Tensor, reach: int, dy: int, dx: int) -> Tensor:
    """Look (dy, dx) away from every pixel of what was padded by `reach`."""
    height, width = (side - 2 * reach for side in padded.shape[1:])
    return padded[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
