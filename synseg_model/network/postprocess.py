"""Resizing frames, label maps and masks in torch: run by the torch engine on a GPU, and exported for the others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

State = tuple[Tensor, Tensor, Tensor]  # label map int32, the winner's activation, the largest activation: (B,H,W)
Measures = tuple[Tensor, Tensor, Tensor]  # of masks: numbers (B,K,5) int32, sums (B,K), peaks (B,K), see `masks`


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Resize images (...,H,W) as `preprocess.resize_frame` does.

    No operator of ONNX averages areas of fractional size, but resizing is linear and separable: two products with
    matrices made from the sizes. They are a small part of the image encoder's work.
    """
    rows, columns = resize_weights(*pixels.shape[-2:], height, width, pixels.device)
    # One matrix for each image: for a single one on the left of many, onnxruntime on a GPU passes addresses through
    # memory of the host, which a CUDA graph would read again when others have used it.
    return rows.expand(*pixels.shape[:-2], *rows.shape) @ pixels @ columns.T


def resize_weights(
    source_height: int, source_width: int, height: int, width: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Weigh rows (height,source_height) and columns (width,source_width): areas where both shrink, else linear."""
    pairs = [
        tuple(torch.arange(side, dtype=torch.float32, device=device) for side in sides)
        for sides in ((source_height, height), (source_width, width))
    ]
    (source_rows, rows), (source_columns, columns) = ((_count(source), _count(target)) for source, target in pairs)
    shrinks = (rows <= source_rows) & (columns <= source_columns)
    rows, columns = (torch.where(shrinks, _area_weights(*pair), _linear_weights(*pair)) for pair in pairs)
    return rows, columns


def _count(places: Tensor) -> Tensor:
    """Count places 0, 1, ... n-1 as (1,), on their device.

    A number that an exported graph takes from a shape is on the host. What mixes it with arrays of a GPU has
    onnxruntime copy it in the middle of a run, which then cannot become a CUDA graph.
    """
    return places[-1:] + 1


def _area_weights(source: Tensor, target: Tensor) -> Tensor:
    """Weigh (target, source) places by the share of each output pixel that they cover."""
    # In units of 1/target pixel: whole numbers, which float32 holds exactly up to 16 million.
    sources, targets = _count(source), _count(target)
    start, own = target[:, None] * sources, source * targets
    return (torch.minimum(start + sources, own + targets) - torch.maximum(start, own)).clamp(min=0) / sources


def _linear_weights(source: Tensor, target: Tensor) -> Tensor:
    """Weigh (target, source) places by their distance to the centre of each output pixel."""
    center = (target[:, None] + 0.5) * _count(source) / _count(target) - 0.5
    center = torch.minimum(center.clamp(min=0), source[-1:])
    return (1 - (source - center).abs()).clamp(min=0)


def begin_label_map(batch: int, height: int, width: int, device: torch.device | str = "cpu") -> State:
    """Make the state of label maps before the first label: all is background."""
    label_map = torch.zeros(batch, height, width, dtype=torch.int32, device=device)
    largest = torch.zeros(batch, height, width, device=device)
    return label_map, largest - 1, largest


def continue_label_map(activations: Tensor, thresholds: Tensor, ids: Tensor, state: State) -> State:
    """Take more labels into label maps, as `Result` defines them; the state's shape is the images' size.

    activations: (B,k,h,w) in [0, 1]. thresholds: (k) float32. ids: (k) int32. Ties go to the first label.
    """
    return _take(_at_size(activations, *state[0].shape[1:]), thresholds, ids, state)


def _take(planes: Tensor, thresholds: Tensor, ids: Tensor, state: State) -> State:
    """Take activations (B,k,H,W) at the images' size into label maps."""
    label_map, winning, largest = state
    reaching = planes.masked_fill(planes < thresholds[:, None, None], -1.0)
    best, first = _best(reaching)
    label_map = torch.where(best > winning, _named(ids, first), label_map)
    return label_map, torch.maximum(winning, best), torch.maximum(largest, planes.amax(1))


def _best(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of planes (B,k,H,W) and the first k that has it."""
    if not torch.compiler.is_exporting():
        return planes.max(1)
    # By hand in exported graphs: TensorRT sorts for an arg-max, which takes longer than all else. In float32, to which
    # onnxruntime on a GPU would turn integers for their minimum.
    best = planes.amax(1)
    places = torch.arange(planes.shape[1], dtype=torch.float32, device=planes.device)[:, None, None]
    return best, torch.where(planes == best.unsqueeze(1), places, places[-1:]).amin(1).to(torch.int32)


def _named(ids: Tensor, places: Tensor) -> Tensor:
    """Return ids[places], for ids (k) and places of any shape.

    Exported, an index of several dimensions is GatherND, which onnxruntime has for no int32 on a GPU: each image would
    go to the host and back.
    """
    return ids.index_select(0, places.flatten()).view(places.shape)


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
    reached, numbers, sums = _measure(planes, thresholds, rows, columns)
    return reached, numbers, sums, activations.amax((2, 3))


def _measure(planes: Tensor, thresholds: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold activations (B,k,H,W) at the images' size; returns masks, numbers and sums as `masks` does."""
    reached = planes >= thresholds[:, None, None]
    counts = reached.to(torch.int32)
    sums = torch.where(reached, planes, torch.zeros_like(planes)).sum((2, 3))
    numbers = [counts.sum((2, 3), dtype=torch.int32)]
    crossed = [(counts.amax(2) > 0, columns), (counts.amax(3) > 0, rows)]  # (B,k,W), (B,k,H)
    numbers += [torch.where(hit, places, places[-1:]).amin(2) for hit, places in crossed]
    numbers += [torch.where(hit, places, places[:1]).amax(2) for hit, places in crossed]
    return reached, torch.stack(numbers, 2), sums


def decide(
    activations: Tensor,
    thresholds: Tensor,
    ids: Tensor,
    size: tuple[int, int],
    measured: bool,
    at_once: int,
    uniform: bool = False,
) -> tuple[Tensor, Tensor, Measures | None]:
    """Decide label maps and confidences of activations (B,K,h,w), and measure masks where that is asked for.

    Args:
        activations: in [0, 1].
        thresholds: (K) float32.
        ids: (K) int32.
        size: (H,W) of the images.
        measured: whether to measure masks.
        at_once: labels of one step, of which there are planes at the images' size.
        uniform: whether all thresholds are the first one; then the most active label wins or none does, which takes
            half the work.

    Returns:
        Label maps (B,H,W) int32, confidences (B,H,W) float32, and measures or None.
    """
    device, batch = activations.device, activations.shape[0]
    rows, columns = (torch.arange(side, dtype=torch.int32, device=device) for side in size)
    (label_map, winning, largest), measures = begin_label_map(batch, *size, device), []
    for start in range(0, activations.shape[1], at_once):
        part = slice(start, start + at_once)
        planes = _at_size(activations[:, part], *size)
        if uniform:
            best, first = _best(planes)
            label_map = torch.where(best > winning, _named(ids[part], first), label_map)
            winning = torch.maximum(winning, best)
        else:
            label_map, winning, largest = _take(planes, thresholds[part], ids[part], (label_map, winning, largest))
        if measured:
            measures.append(_measure(planes, thresholds[part], rows, columns)[1:])
    if uniform:
        label_map, largest = label_map.masked_fill(winning < thresholds[0], 0), winning
    decided = label_map, confidence((label_map, winning, largest))
    if not measured:
        return *decided, None
    numbers, sums = (torch.cat(values, 1) for values in zip(*measures, strict=True))
    return *decided, (numbers, sums, activations.amax((2, 3)))


def _at_size(activations: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(activations, size=(height, width), mode="bilinear", align_corners=False)
