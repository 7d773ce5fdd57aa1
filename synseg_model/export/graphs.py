"""All graphs of a model: frames and texts to activations, activations to label maps and masks."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from synseg_model.config import ModelError
from synseg_model.export.answer_graphs import make_answer_graphs
from synseg_model.export.clip_graphs import make_clip_graphs
from synseg_model.export.conv_graphs import make_conv_graphs
from synseg_model.export.to_onnx import to_onnx
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.exported_folder import TEXT_ENCODER

Graphs = dict[str, onnx.ModelProto]  # by their files' names


def make_graphs(network: SynSeg) -> Graphs:
    """Turn a network into its graphs.

    Args:
        network: the network in float32 on the CPU.

    Returns:
        The graphs by their files' names.

    Raises:
        ModelError: for a text tower unlike CLIP's.
    """
    return {**make_network_graphs(network), **make_answer_graphs()}


@torch.no_grad()
def make_network_graphs(network: SynSeg) -> Graphs:
    """Turn a network into the graphs that hold its weights; see `make_graphs`, which adds those of every model."""
    encoder = network.encoder
    if not encoder.reads_to_the_end_mark:
        raise ModelError("the text tower cannot be exported: expected one like CLIP's, causal and read at its end mark")
    text_encoder = to_onnx(
        TextEncoderModule(network),
        {"tokens": torch.arange(2 * 5).view(2, 5)},
        ["embeddings"],
        {"tokens": {0: Dim("texts"), 1: Dim("length", max=encoder.text.context_length)}},
    )
    frame_graphs = (make_conv_graphs if network.config.encoder.backbone else make_clip_graphs)(network)
    return {**frame_graphs, TEXT_ENCODER: text_encoder}


class TextEncoderModule(nn.Module):
    """Encode token ids into text embeddings.

    Args:
        network: the network whose text tower this is.
    """

    def __init__(self, network: SynSeg) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed token ids.

        Args:
            tokens: (N,L) of any length up to the context length.

        Returns:
            (N,D), not normalised.
        """
        return self.encoder.encode_cut_text(tokens)
