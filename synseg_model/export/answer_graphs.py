"""The graphs behind every decoder: activations to label maps and masks. No weights are in them."""

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
    """Make what turns activations of one frame into what Results ask for: no weights are in it, so it is made once."""
    labels, height, width = Dim("labels"), Dim("height"), Dim("width")
    given = {"activations": torch.zeros(1, 5, 16, 32), "thresholds": torch.zeros(5)}
    shapes = {"activations": {1: labels, 2: Dim("map_height"), 3: Dim("map_width")}, "thresholds": {0: labels}}
    state = {
        "label_map": torch.zeros(1, 24, 40, dtype=torch.int32),
        "winning": torch.zeros(1, 24, 40),
        "largest": torch.zeros(1, 24, 40),
    }
    label_map = to_onnx(
        LabelMap(),
        {**given, "ids": torch.zeros(5, dtype=torch.int32), **state},
        [*(f"next_{name}" for name in state), "confidence"],
        {**shapes, "ids": {0: labels}, **{name: {1: height, 2: width} for name in state}},
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
    """Activations of some labels and a label map so far in, the label map with these labels and its confidence out."""

    def forward(self, activations, thresholds, ids, label_map, winning, largest) -> tuple[Tensor, ...]:
        state = continue_label_map(activations, thresholds, ids, (label_map, winning, largest))
        return *state, confidence(state)


class Masks(nn.Module):
    """Activations in, masks and their measures out."""

    def forward(self, activations, thresholds, rows, columns) -> tuple[Tensor, ...]:
        return masks(activations, thresholds, rows, columns)
