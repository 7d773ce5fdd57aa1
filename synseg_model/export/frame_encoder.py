"""The beginning of every image encoder's graph: frames are resized and normalised."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synseg_model.network.postprocess import resize
from synseg_model.network.synseg import SynSeg


class FrameEncoder(nn.Module):
    """Turn the bytes of frames into the network's input; a subclass encodes them.

    Args:
        network: the network whose encoder this is.
    """

    def __init__(self, network: SynSeg) -> None:
        super().__init__()
        self.network = network
        image = network.config.image
        self.register_buffer("mean", torch.tensor(image.mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(image.std).view(3, 1, 1) * 255)

    def normalised(self, frames: Tensor, grid: tuple[int, int]) -> Tensor:
        """Resize frames to a grid of patches and normalise them.

        Args:
            frames: (B,H,W,3) uint8 RGB.
            grid: rows and columns of patches.

        Returns:
            (B,3,h,w) float32.
        """
        patch = self.network.encoder.patch
        pixels = resize(frames.float().permute(0, 3, 1, 2), grid[0] * patch, grid[1] * patch)
        return (pixels - self.mean) / self.std
