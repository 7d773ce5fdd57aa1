"""Exported folders: a model as ONNX graphs that run without torch, and the proof that they agree with torch."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch

from synseg_model.config import CONFIG_FILE, ModelError
from synseg_model.engines.onnxruntime import OnnxEngine
from synseg_model.engines.torch import TorchEngine
from synseg_model.export.compact import compact, restore
from synseg_model.export.float16 import to_half
from synseg_model.export.graphs import Graphs, make_graphs
from synseg_model.export.parity import check_parity, measure_parity
from synseg_model.export.steps import Steps
from synseg_model.export.tokenizer_json import tokenizer_json
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.exported_folder import (
    DECODER,
    EXPORT_FILE,
    IMAGE_ENCODER,
    NAMES_FILE,
    POSITIONS,
    TOKENIZER,
    Export,
    is_exported,
    seal,
)
from synseg_model.weights.find import check_model, folder_of, shipped_models

__all__ = ["export_model", "write_folder"]

logger = logging.getLogger(__name__)

PRECISIONS = ("fp32", "fp16")


def export_model(
    model: str | Path, output: str | Path, precision: str = "fp32", graphs: Graphs | None = None
) -> Export:
    """Write a model as an exported folder, which runs without torch; an earlier export there is replaced.

    Args:
        model: a shipped model, a model folder, or a CLIPSeg id.
        output: folder to write: a new one, an empty one, or an earlier export.
        precision: "fp32", or "fp16" for image encoder and decoder.
        graphs: as `write_folder` takes them.

    Returns:
        What the folder's `export.json` says.

    Raises:
        ModelError: for a model that cannot be loaded or exported, for graphs that disagree with torch, and where
            something else lies at `output`. Nothing is left behind.
        ValueError: for another precision.
    """
    output = Path(output).expanduser()
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if str(model) not in shipped_models() and is_exported(model):
        raise ModelError(f"model {str(model)!r} is an exported folder already: give the model it was exported from")
    if output.exists() and not is_exported(output) and (not output.is_dir() or any(output.iterdir())):
        raise ModelError(f"{output} holds files that are not an export: give a new folder, or an earlier export")
    check_model(model)  # a missing model is reported before anything is logged
    step = Steps(logger)
    step("loading the model")
    reference = TorchEngine(model, "cpu", "fp32")
    network = reference.network
    step("turning the network into graphs, which takes longest")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as room:
        folder = Path(room, "export")
        folder.mkdir()
        names = folder_of(model) / NAMES_FILE
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
    """Write an exported folder that still has to be compared with torch.

    Args:
        network: the network in float32 on the CPU.
        folder: an empty folder, or one with the names.json that is to be sealed with the rest.
        precision: "fp32", or "fp16" for image encoder and decoder.
        fingerprint: the model's fingerprint.
        graphs: the network's float32 graphs by file name, where another precision has made them already: making them
            takes longest.

    Returns:
        What the folder's `export.json` says.
    """
    config, encoder = network.config, network.encoder
    for name, graph in (graphs or make_graphs(network)).items():
        # The text encoder stays fp32: all engines share the cached embeddings.
        half = precision == "fp16" and name in (IMAGE_ENCODER, DECODER)
        onnx.save(compact(to_half(restore(graph)) if half else restore(graph)), folder / name)
    learned = network.decoder.position if config.encoder.backbone else encoder.learned_positions
    np.save(folder / POSITIONS, np.ascontiguousarray(learned.float().cpu().numpy()), allow_pickle=False)
    (folder / TOKENIZER).write_text(tokenizer_json(encoder.tokenizer), encoding="utf-8")
    (folder / CONFIG_FILE).write_text(config.to_json(), encoding="utf-8")
    export = Export(precision, fingerprint, encoder.patch, seal(folder))
    (folder / EXPORT_FILE).write_text(export.to_json(), encoding="utf-8")
    return export
