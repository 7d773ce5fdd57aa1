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
    """Normalise uint8 RGB images (B,H,W,3) to float (B,3,H,W); mean and std are of channels in [0, 1]."""
    center, spread = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (mean, std))
    return (torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() - center) / spread
