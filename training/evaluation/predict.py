"""From an image to one class per pixel, by the rules that the field agrees on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synseg_model.engines.torch import TorchEngine
from synseg_model.preprocess import resize_frame
from synseg_model.refinement import KINDS, make_refiner
from training.evaluation.pamr import refine
from training.evaluation.windows import resize_keeping_ratio, sliding_logits

_PIXELS_AT_ONCE = 2**26  # floats resized to an image's own size in one go: 256 MB


@dataclass(frozen=True)
class PredictSettings:
    """How images are shown to the network.

    mode: "slide" (keep-ratio resize to a short side of `short_side`, at most `longest`, windows of `window` every
    `stride` pixels, logits averaged) or "whole" (one pass at the input size that the model's config asks for).
    pamr: refine the activations by the image's colours. refine: "none", "superpixels" or "sgc", see
    `synseg_model.refinement`; after PAMR. batch: windows in one pass.
    """

    mode: str = "slide"
    short_side: int = 448
    longest: int = 2048
    window: int = 448
    stride: int = 224
    pamr: bool = False
    refine: str = "none"
    batch: int = 4

    def __post_init__(self) -> None:
        if self.mode not in ("slide", "whole"):
            raise ValueError(f"mode {self.mode!r}: expected slide or whole")
        if self.refine not in KINDS:
            raise ValueError(f"refine {self.refine!r}: expected one of {', '.join(KINDS)}")
        for name in ("short_side", "longest", "window", "stride", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 or more")
        if self.stride > self.window or self.longest < self.short_side:
            raise ValueError(
                f"stride {self.stride} in windows of {self.window}, sides from {self.short_side} to {self.longest}: "
                "expected a stride no larger than the window, and a longest side no smaller than the short one"
            )

    @property
    def refined(self) -> bool:
        """Whether scores are activations that were refined, rather than logits."""
        return self.pamr or self.refine != "none"


class Predictor:
    """Ask a network for the classes of a data set.

    text: (Q,D) embeddings of the queries. owners: for each query the index of its class; a class with several prompts
    takes the largest of their scores.
    """

    def __init__(self, engine: TorchEngine, text: np.ndarray, owners: Sequence[int], settings: PredictSettings):
        self.engine, self.text, self.settings = engine, text, settings
        self.classes = max(owners) + 1
        self._owners = torch.tensor(owners)
        self._refine = make_refiner(settings.refine, engine)

    @torch.inference_mode()
    def scores(self, image: np.ndarray) -> Tensor:
        """Score an image (H,W,3) uint8: (C,h,w) at working resolution, logits, or activations once refined."""
        settings, patch = self.settings, self.engine.network.encoder.patch
        if settings.mode == "whole":
            working = resize_frame(image, self.engine.config.image, patch)
            logits = self._logits(working[None])[0]
        else:
            working = resize_keeping_ratio(image, settings.short_side, settings.longest)
            logits = sliding_logits(self._logits, working, settings.window, settings.stride, patch, settings.batch)
        if not settings.refined:
            return logits
        maps = logits.sigmoid()
        if settings.pamr:
            maps = refine(maps, torch.from_numpy(working).to(maps.device).permute(2, 0, 1).float())
        if self._refine:
            maps = torch.from_numpy(self._refine(image, maps.cpu().numpy())).to(maps.device)
        return maps

    def _logits(self, images: np.ndarray) -> Tensor:
        logits = self.engine.logits(images, self.text)
        if len(self._owners) == self.classes:
            return logits
        owners = self._owners.to(logits.device).view(1, -1, 1, 1).expand_as(logits)
        best = logits.new_full((len(logits), self.classes, *logits.shape[2:]), -math.inf)
        return best.scatter_reduce(1, owners, logits, "amax")

    def background_score(self, threshold: float) -> float:
        """Turn an activation threshold into the constant score of background, in the units of `scores`."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold {threshold}: expected an activation from 0 to 1")
        if self.settings.refined:
            return threshold
        return math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.copysign(math.inf, threshold - 0.5)

    @torch.inference_mode()
    def best(self, image: np.ndarray, given: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return every pixel's largest score (H,W) float32 and its class (H,W) uint8 at the image's own size.

        Scores are resized bilinearly before the largest is taken; a few classes at a time, so that large images with
        many classes fit into memory. given: the classes that may win, None for all; where there are none, the largest
        score is -inf.
        """
        scores, size = self.scores(image), image.shape[:2]
        if given is not None:
            others = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
            others[list(given)] = False
            scores = scores.masked_fill(others[:, None, None], -math.inf)
        chunk = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
        largest = winner = None
        for start in range(0, len(scores), chunk):
            part = F.interpolate(scores[None, start : start + chunk], size, mode="bilinear", align_corners=False)[0]
            values, indices = part.max(dim=0)
            if largest is None:
                largest, winner = values, indices
            else:
                winner = torch.where(values > largest, indices + start, winner)
                largest = torch.maximum(largest, values)
        return largest.cpu().numpy(), winner.to(torch.uint8).cpu().numpy()

    def classify(
        self, image: np.ndarray, threshold: float | None = None, given: Sequence[int] | None = None
    ) -> np.ndarray:
        """Give every pixel a class (H,W) uint8; with a threshold, 0 is background and class i is i+1.

        given: the classes that may win, None for all.
        """
        largest, winner = self.best(image, given)
        return winner if threshold is None else with_background(largest, winner, self.background_score(threshold))


def with_background(largest: np.ndarray, winner: np.ndarray, score: float) -> np.ndarray:
    """Let a constant score compete: 0 where it is above the largest score, else class i as i+1."""
    return np.where(largest >= score, winner + np.uint8(1), np.uint8(0))
