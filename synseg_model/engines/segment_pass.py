"""One pass from frames to label maps: resize, normalise, encode, decode and decide, in torch and on one device."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
from torch import Tensor

from synseg_model.engines.device_batch import labels_at_once
from synseg_model.network.postprocess import Measures, decide, resize_weights
from synseg_model.network.skip_decoder import SkipDecoder
from synseg_model.network.synseg import SynSeg

RULED_OUT = -30.0  # logit of a label that is not decoded; finite, as logits are resampled and summed
PLANES_MEMORY = 2**27  # bytes


class PassOutput(NamedTuple):
    """What a pass makes of frames (B,H,W,3) and K labels.

    logits: (B,K,h,w) at the decoder's own resolution. label_map: (B,H,W) int32. confidence: (B,H,W) float32.
    measures: of all masks, see `postprocess.decide`; None where they were not asked for.
    """

    logits: Tensor
    label_map: Tensor
    confidence: Tensor
    measures: Measures | None


class Arithmetic(NamedTuple):
    """Say how a network computes.

    device: where. products: type of matrix products. values: type of all else. Where both differ, autocast chooses.
    layout: memory format of images.
    """

    device: torch.device
    products: torch.dtype
    values: torch.dtype
    layout: torch.memory_format = torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager:
        """Enter the network's arithmetic."""
        if self.products == self.values:
            return contextlib.nullcontext()
        # What is cast is not kept: a recorded pass could not say when it is to be given up.
        return torch.autocast(self.device.type, self.products, cache_enabled=False)


class InputPass:
    """Run the network on images of one input size; what depends on that size alone is computed once, here.

    Args:
        network: in eval mode, on the device and in the types of `arithmetic`.
        arithmetic: how it computes.
        size: (h,w) of the input, multiples of the encoder's patch.
        keep_labels: decode only so many labels of an image in full, see `TorchEngine`; 0 for all.
    """

    @torch.no_grad()
    def __init__(self, network: SynSeg, arithmetic: Arithmetic, size: tuple[int, int], keep_labels: int = 0) -> None:
        self._network, self._arithmetic, self._keep_labels = network, arithmetic, keep_labels
        self._grid = tuple(side // network.encoder.patch for side in size)
        self._positions = make_positions(network, self._grid)
        image = network.config.image
        statistics = (torch.tensor(values, device=arithmetic.device) for values in (image.mean, image.std))
        self._mean, self._std = (values.view(3, 1, 1) * 255 for values in statistics)

    def normalised(self, planes: Tensor) -> Tensor:
        """Turn planes (B,3,h,w), 0 to 255, into what the encoder takes."""
        images = planes.sub(self._mean).div_(self._std)
        return images.to(self._arithmetic.values).contiguous(memory_format=self._arithmetic.layout)

    def __call__(self, planes: Tensor, text: Tensor, taken: Tensor | None = None) -> Tensor:
        """Segment planes (B,3,h,w), 0 to 255, for text (K,D); returns logits (B,K,h',w') at the decoder's resolution.

        taken: (K) bool, which places of the text have a label; None for all.
        """
        network = self._network
        images, text = self.normalised(planes), text.to(self._arithmetic.values)
        with self._arithmetic.autocast():
            reduced = encode(network, images, self._positions)
            if not 0 < self._keep_labels < len(text):
                return network.decode(reduced, text, self._grid)
            return decode_likely(network, reduced, text, self._grid, self._keep_labels, taken)


class SegmentPass:
    """Segment frames of one size: `segment_pass(frames, text, thresholds, ids)`.

    Label maps and masks are those that `Result` defines: activations are resampled, not logits, as the sigmoid of
    a resampled logit is another number between two samples. Sigmoids are taken at the decoder's resolution, before.

    Args:
        network, arithmetic, keep_labels: see `InputPass`.
        size: (H,W) of the frames.
        measured: whether masks are measured, too.
        uniform: whether all labels have one threshold, see `postprocess.decide`.
        memory: bytes that planes of the frames' size may take at once; labels are decided in steps that keep to it.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: SynSeg,
        arithmetic: Arithmetic,
        size: tuple[int, int],
        keep_labels: int = 0,
        measured: bool = False,
        uniform: bool = False,
        memory: int = PLANES_MEMORY,
    ) -> None:
        self._size, self._measured, self._uniform, self._memory = tuple(size), measured, uniform, memory
        target = network.config.image.input_size(*size, network.encoder.patch)
        self._weights = None if target == self._size else resize_weights(*size, *target, arithmetic.device)
        self._run = InputPass(network, arithmetic, target, keep_labels)

    def __call__(self, frames: Tensor, text: Tensor, thresholds: Tensor, ids: Tensor) -> PassOutput:
        """Segment frames for labels.

        Args:
            frames: (B,H,W,3) uint8 RGB.
            text: (K,D) embeddings.
            thresholds: (K) float32 in [0, 1]; NO_LABEL in places that no label takes, which then change nothing.
            ids: (K) int32, what label maps call the labels; from 1.

        Returns:
            Segmented, on the device.
        """
        taken = thresholds <= 1
        logits = self.logits(frames, text, taken)
        activations = logits.float().sigmoid().masked_fill(~taken[:, None, None], 0.0)
        at_once = labels_at_once(self._memory, len(frames), self._size)
        return PassOutput(
            logits, *decide(activations, thresholds, ids, self._size, self._measured, at_once, self._uniform)
        )

    def logits(self, frames: Tensor, text: Tensor, taken: Tensor | None = None) -> Tensor:
        """Return the logits alone; arguments as `InputPass` takes them, but for frames (B,H,W,3) uint8."""
        return self._run(self._resized(frames), text, taken)

    def _resized(self, frames: Tensor) -> Tensor:
        """Bring frames to the input size: planes (B,3,h,w) float32, 0 to 255 and not rounded."""
        # Plane by plane: arithmetic on pixels that lie interleaved takes several times as long.
        planes = frames.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        if self._weights is None:
            return planes
        rows, columns = self._weights
        return rows @ planes @ columns.T


def make_positions(network: SynSeg, grid: tuple[int, int]) -> Tensor:
    """Resample the position embeddings of a network to a grid of patches, as `encode` takes them.

    On a GPU resampling takes longer than all else that one frame needs.
    """
    if isinstance(network.decoder, SkipDecoder):
        return network.decoder.positions(grid)
    return network.encoder.position(grid)


def encode(network: SynSeg, images: Tensor, positions: Tensor) -> list[Tensor]:
    """Encode normalised images (B,3,H,W) as `SynSeg.encode_image` does; positions: of their grid."""
    encoder, decoder = network.encoder, network.decoder
    layers = network.config.decoder.layers
    if isinstance(decoder, SkipDecoder):
        return decoder.reduce(encoder.hidden_states(images, layers), positions)
    return decoder.reduce(encoder.hidden_states(images, layers, positions))


def decode_likely(
    network: SynSeg, reduced: list[Tensor], text: Tensor, grid: tuple[int, int], most: int, taken: Tensor | None = None
) -> Tensor:
    """Decode for each image only the `most` labels that a coarse pass finds most active; others have RULED_OUT."""
    peaks = network.peaks(reduced, text, grid)
    if taken is not None:
        peaks = peaks.masked_fill(~taken, -torch.inf)
    kept = peaks.topk(most, dim=1).indices
    logits = network.decode(reduced, text[kept], grid)
    every = logits.new_full((len(logits), len(text), *logits.shape[2:]), RULED_OUT)
    return every.scatter_(1, kept[:, :, None, None].expand_as(logits), logits)
