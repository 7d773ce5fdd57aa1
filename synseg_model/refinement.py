"""Activation maps that follow the image: averaged inside superpixels, or corrected by CLIP's own attention (SGC).

Neither needs training. Superpixels are SLIC's (Achanta et al., TPAMI 2012), from scikit-image: the extra `refine`. SGC
is the superpixel-guided correction of Bi et al., "SSR: Semantic and Spatial Rectification for CLIP-based Weakly
Supervised Segmentation", arXiv 2512.01701.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from synseg_model.engine import AttentionEngine, Engine

__all__ = [
    "KINDS",
    "RefineConfig",
    "average_inside",
    "color_clusters",
    "correct",
    "make_refiner",
    "masked_means",
    "mean_colors",
    "segment_means",
    "superpixel_affinity",
    "superpixels",
    "targets",
]

KINDS = ("none", "superpixels", "sgc")

Refiner = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RefineConfig:
    """Settings of the refinement; all values are ours.

    Attributes:
        superpixels: about how many an image is divided into.
        compactness: of superpixels, from following colours (low) to being square (high).
        clusters: number of groups of superpixels, by colour.
        sure: activation from which a pixel surely belongs to a label, 0 to 1.
        share: share of a label's sure pixels above which a cluster of colours is a target of the label, 0 to 1.
        full: share of the image, 0 to 1; a label whose targets fill more is not corrected.
        color: width of the Gaussian of colours, in CIELAB: superpixels of less alike colours belong together less.
        reach: width of the Gaussian of places, in longer sides of the image.
        strength: strength of the correction, from 0 (means of superpixels) to 1.
        layer: block of the image tower whose attention is the affinity, counted from the end.

    Raises:
        ValueError: for a value that is out of range.
    """

    superpixels: int = 1_000
    compactness: float = 20.0
    clusters: int = 24
    sure: float = 0.5
    share: float = 0.02
    full: float = 0.95
    color: float = 4.0
    reach: float = 0.04
    strength: float = 0.5
    layer: int = -2

    def __post_init__(self) -> None:
        for name in ("superpixels", "clusters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 or more")
        for name in ("compactness", "color", "reach"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected a number above 0")
        for name in ("sure", "share", "full", "strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected a number from 0 to 1")


def superpixels(image: np.ndarray, config: RefineConfig) -> np.ndarray:
    """Divide an image into superpixels.

    Args:
        image: (H,W,3) uint8 RGB.
        config: how many superpixels, and how compact.

    Returns:
        The number of each pixel's superpixel, (H,W) int64, from 0 without gaps.
    """
    from skimage.segmentation import slic  # imported here: only refinement needs it

    found = slic(image, config.superpixels, config.compactness, start_label=0, channel_axis=2)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def segment_means(values: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Average values inside segments.

    Args:
        values: (C,H,W).
        segments: (H,W) int, numbered from 0 without gaps.

    Returns:
        (C,S) float64.
    """
    flat = segments.ravel()
    return np.stack([np.bincount(flat, plane.ravel()) for plane in values]) / np.bincount(flat)


def average_inside(maps: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Give every pixel the mean of its segment, so that edges of maps become edges of the image.

    Args:
        maps: (K,H,W).
        segments: (H,W) int, numbered from 0 without gaps.

    Returns:
        (K,H,W), of the type of `maps`.
    """
    return segment_means(maps, segments)[:, segments].astype(maps.dtype)


def mean_colors(image: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Average the colours of an image inside segments.

    Args:
        image: (H,W,3) uint8 RGB.
        segments: (H,W) int, numbered from 0 without gaps.

    Returns:
        (S,3) float32 CIELAB.
    """
    lab = cv2.cvtColor(np.float32(image) / 255, cv2.COLOR_RGB2LAB).transpose(2, 0, 1)
    return np.float32(segment_means(lab, segments).T)


def color_clusters(colors: np.ndarray, count: int) -> np.ndarray:
    """Group superpixels by their colours, with K-means.

    K-means starts from colours far apart, each the farthest from those before it, so that equal images give equal
    clusters (ours).

    Args:
        colors: (S,3) float32.
        count: largest number of clusters.

    Returns:
        The cluster of each superpixel, (S,) int32.
    """
    distances = ((colors - colors[0]) ** 2).sum(axis=1)[None]
    while len(distances) < count and distances.min(axis=0).max() > 0:
        farthest = colors[distances.min(axis=0).argmax()]
        distances = np.concatenate([distances, ((colors - farthest) ** 2).sum(axis=1)[None]])
    nearest = distances.argmin(axis=0).astype(np.int32)
    rounds = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0)
    found = cv2.kmeans(colors, len(distances), nearest, rounds, 1, cv2.KMEANS_USE_INITIAL_LABELS)[1]
    return found.ravel()


def targets(activation: np.ndarray, clusters: np.ndarray, segments: np.ndarray, config: RefineConfig) -> np.ndarray:
    """Mark the superpixels of a label's targets.

    Targets are clusters that hold more than `config.share` of the label's sure pixels. The share is that of the label's
    sure pixels, not of the cluster's (ours): a small object never fills a cluster of colours.

    Args:
        activation: (H,W) in [0, 1].
        clusters: (S,) int.
        segments: (H,W) int, numbered from 0 without gaps.
        config: what is sure, and which share counts.

    Returns:
        (S,) bool.
    """
    sure = np.bincount(segments.ravel(), (activation >= config.sure).ravel(), len(clusters))
    of_cluster = np.bincount(clusters, sure)
    return (of_cluster > config.share * of_cluster.sum())[clusters]


