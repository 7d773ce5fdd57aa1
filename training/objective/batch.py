"""What the objective takes: a batch of images with the labels that are and are not in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from synseg_model.network.clip_encoder import ClipEncoder


@dataclass  # not frozen, as Part is not
class Window:
    """Where windows of images are told to lie: with the positions of a whole image they attend as far as there.

    whole: (height, width) of the image in pixels. place: shares, below 1, of the room above and left of the window.
    """

    whole: tuple[int, int]
    place: tuple[float, float]

    def position(self, encoder: ClipEncoder, grid: tuple[int, int]) -> Tensor:
        """Return the position embeddings of a window of `grid` tokens."""
        whole = tuple(side // encoder.patch for side in self.whole)
        corner = [int(share * (most - side + 1)) for share, most, side in zip(self.place, whole, grid, strict=True)]
        rows, columns = (slice(start, start + side) for start, side in zip(corner, grid, strict=True))
        return encoder.window_position(whole, rows, columns)


@dataclass  # not frozen: Fabric's mixed precision takes no frozen ones
class Part:
    """A part of a batch.

    images: (B,3,H,W) normalised. text: (B,N,C) embeddings of the labels. valid: (B,N) bool, False for padding.
    present: (B,N) bool, True for labels of the caption, False for absent ones and padding. labels: their names.
    masks: (B,N,H,W) bool, where each label is, and known: (B,H,W) bool, where that is known at all; of images with
    regions. window: where in images the images lie, None where they are whole.
    """

    images: Tensor
    text: Tensor
    valid: Tensor
    present: Tensor
    labels: list[list[str]] = field(default_factory=list)
    masks: Tensor | None = None
    known: Tensor | None = None
    window: Window | None = None
