"""Resizing frames, label maps and masks in torch: run by the torch engine on a GPU, and exported for the others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

State = tuple[Tensor, Tensor, Tensor]  # label map int32, the winner's activation, the largest activation: (B,H,W)


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Resize images (...,H,W) as `preprocess.resize_frame` does.

    No operator of ONNX averages areas of fractional size, but resizing is linear and separable: two products with
    matrices made from the sizes. They are a small part of the image encoder's work.
    """
    rows, columns = resize_weights(*pixels.shape[-2:], height, width, pixels.device)
    return rows @ pixels @ columns.T


def resize_weights(
    source_height: int, source_width: int, height: int, width: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Weigh rows (height,source_height) and columns (width,source_width): areas where both shrink, else linear."""
    scalar = [torch.scalar_tensor(side, device=device) for side in (height, source_height, width, source_width)]
    shrinks = (scalar[0] <= scalar[1]) & (scalar[2] <= scalar[3])
    rows, columns = (
        torch.where(shrinks, _area_weights(source, target, device), _linear_weights(source, target, device))
        for source, target in ((source_height, height), (source_width, width))
    )
    return rows, columns


def _area_weights(source: int, target: int, device: torch.device | str) -> Tensor:
    """Weigh (target, source) samples by the share of each output pixel that they cover."""
    # In units of 1/target pixel: whole numbers, which float32 holds exactly up to 16 million.
    start = torch.arange(target, dtype=torch.float32, device=device)[:, None] * source
    own = torch.arange(source, dtype=torch.float32, device=device) * target
    return (torch.minimum(start + source, own + target) - torch.maximum(start, own)).clamp(min=0) / source


def _linear_weights(source: int, target: int, device: torch.device | str) -> Tensor:
    """Weigh (target, source) samples by their distance to the centre of each output pixel."""
    center = (torch.arange(target, dtype=torch.float32, device=device)[:, None] + 0.5) * source / target - 0.5
    center = center.clamp(min=0).clamp(max=source - 1)
    return (1 - (torch.arange(source, dtype=torch.float32, device=device) - center).abs()).clamp(min=0)


def begin_label_map(batch: int, height: int, width: int, device: torch.device | str = "cpu") -> State:
    """Make the state of label maps before the first label: all is background."""
    label_map = torch.zeros(batch, height, width, dtype=torch.int32, device=device)
    largest = torch.zeros(batch, height, width, device=device)
    return label_map, largest - 1, largest


def continue_label_map(activations: Tensor, thresholds: Tensor, ids: Tensor, state: State) -> State:
    """Take more labels into label maps, as `Result` defines them; the state's shape is the images' size.

    activations: (B,k,h,w) in [0, 1]. thresholds: (k) float32. ids: (k) int32. Of equals the first label wins.
    """
    label_map, winning, largest = state
    planes = _at_size(activations, label_map.shape[1], label_map.shape[2])
    reaching = torch.where(planes >= thresholds[:, None, None], planes, torch.full_like(planes, -1))
    best = reaching.amax(1)
    # The first of the best by hand: TensorRT sorts for an arg-max, which takes longer than all else.
    places = torch.arange(thresholds.shape[0], dtype=torch.int32, device=planes.device)[:, None, None]
    first = torch.where(reaching == best.unsqueeze(1), places, places[-1:]).amin(1)
    label_map = torch.where(best > winning, ids[first.long()], label_map)
    return label_map, torch.maximum(winning, best), torch.maximum(largest, planes.amax(1))


def confidence(state: State) -> Tensor:
    """Return the winner's activation, on background 1 minus the largest; (B,H,W) in [0, 1]."""
    label_map, winning, largest = state
    return torch.where(label_map > 0, winning, 1 - largest)


def masks(activations: Tensor, thresholds: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """Threshold activations (B,k,h,w) at the images' size.

    thresholds: (k) float32. rows, columns: 0 to H-1 and 0 to W-1, int32, which tell the size.
    Returns masks (B,k,H,W) bool; numbers (B,k,5) int32: area, and the first and last column and row of each, in the
    order left, top, right, bottom, of no meaning where the area is 0; sums (B,k) of activations inside; peaks (B,k),
    the largest activations.
    """
    planes = _at_size(activations, rows.shape[0], columns.shape[0])
    reached = planes >= thresholds[:, None, None]
    counts = reached.to(torch.int32)
    sums = torch.where(reached, planes, torch.zeros_like(planes)).sum((2, 3))
    numbers = [counts.sum((2, 3), dtype=torch.int32)]
    crossed = [(counts.amax(2) > 0, columns), (counts.amax(3) > 0, rows)]  # (B,k,W), (B,k,H)
    numbers += [torch.where(hit, places, places[-1:]).amin(2) for hit, places in crossed]
    numbers += [torch.where(hit, places, places[:1]).amax(2) for hit, places in crossed]
    return reached, torch.stack(numbers, 2), sums, activations.amax((2, 3))


def _at_size(activations: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(activations, size=(height, width), mode="bilinear", align_corners=False)
