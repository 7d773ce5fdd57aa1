"""What objectives take: batches, or parts of one where a process accumulates gradients."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from synseg_model.network.clip_encoder import ClipEncoder

# None of these is frozen: Fabric's mixed precision takes no frozen ones.


@dataclass
class Window:
    """Where windows of images are told to lie: with the positions of a whole image they attend as far as there.

    Attributes:
        whole: (height, width) of the image in pixels.
        place: shares, below 1, of the room above and left of the window.
    """

    whole: tuple[int, int]
    place: tuple[float, float]

    def position(self, encoder: ClipEncoder, grid: tuple[int, int]) -> Tensor:
        """Return the position embeddings of a window of `grid` tokens."""
        whole = tuple(side // encoder.patch for side in self.whole)
        corner = [int(share * (most - side + 1)) for share, most, side in zip(self.place, whole, grid, strict=True)]
        rows, columns = (slice(start, start + side) for start, side in zip(corner, grid, strict=True))
        return encoder.window_position(whole, rows, columns)


@dataclass
class Batch:
    """Images with the labels that are and are not in them.

    Attributes:
        images: (B,3,H,W) normalised.
        text: (B,N,C) embeddings of the labels.
        valid: (B,N) bool, False for padding.
        present: (B,N) bool, True for labels of the caption, False for absent ones and padding.
        labels: names of the labels of each image.
        masks: (B,N,H,W) bool, where each label is, of images with regions.
        known: (B,H,W) bool, where that is known at all.
        window: where in larger images the images lie; None where they are whole.
    """

    images: Tensor
    text: Tensor
    valid: Tensor
    present: Tensor
    labels: list[list[str]] = field(default_factory=list)
    masks: Tensor | None = None
    known: Tensor | None = None
    window: Window | None = None


@dataclass
class PhotoBatch:
    """Crops of photographs with names that are present or absent.

    Attributes:
        images: (B,3,S,S) normalised.
        index_maps: (B,S,S) uint8 regions, UNLABELLED where nothing is known.
        texts: (B,K,C) embeddings of the names, of length 1.
        covers: (B,K,256) bool, whether a name is true of a region.
        present: (B,K) bool, whether a name is in the crop, or in the whole image where there are no masks.
        valid: (B,K) bool, False for padding.
        masked: (B,) bool, whether an image has masks.
    """

    images: Tensor
    index_maps: Tensor
    texts: Tensor
    covers: Tensor
    present: Tensor
    valid: Tensor
    masked: Tensor


@dataclass
class ContrastBatch:
    """Images and captions, of which the i-th belong together.

    Attributes:
        images: (B,3,H,W) normalised.
        captions: B texts.
        window: rows and columns of a whole image's token grid that the images are told to be.
    """

    images: Tensor
    captions: list[str]
    window: tuple[slice, slice]


@dataclass
class MaskBatch:
    """Images with exact masks, of which the first D are decoded for K labels each.

    Attributes:
        images: (B,3,H,W) normalised.
        nouns: (B,P) int64, the index of each token's noun; -1 where it has none or holds several.
        colors: (B,P) int64, the same of colours.
        text: (D,K,C) embeddings of the labels.
        masks: (D,K,H,W) bool.
        window: rows and columns of a whole image's token grid that the images are told to be.
        balance: of the masks, from 0 to 1, see `training.objective.masks.mask_loss`.
    """

    images: Tensor
    nouns: Tensor
    colors: Tensor
    text: Tensor
    masks: Tensor
    window: tuple[slice, slice]
    balance: float


@dataclass
class PhraseBatch:
    """Phrases and what a larger text encoder makes of them.

    Attributes:
        tokens: (B,L) int64 token ids, padded with 0.
        targets: (B,C) embeddings of length 1.
    """

    tokens: Tensor
    targets: Tensor
