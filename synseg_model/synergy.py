"""Feature Synergy Structure: what a label's activation map gathers from an image, and what it leaves.

Source: SynSeg, arXiv 2508.06115, section 3.2. The foreground-background form is CCAM's, arXiv 2203.13505.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["pool_to_tokens", "synergy_features"]


def synergy_features(activation: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Pool dense features by an activation map and by its complement.

        f = P^T Z / HW            foreground synergy vector of a label
        b = (1 - P)^T Z / HW      background synergy vector of a label

    f + b is the mean feature of the image. The division by the number of tokens HW is CCAM's; cosines do not depend on
    it.

    Source: SynSeg, arXiv 2508.06115, section 3.2.

    Args:
        activation: P, (B,N,HW) in [0, 1]: one map per image and label over the tokens.
        features: Z, (B,N,HW,D), or (B,1,HW,D) where all labels share them.

    Returns:
        Foreground (B,N,D) and background (B,N,D): float32, also under autocast; float64 for float64 inputs.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> import torch
        >>> from synseg_model.synergy import synergy_features
        >>> activation = torch.tensor([[[1.0, 0.0, 0.5, 0.5]]])  # B=1 image, N=1 label, HW=4 tokens
        >>> features = torch.tensor([[[[4.0], [8.0], [0.0], [4.0]]]])  # D=1
        >>> foreground, background = synergy_features(activation, features)
        >>> foreground.tolist(), background.tolist()
        ([[[1.5]]], [[[2.5]]])
    """
    if activation.ndim != 3 or features.ndim != 4 or activation.shape[0] != features.shape[0]:
        raise ValueError(
            f"activation {tuple(activation.shape)} and features {tuple(features.shape)}: expected (B,N,P) and (B,N,P,D)"
        )
    if features.shape[1] not in (1, activation.shape[1]) or features.shape[2] != activation.shape[2]:
        raise ValueError(
            f"features {tuple(features.shape)} and activation {tuple(activation.shape)}: expected equal numbers "
            "of tokens, and of labels unless the features have one for all"
        )
    tokens = activation.shape[2]
    with torch.autocast(activation.device.type, enabled=False):  # which would multiply in half precision
        activation, features = (x if x.dtype == torch.float64 else x.float() for x in (activation, features))
        foreground = (activation.unsqueeze(2) @ features).squeeze(2) / tokens  # (B,N,1,P) @ (B,N,P,D)
        background = features.sum(dim=2) / tokens - foreground
    return foreground, background


def pool_to_tokens(activation: Tensor, grid: tuple[int, int]) -> Tensor:
    """Average activation maps over the token grid.

    Args:
        activation: (B,N,H,W).
        grid: rows and columns of tokens, P in all.

    Returns:
        (B,N,P).
    """
    return F.adaptive_avg_pool2d(activation, grid).flatten(2)
