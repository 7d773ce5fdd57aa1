"""The graphs of a model with a convolutional image encoder: frames to features, features to activations."""

from __future__ import annotations

import copy

import onnx
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from synseg_model.export.frame_encoder import FrameEncoder
from synseg_model.export.to_onnx import to_onnx
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.exported_folder import DECODER, IMAGE_ENCODER


@torch.no_grad()
def make_conv_graphs(network: SynSeg) -> dict[str, onnx.ModelProto]:
    """Turn image encoder and decoder into graphs.

    Args:
        network: a network with a convolutional encoder, in float32 on the CPU.

    Returns:
        The graphs by their files' names.
    """
    encoder, config = network.encoder, network.config.decoder
    batch, rows, columns = Dim("batch"), Dim("token_rows"), Dim("token_columns")
    frames = torch.zeros(2, 3 * encoder.patch + 1, 5 * encoder.patch + 1, 3, dtype=torch.uint8)
    reduced = {"tokens": torch.zeros(2, 6, 8, config.width), "dense": torch.zeros(2, 6, 8, encoder.text_width)}
    shapes = {name: {0: batch, 1: rows, 2: columns} for name in reduced}
    if not config.dense:
        del reduced["dense"], shapes["dense"]
    for stride, channels in zip((8, 4), config.skips, strict=True):
        reduced[f"skip{stride}"] = torch.zeros(2, channels, 96 // stride, 128 // stride)
        shapes[f"skip{stride}"] = {0: batch, 2: Dim(f"rows{stride}"), 3: Dim(f"columns{stride}")}
    image_encoder = to_onnx(
        ConvImageEncoder(network),
        {"frames": frames, "positions": torch.zeros(3, 4, config.context_width)},
        list(reduced),
        {
            "frames": {0: batch, 1: Dim("height"), 2: Dim("width")},
            "positions": {0: Dim("rows"), 1: Dim("columns")},
        },
    )
    decoder = to_onnx(
        ConvDecoder(network) if config.dense else ConvDecoderWithoutDense(network),
        {**reduced, "text": torch.zeros(5, encoder.text_width)},
        ["activations"],
        {**shapes, "text": {0: Dim("labels")}},
    )
    return {IMAGE_ENCODER: image_encoder, DECODER: decoder}


class ConvImageEncoder(FrameEncoder):
    """Encode frames into all that no label changes: resizing, normalising, the backbone, the blocks before FiLM.

    Args:
        network: the network whose encoder this is.
    """

    def __init__(self, network: SynSeg) -> None:
        super().__init__(network)
        self.backbone = pad_evenly(network.encoder.image)

    def forward(self, frames: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        """Encode frames.

        Args:
            frames: (B,H,W,3) uint8 RGB.
            positions: (h,w,C) position embeddings of the grid of the coarsest stride, whose shape chooses the input
                size.

        Returns:
            What `SkipDecoder.reduce` returns, without embeddings of tokens where the decoder has none.
        """
        decoder = self.network.decoder
        images = self.normalised(frames, positions.shape[:2])
        tokens, dense, *skips = decoder.reduce(self.backbone(images), positions)
        return (tokens, dense, *skips) if decoder.config.dense else (tokens, *skips)


class ConvDecoder(nn.Module):
    """Decode features and text embeddings into activations.

    Args:
        network: the network whose decoder this is.
    """

    def __init__(self, network: SynSeg) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(self, tokens: Tensor, dense: Tensor, skip8: Tensor, skip4: Tensor, text: Tensor) -> Tensor:
        """Decode labels.

        Args:
            tokens, dense, skip8, skip4: what `ConvImageEncoder` returned.
            text: (K,C) text embeddings of length 1.

        Returns:
            Activations (B,K,H/4,W/4) in [0, 1].
        """
        return self.decoder((tokens, dense, skip8, skip4), text.expand(tokens.shape[0], -1, -1)).sigmoid()


class ConvDecoderWithoutDense(ConvDecoder):
    """Decode as `ConvDecoder` does, for a decoder that has no embeddings of tokens."""

    def forward(self, tokens: Tensor, skip8: Tensor, skip4: Tensor, text: Tensor) -> Tensor:
        """Decode labels, as `ConvDecoder.forward` does."""
        return super().forward(tokens, tokens[..., :0], skip8, skip4, text)


class _Padded(nn.Module):
    """Run a strided convolution with TensorFlow's padding, on inputs whose sides are multiples of the stride.

    timm computes the padding from the sizes of each input. For such inputs the padding is always the same, and a
    graph with a constant needs no arithmetic on sizes.
    """

    def __init__(self, convolution: Conv2dSame) -> None:
        super().__init__()
        self.convolution = convolution
        spare = [
            max(0, dilation * (kernel - 1) + 1 - stride)
            for kernel, stride, dilation in zip(
                convolution.kernel_size, convolution.stride, convolution.dilation, strict=True
            )
        ]
        self.padding = [side for total in reversed(spare) for side in (total // 2, total - total // 2)]

    def forward(self, x: Tensor) -> Tensor:
        own = self.convolution
        return F.conv2d(F.pad(x, self.padding), own.weight, own.bias, own.stride, 0, own.dilation, own.groups)


def pad_evenly(image: nn.Module) -> nn.Module:
    """Copy a backbone, and replace convolutions that pad by the input's size; the copy shares the weights.

    Args:
        image: a timm backbone.
    """
    memo = {id(tensor): tensor for tensor in [*image.parameters(), *image.buffers()]}
    image = copy.deepcopy(image, memo)
    for module in list(image.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv2dSame):
                setattr(module, name, _Padded(child))
    return image
