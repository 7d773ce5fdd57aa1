"""`synseg export`: a model as ONNX graphs that run without torch, and the proof that they agree with torch."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from synseg_model.config import CONFIG_FILE, ModelError
from synseg_model.engines.onnxruntime import OnnxEngine
from synseg_model.engines.torch import TorchEngine
from synseg_model.export.compact import compact, restore
from synseg_model.export.feature_levels import make_level_graphs
from synseg_model.export.float16 import to_half
from synseg_model.export.frame_encoder import FrameEncoder
from synseg_model.export.parity import check_parity, measure_parity
from synseg_model.export.steps import Steps
from synseg_model.export.to_onnx import to_onnx
from synseg_model.network.postprocess import confidence, continue_label_map, masks
from synseg_model.network.synseg import SynSeg
from synseg_model.text.tokenizer import END, START
from synseg_model.weights.exported_folder import (
    DECODER,
    EXPORT_FILE,
    IMAGE_ENCODER,
    LABEL_MAP,
    MASKS,
    NAMES_FILE,
    POSITIONS,
    TEXT_ENCODER,
    TOKENIZER,
    Export,
    is_exported,
    seal,
)
from synseg_model.weights.find import check_model, model_folder, shipped_models

logger = logging.getLogger(__name__)

PRECISIONS = ("fp32", "fp16")
Graphs = dict[str, onnx.ModelProto]  # by their files' names


def export_model(
    model: str | Path, output: str | Path, precision: str = "fp32", graphs: Graphs | None = None
) -> Export:
    """Write a model as an exported folder, which runs without torch; an earlier export there is replaced.

    precision: "fp32", or "fp16" for image encoder and decoder. graphs: see `write_folder`.
    Raise ModelError, and leave nothing behind, for a model that cannot be loaded or exported, where the graphs disagree
    with torch, and where something else lies at `output`; ValueError for another precision.
    """
    output = Path(output).expanduser()
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if str(model) not in shipped_models() and is_exported(model):
        raise ModelError(f"model {str(model)!r} is an exported folder already: name the model it was exported from")
    if output.exists() and not is_exported(output) and (not output.is_dir() or any(output.iterdir())):
        raise ModelError(f"{output} holds something that is no export: name a new folder, or an earlier export")
    check_model(model)  # what is missing is said without a word before
    step = Steps(logger)
    step("loading the model")
    reference = TorchEngine(model, "cpu", "fp32")
    network = reference.network
    step("turning the network into graphs, which takes longest")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as room:
        folder = Path(room, "export")
        folder.mkdir()
        names = model_folder(model) / NAMES_FILE
        if names.is_file():
            shutil.copyfile(names, folder / NAMES_FILE)
        export = write_folder(network, folder, precision, reference.fingerprint, graphs)
        step("comparing the graphs with torch")
        export.parity.update(measure_parity(reference, OnnxEngine(folder, "cpu")))
        exact = TorchEngine(model, "cpu", "fp64")
        export.parity["fp32_rounding"] = measure_parity(exact, reference)["rms_difference"]
        check_parity(export.parity, precision)
        step("done")
        (folder / EXPORT_FILE).write_text(export.to_json(), encoding="utf-8")
        if output.exists():
            os.rename(output, Path(room, "earlier"))
        os.rename(folder, output)
    return export


@torch.no_grad()
def write_folder(
    network: SynSeg, folder: Path, precision: str, fingerprint: str, graphs: Graphs | None = None
) -> Export:
    """Write an exported folder, which is to be compared yet; returns what its `export.json` says.

    folder: one that is empty, or holds the names.json that is to be sealed with the rest.
    fingerprint: of the model. graphs: of the network in fp32, by file name, where another precision has made them
    already: that takes longest.
    """
    config, encoder = network.config, network.encoder
    for name, graph in (graphs or make_graphs(network)).items():
        # A text is encoded once and its embedding kept, for every engine under the same key: it has one precision.
        half = precision == "fp16" and name in (IMAGE_ENCODER, DECODER)
        onnx.save(compact(to_half(restore(graph)) if half else restore(graph)), folder / name)
    learned = network.decoder.position if config.encoder.backbone else encoder.learned_positions
    np.save(folder / POSITIONS, np.ascontiguousarray(learned.float().cpu().numpy()), allow_pickle=False)
    (folder / TOKENIZER).write_text(tokenizer_json(encoder.tokenizer), encoding="utf-8")
    (folder / CONFIG_FILE).write_text(config.to_json(), encoding="utf-8")
    export = Export(precision, fingerprint, encoder.patch, seal(folder))
    (folder / EXPORT_FILE).write_text(export.to_json(), encoding="utf-8")
    return export


@torch.no_grad()
def make_graphs(network: SynSeg) -> Graphs:
    """Turn a network in float32 on the CPU into its graphs; raise ModelError for a text tower unlike CLIP's."""
    encoder = network.encoder
    if not encoder.reads_to_the_end_mark:
        raise ModelError("only text towers like CLIP's, causal and read at their end mark, can be exported")
    text_encoder = to_onnx(
        TextEncoder(network),
        {"tokens": torch.arange(2 * 5).view(2, 5)},
        ["embeddings"],
        {"tokens": {0: Dim("texts"), 1: Dim("length", max=encoder.text.context_length)}},
    )
    frame_graphs = make_level_graphs(network) if network.config.encoder.backbone else _make_clip_graphs(network)
    return {**frame_graphs, TEXT_ENCODER: text_encoder, **_make_answer_graphs()}


