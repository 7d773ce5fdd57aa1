"""Who is compared: our engines, and Hugging Face's CLIPSeg used in two ways. Weights are random."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import torch

from benchmarks.peers import PEERS, make_peer
from synseg_model import Segmenter
from synseg_model.config import EncoderConfig, ImageConfig, ModelConfig
from synseg_model.engines.load import load_engine
from synseg_model.export.folder import write_folder
from synseg_model.export.graphs import make_graphs
from synseg_model.network.synseg import SynSeg
from synseg_model.vocabulary import Vocabulary
from synseg_model.weights.exported_folder import INT8_ENCODER, INT8_WEIGHTS, is_exported
from synseg_model.weights.find import find_folder
from synseg_model.weights.model_folder import load_model, save_model

CLIPSEG_SIZE = 352  # pixels of CLIPSeg's square input, where ours is no ViT that could have the same
KEPT = 20  # labels that one of ours decodes in full
PATIENCE = 240.0  # seconds for what an engine makes in the background
# Name of a contender: engine and precision of ours, or a way of using CLIPSeg.
CONTENDERS = {
    "CLIPSeg, image repeated": ("clipseg", "usual"),
    "CLIPSeg, one encoding": ("clipseg", "once"),
    "torch": ("torch", "fp32"),
    "torch, 20 labels kept": ("torch", "kept"),
    "torch, half": ("torch", "half"),
    "torch, half, CUDA graph": ("torch", "graph"),
    "torch, half, compiled": ("torch", "compiled"),
    "onnxruntime": ("onnxruntime", "fp32"),
    "onnxruntime, fp16": ("onnxruntime", "fp16"),
    "onnxruntime, CUDA graph": ("onnxruntime", "fp32 graph"),
    "onnxruntime, fp16, CUDA graph": ("onnxruntime", "fp16 graph"),
    "openvino": ("openvino", "fp32"),
    "openvino, bf16": ("openvino", "bf16"),
    "openvino, int8": ("openvino", "int8"),  # for models whose export has it
    "tensorrt, fp16": ("tensorrt", "fp16"),
    "onnxruntime, encoding alone": ("onnxruntime", "encoding"),
    "openvino, encoding alone": ("openvino", "encoding"),
}


class Contender(Protocol):
    """vocabulary: what `prepare` made last, to be handed to `run`."""

    vocabulary: object

    def prepare(self, labels: int) -> None:
        """Make ready for so many labels."""

    def settle(self, frames: Sequence[np.ndarray]) -> None:
        """Segment frames until all is made that is made in the background for those and the vocabulary."""

    def run(self, frames: Sequence[np.ndarray], vocabulary: object) -> None:
        """Segment frames; returns when the result is on the host."""


def write_models(folder: Path, model: str, contenders: Iterable[str] = CONTENDERS) -> None:
    """Write the same network as a model folder and, where contenders need those, as two exported ones.

    model: a shipped model, a model folder, or NAME@SIZE for an open_clip architecture with random weights.
    """
    graphs, int8 = None, []
    if "@" in model:
        encoder, _, size = model.partition("@")
        config = ModelConfig("random", EncoderConfig(encoder, included=True), image=ImageConfig(int(size)))
        torch.manual_seed(0)
        network = SynSeg.from_config(config, download=False)
        save_model(folder / "model", network, config)
    else:
        network, _ = load_model(model)
        shutil.copytree(find_folder(model), folder / "model")
        exported = find_folder(model) / "exported"
        if is_exported(exported):  # making graphs takes a minute
            graphs = {path.name: onnx.load(path) for path in exported.glob("*.onnx")}
            int8 = [path for path in (exported / INT8_ENCODER, exported / INT8_WEIGHTS) if path.is_file()]
    if {CONTENDERS[name][0] for name in contenders if name not in PEERS} <= {"clipseg", "torch"}:
        return
    graphs = graphs or make_graphs(network)
    for precision in ("fp32", "fp16"):
        exported = folder / precision
        exported.mkdir()
        for path in int8 if precision == "fp32" else []:
            shutil.copy(path, exported)
        write_folder(network, exported, precision, "00", graphs)


def make_contender(name: str, folder: Path, device: str) -> Contender:
    """Load one contender, or a peer; raise ValueError or ImportError where it cannot run here."""
    if name in PEERS:
        return make_peer(name, device)
    engine, precision = CONTENDERS[name]
    if engine == "clipseg":
        config = ModelConfig.read(folder / "model")
        return ClipSeg(precision == "once", device, CLIPSEG_SIZE if config.encoder.backbone else config.image.size)
    logging.getLogger("synseg_model").setLevel(logging.WARNING)
    return (EncodingAlone if precision == "encoding" else Ours)(folder, engine, precision, device)


class Ours:
    """A Segmenter whose text embeddings are made up: encoding labels is no part of a frame's time."""

    def __init__(self, folder: Path, engine: str, precision: str, device: str) -> None:
        self._turns = 3  # what comes a second time is worth to be made, and the third time it is there
        if engine == "torch":
            half = "bf16" if device == "cpu" else "fp16"
            options = {"precision": "fp32" if precision in ("fp32", "kept") else half}
            options |= {"cuda_graphs": precision in ("graph", "compiled"), "compile": precision == "compiled"}
            options |= {"keep_labels": KEPT if precision == "kept" else 0}
            self._engine = load_engine(folder / "model", engine, device, **options)
        elif engine == "openvino":
            precision = "fp32" if precision == "encoding" else precision
            self._engine = load_engine(folder / "fp32", engine, device, precision=precision)
        elif precision == "encoding":
            self._engine = load_engine(folder / "fp32", engine, device)
        elif engine == "onnxruntime":
            kind, _, graph = precision.partition(" ")
            self._engine = load_engine(folder / kind, engine, device, cuda_graphs=bool(graph))
            self._turns = 8 if graph else 3  # it has three graphs, of which each waits for the one before
        else:
            self._engine = load_engine(folder / precision, engine, device)
        self._segmenter = Segmenter(self._engine)

    def prepare(self, labels: int) -> None:
        width = len(self._engine.encode_text(["a"])[0])
        embeddings = np.random.default_rng(0).normal(size=(labels, width)).astype(np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        names = tuple(f"label {i}" for i in range(labels))
        thresholds = np.full(labels, 0.5, np.float32)
        self.vocabulary = Vocabulary(names, thresholds, embeddings, self._engine.fingerprint)

    def settle(self, frames: Sequence[np.ndarray]) -> None:
        for _ in range(self._turns):
            self.run(frames, self.vocabulary)
            recordings = getattr(self._engine, "recordings", None)
            if recordings is not None and (not recordings.wait(PATIENCE) or recordings.failure):
                raise RuntimeError(recordings.failure or f"recording took more than {PATIENCE:.0f} s")

    def run(self, frames: Sequence[np.ndarray], vocabulary: Vocabulary) -> None:
        for result in self._segmenter.segment_batch(frames, vocabulary):
            _ = result.label_map


class EncodingAlone(Ours):
    """The part of a frame that no label changes."""

    def run(self, frames: Sequence[np.ndarray], vocabulary: Vocabulary) -> None:
        self._engine.encode(list(frames))


class ClipSeg:
    """Hugging Face's CLIPSegForImageSegmentation of the same size."""

    def __init__(self, once: bool, device: str, size: int) -> None:
        from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, ViTImageProcessor

        vision = {"image_size": size, "patch_size": 16}
        config = CLIPSegConfig(vision_config=vision, extract_layers=[3, 6, 9], reduce_dim=64)
        torch.manual_seed(0)
        self._model = CLIPSegForImageSegmentation(config).eval().to(device)
        self._processor = ViTImageProcessor(size={"height": size, "width": size}, do_resize=True)
        self._once, self._device = once, device

    @torch.inference_mode()
    def prepare(self, labels: int) -> None:
        tokens = torch.full((labels, 7), 320)
        tokens[:, 0], tokens[:, -1] = 49406, 49407
        self.vocabulary = tokens.to(self._device)
        if self._once:  # as our vocabularies, embedded beforehand
            self.vocabulary = self._model.get_conditional_embeddings(labels, input_ids=self.vocabulary)

    def settle(self, frames: Sequence[np.ndarray]) -> None:
        self.run(frames, self.vocabulary)

    @torch.inference_mode()
    def run(self, frames: Sequence[np.ndarray], vocabulary: torch.Tensor) -> None:
        for frame in frames:
            pixels = self._processor(images=frame, return_tensors="pt")["pixel_values"].to(self._device)
            if self._once:
                states = self._model.clip.vision_model(pixels, output_hidden_states=True).hidden_states
                layers = [states[i + 1].expand(len(vocabulary), -1, -1) for i in self._model.extract_layers]
                logits = self._model.decoder(layers, vocabulary).logits
            else:
                repeated = pixels.expand(len(vocabulary), -1, -1, -1)
                logits = self._model(input_ids=vocabulary, pixel_values=repeated).logits
            logits.sigmoid().cpu()
