"""Images as arrays become tensors that a network takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synseg_model.config import CLIP_MEAN, CLIP_STD


def to_tensor(
    images: np.ndarray,
    device: str | torch.device = "cpu",
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
) -> Tensor:
    """Normalise images.

    Args:
        images: (B,H,W,3) uint8 RGB.
        device: of the result.
        mean: mean of the three channels, in [0, 1].
        std: their standard deviation, in [0, 1].

    Returns:
        (B,3,H,W) float32.
    """
    center, spread = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (mean, std))
    return (torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() - center) / spread