def _make_clip_graphs(network: SynSeg) -> Graphs:
    encoder, depth = network.encoder, len(network.config.decoder.layers) - network.config.decoder.conditional_layer
    batch, rows, columns, labels = Dim("batch"), Dim("rows"), Dim("columns"), Dim("labels")
    width, patch = network.config.decoder.width, encoder.patch
    frames = torch.zeros(2, 3 * patch + 1, 5 * patch + 1, 3, dtype=torch.uint8)
    image_encoder = to_onnx(
        ImageEncoder(network),
        {"frames": frames, "positions": torch.zeros(3, 4, encoder.width)},
        ["class_features", "features"],
        {"frames": {0: batch, 1: Dim("height"), 2: Dim("width")}, "positions": {0: rows, 1: columns}},
    )
    decoder = to_onnx(
        Decoder(network),
        {
            "class_features": torch.zeros(depth, 2, width),
            "features": torch.zeros(depth, 2, 3, 4, width),
            "text": torch.zeros(5, encoder.text_width),
        },
        ["activations"],
        {"class_features": {1: batch}, "features": {1: batch, 2: rows, 3: columns}, "text": {0: labels}},
    )
    return {IMAGE_ENCODER: image_encoder, DECODER: decoder}


@functools.cache
def _make_answer_graphs() -> Graphs:
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


class ImageEncoder(FrameEncoder):
    """Frames in, what FiLM modulates out: resizing, normalising, CLIP's blocks, and all that no label changes."""

    def forward(self, frames: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames (B,H,W,3) uint8 RGB.

        positions: (h,w,C) position embeddings of the token grid, whose shape chooses the input size. The host
        resamples them, once per size of frames; all inputs are then plain tensors with dynamic shapes.
        Returns class features (S,B,D) and features (S,B,h,w,D): what `ActivationDecoder.reduce` returns, as images.
        """
        encoder, decoder = self.network.encoder, self.network.decoder
        grid = positions.shape[:2]
        position = torch.cat([encoder.clip.visual.positional_embedding[:1], positions.flatten(0, 1)])
        states = encoder.hidden_states(self.normalised(frames, grid), decoder.config.layers, position)
        reduced = torch.stack(decoder.reduce(states))  # (S, B, 1+P, D)
        return reduced[:, :, 0], reduced[:, :, 1:].unflatten(2, grid)


class Decoder(nn.Module):
    """Features and text embeddings in, activations out."""

    def __init__(self, network: SynSeg) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(self, class_features: Tensor, features: Tensor, text: Tensor) -> Tensor:
        """Decode text embeddings (K,D) against what `ImageEncoder` returned; returns activations (B,K,H,W)."""
        reduced = torch.cat([class_features.unsqueeze(2), features.flatten(2, 3)], dim=2)
        logits = self.decoder(reduced.unbind(0), text.expand(features.shape[1], -1, -1), features.shape[2:4])
        return logits.sigmoid()


class TextEncoder(nn.Module):
    """Token ids in, text embeddings out."""

    def __init__(self, network: SynSeg) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed token ids (N,L) of any length up to the context's; returns (N,D), not normalised."""
        return self.encoder.encode_cut_text(tokens)


class LabelMap(nn.Module):
    """Activations of some labels and a label map so far in, the label map with these labels and its confidence out."""

    def forward(self, activations, thresholds, ids, label_map, winning, largest) -> tuple[Tensor, ...]:
        state = continue_label_map(activations, thresholds, ids, (label_map, winning, largest))
        return *state, confidence(state)


class Masks(nn.Module):
    """Activations in, masks and their measures out."""

    def forward(self, activations, thresholds, rows, columns) -> tuple[Tensor, ...]:
        return masks(activations, thresholds, rows, columns)


def tokenizer_json(tokenizer) -> str:
    """Write an open_clip SimpleTokenizer as the JSON of the `tokenizers` library; texts are to be cleaned before."""
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as BytePairEncoder

    merges = [pair for pair, _ in sorted(tokenizer.bpe_ranks.items(), key=lambda item: item[1]) if len(pair) == 2]
    encoder = BytePairEncoder(
        models.BPE(vocab=tokenizer.encoder, merges=merges, end_of_word_suffix="</w>", continuing_subword_prefix="")
    )
    # The marks are no words here: `without_marks` has broken them up wherever a text had them.
    pattern = tokenizer.pat.pattern.removeprefix(f"{START}|{END}|")
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?i:{pattern})"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    encoder.decoder = decoders.ByteLevel()
    return encoder.to_str()
