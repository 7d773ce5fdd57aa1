"""The graphs behind every decoder: activations to label maps and masks. They hold no weights."""

from __future__ import annotations

import functools

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from synseg_model.export.to_onnx import to_onnx
from synseg_model.network.postprocess import confidence, continue_label_map, masks
from synseg_model.weights.exported_folder import LABEL_MAP, MASKS


@functools.cache
def make_answer_graphs() -> dict[str, onnx.ModelProto]:
    """Make the graphs that turn the activations of a batch of frames into what Results are asked for.

    They hold no weights, so they are made once.

    Returns:
        The graphs by their files' names.
    """
    batch, labels, height, width = Dim("batch"), Dim("labels"), Dim("height"), Dim("width")
    given = {"activations": torch.zeros(2, 5, 16, 32), "thresholds": torch.zeros(5)}
    maps = {0: batch, 1: labels, 2: Dim("map_height"), 3: Dim("map_width")}
    shapes = {"activations": maps, "thresholds": {0: labels}}
    state = {
        "label_map": torch.zeros(2, 24, 40, dtype=torch.int32),
        "winning": torch.zeros(2, 24, 40),
        "largest": torch.zeros(2, 24, 40),
    }
    label_map = to_onnx(
        LabelMap(),
        {**given, "ids": torch.zeros(5, dtype=torch.int32), **state},
        [*(f"next_{name}" for name in state), "confidence"],
        {**shapes, "ids": {0: labels}, **{name: {0: batch, 1: height, 2: width} for name in state}},
    )
    rows, columns = (torch.arange(side, dtype=torch.int32) for side in (24, 40))
    return {
        LABEL_MAP: label_map,
        MASKS: to_onnx(
            Masks(),
            {**given, "rows": rows, "columns": columns},
            ["masks", "numbers", "sums", "peaks"],
            {**shapes, "rows": {0: height}, "columns": {0: width}},
        ),
    }


class LabelMap(nn.Module):
    """Continue label maps with the activations of some more labels, and compute their confidences."""

    def forward(self, activations, thresholds, ids, label_map, winning, largest) -> tuple[Tensor, ...]:
        """Continue label maps.

        Args:
            activations: (B,K,h,w) float32 in [0, 1].
            thresholds: (K,) float32 in [0, 1].
            ids: (K,) int32, from 1.
            label_map, winning, largest: (B,H,W) each, of the labels so far, see `postprocess.continue_label_map`.

        Returns:
            The next label_map, winning and largest, and the confidence (B,H,W).
        """
        state = continue_label_map(activations, thresholds, ids, (label_map, winning, largest))
        return *state, confidence(state)


class Masks(nn.Module):
    """Compute the masks of some labels and their measures."""

    def forward(self, activations, thresholds, rows, columns) -> tuple[Tensor, ...]:
        """Compute masks, see `postprocess.masks`.

        Args:
            activations: (B,K,h,w) float32 in [0, 1].
            thresholds: (K,) float32 in [0, 1].
            rows, columns: numbers of the image's rows (H,) and columns (W,), int32.
        """
        return masks(activations, thresholds, rows, columns)
