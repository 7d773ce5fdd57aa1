"""What training on photographs takes: a batch of crops with names, masks and texts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass  # not frozen: Fabric's mixed precision takes no frozen ones
class PhotoBatch:
    """A part of a batch on the device; shapes as in `Sample`, with B in front.

    Images (B,3,S,S) are normalised; texts (B,K,C) are embeddings of the names, of length 1.
    """

    images: Tensor
    index_maps: Tensor
    texts: Tensor
    covers: Tensor
    present: Tensor
    valid: Tensor
    masked: Tensor