def superpixel_affinity(
    colors: np.ndarray, middles: np.ndarray, attention: np.ndarray, grid: tuple[int, int], config: RefineConfig
) -> np.ndarray:
    """Measure how much superpixels belong together: by CLIP's attention, by their colours and by their places.

    Colours and places are ours. Tokens are coarser than the errors of a map, and CLIP's attention alone joins objects
    of one kind across the image.

    Args:
        colors: (S,3) CIELAB.
        middles: (S,2) rows and columns, in [0, 1) of the image.
        attention: (P,P) between the tokens of `grid`.
        grid: rows and columns of tokens, P in all.
        config: the widths of both Gaussians.

    Returns:
        (S,S) float32, 0 or more.
    """
    rows, columns = (np.int64(middles * grid)).T
    tokens = rows * grid[1] + columns
    places = np.float32(middles) * np.float32(grid) / max(grid)  # in longer sides of the image
    affinity = attention.astype(np.float32)[np.ix_(tokens, tokens)]
    for values, width in ((np.float32(colors), config.color), (places, config.reach)):
        squares = (values**2).sum(axis=1)
        apart = np.maximum(squares[:, None] + squares - 2 * values @ values.T, 0)
        affinity *= np.exp(apart / (-2 * width**2))
    return affinity


def masked_means(affinity: np.ndarray, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Average values by an affinity whose columns are masked and whose rows then sum to 1 again.

    No masked affinity is ever made: all labels share one product.

    Args:
        affinity: (S,S), 0 or more.
        weights: (K,S) in [0, 1], which columns count for each label.
        values: (K,S).

    Returns:
        (K,S); 0 for a row that keeps no column.
    """
    total = weights @ affinity.T
    return np.divide((weights * values) @ affinity.T, total, out=np.zeros_like(total), where=total > 0)


def correct(
    maps: np.ndarray, image: np.ndarray, attention: np.ndarray, grid: tuple[int, int], config: RefineConfig
) -> np.ndarray:
    """Correct activation maps by superpixel-guided affinity.

    SSR: the map becomes masked affinity · map. Ours: superpixels are the nodes instead of tokens, which are coarser
    than the edges that are wrong. A superpixel that is no target keeps its mean; the others move by `config.strength`.
    Two kinds of labels are averaged inside superpixels and not corrected: a label without a sure pixel has no target,
    and a label whose targets fill the image has nothing to be told from.

    Args:
        maps: (K,H,W) float32 in [0, 1].
        image: (H,W,3) uint8 RGB.
        attention: (P,P); rows are the tokens that attend.
        grid: rows and columns of tokens, P in all.
        config: settings of the refinement.

    Returns:
        (K,H,W) float32 in [0, 1].

    Raises:
        ValueError: for sizes that do not fit.
    """
    if maps.ndim != 3 or image.shape != (*maps.shape[1:], 3) or attention.shape != (grid[0] * grid[1],) * 2:
        raise ValueError(
            f"maps {maps.shape}, image {image.shape}, attention {attention.shape}, grid {grid}: "
            "expected (K,H,W), (H,W,3), (P,P) and rows x columns = P"
        )
    segments = superpixels(image, config)
    colors = mean_colors(image, segments)
    clusters = color_clusters(colors, config.clusters)
    middles = segment_means(np.indices(segments.shape), segments).T + 0.5
    affinity = superpixel_affinity(colors, middles / segments.shape, attention, grid, config)
    means = np.float32(segment_means(maps, segments))  # (K,S)
    target = np.stack([targets(plane, clusters, segments, config) for plane in maps])
    target &= (target @ np.bincount(segments.ravel()) < config.full * segments.size)[:, None]
    change = masked_means(affinity, np.float32(target), means) - means
    corrected = means + config.strength * np.where(target, change, 0)
    return np.clip(corrected, 0, 1)[:, segments].astype(np.float32)


def make_refiner(kind: str, engine: Engine, config: RefineConfig | None = None) -> Refiner | None:
    """Make the function that refines an image's maps.

    Args:
        kind: "none", "superpixels" or "sgc". The last needs the torch engine and runs the image tower a second time.
        engine: the engine whose attention "sgc" uses.
        config: settings of the refinement; None for ours.

    Returns:
        A function of an image (H,W,3) uint8 RGB and its maps (K,h,w) float32, which returns refined maps; None for
        "none". Superpixels are found at the size of the maps.

    Raises:
        ValueError: for another kind, and for an engine without attention.
    """
    if kind not in KINDS:
        raise ValueError(f"refine {kind!r}: expected one of {', '.join(KINDS)}")
    config = config or RefineConfig()
    if kind == "none":
        return None
    if kind == "superpixels":
        return lambda image, maps: average_inside(maps, superpixels(_resize(image, maps), config))
    backbone = engine.config.encoder.backbone
    if backbone:
        raise ValueError(
            f"refine 'sgc' needs CLIP's attention, and the image encoder {backbone!r} has none: choose superpixels"
        )
    if not isinstance(engine, AttentionEngine):
        raise ValueError(f"refine 'sgc' needs CLIP's attention, which the engine {engine.name} cannot give: use torch")

    def refine(image: np.ndarray, maps: np.ndarray) -> np.ndarray:
        attention, grid = engine.attention(image, config.layer)
        return correct(maps, _resize(image, maps), attention[1:, 1:], grid, config)  # without the class token

    return refine


def _resize(image: np.ndarray, maps: np.ndarray) -> np.ndarray:
    return cv2.resize(image, maps.shape[:0:-1], interpolation=cv2.INTER_AREA)
