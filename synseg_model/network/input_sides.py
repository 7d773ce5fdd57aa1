"""The check of the images that an encoder gets."""

from __future__ import annotations

from torch import Tensor


def check_input(images: Tensor, patch: int) -> None:
    """Check the shape of images.

    Args:
        images: expected (B,3,H,W), with sides that are multiples of `patch`.
        patch: side of a token in pixels.

    Raises:
        ValueError: for another shape; the message proposes sides that fit.
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 1:
        raise ValueError(f"images of shape {tuple(images.shape)}: expected (B,3,H,W)")
    if images.shape[2] % patch or images.shape[3] % patch:
        right = [max(1, round(side / patch)) * patch for side in images.shape[2:]]
        raise ValueError(
            f"images of {images.shape[2]}x{images.shape[3]} px: sides must be multiples of {patch}, "
            f"for instance {right[0]}x{right[1]}"
        )
