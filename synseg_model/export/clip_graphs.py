"""The graphs of a model with a CLIP image encoder: frames to features, features to activations."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from synseg_model.export.frame_encoder import FrameEncoder
from synseg_model.export.to_onnx import to_onnx
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.exported_folder import DECODER, IMAGE_ENCODER


@torch.no_grad()
def make_clip_graphs(network: SynSeg) -> dict[str, onnx.ModelProto]:
    """Turn image encoder and decoder into graphs.

    Args:
        network: a network with a CLIP encoder, in float32 on the CPU.

    Returns:
        The graphs by their files' names.
    """
    encoder, depth = network.encoder, len(network.config.decoder.layers) - network.config.decoder.conditional_layer
    batch, rows, columns, labels = Dim("batch"), Dim("rows"), Dim("columns"), Dim("labels")
    width, patch = network.config.decoder.width, encoder.patch
    frames = torch.zeros(2, 3 * patch + 1, 5 * patch + 1, 3, dtype=torch.uint8)
    image_encoder = to_onnx(
        ClipImageEncoder(network),
        {"frames": frames, "positions": torch.zeros(3, 4, encoder.width)},
        ["class_features", "features"],
        {"frames": {0: batch, 1: Dim("height"), 2: Dim("width")}, "positions": {0: rows, 1: columns}},
    )
    decoder = to_onnx(
        ClipDecoder(network),
        {
            "class_features": torch.zeros(depth, 2, width),
            "features": torch.zeros(depth, 2, 3, 4, width),
            "text": torch.zeros(5, encoder.text_width),
        },
        ["activations"],
        {"class_features": {1: batch}, "features": {1: batch, 2: rows, 3: columns}, "text": {0: labels}},
    )
    return {IMAGE_ENCODER: image_encoder, DECODER: decoder}


class ClipImageEncoder(FrameEncoder):
    """Encode frames into what FiLM modulates: resizing, normalising, CLIP's blocks, all that no label changes."""

    def forward(self, frames: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames.

        Args:
            frames: (B,H,W,3) uint8 RGB.
            positions: (h,w,C) position embeddings of the token grid, whose shape chooses the input size. The host
                resamples them, once per size of frames: all inputs are plain tensors with dynamic shapes.

        Returns:
            Class features (S,B,D) and features (S,B,h,w,D): what `ClipSegDecoder.reduce` returns, as images.
        """
        encoder, decoder = self.network.encoder, self.network.decoder
        grid = positions.shape[:2]
        position = torch.cat([encoder.clip.visual.positional_embedding[:1], positions.flatten(0, 1)])
        states = encoder.hidden_states(self.normalised(frames, grid), decoder.config.layers, position)
        reduced = torch.stack(decoder.reduce(states))  # (S, B, 1+P, D)
        return reduced[:, :, 0], reduced[:, :, 1:].unflatten(2, grid)


class ClipDecoder(nn.Module):
    """Decode features and text embeddings into activations.

    Args:
        network: the network whose decoder this is.
    """

    def __init__(self, network: SynSeg) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(self, class_features: Tensor, features: Tensor, text: Tensor) -> Tensor:
        """Decode labels.

        Args:
            class_features, features: what `ClipImageEncoder` returned.
            text: (K,D) text embeddings.

        Returns:
            Activations (B,K,H,W) in [0, 1].
        """
        reduced = torch.cat([class_features.unsqueeze(2), features.flatten(2, 3)], dim=2)
        logits = self.decoder(reduced.unbind(0), text.expand(features.shape[1], -1, -1), features.shape[2:4])
        return logits.sigmoid()
