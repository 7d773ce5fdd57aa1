"""The network run by onnxruntime from an exported folder, on the CPU or an NVIDIA GPU. Needs no torch."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from synseg_model.config import DECODER_MEMORY, ModelConfig, ModelError
from synseg_model.engines.preprocess import resize_positions
from synseg_model.exported import DECODER, IMAGE_ENCODER, POSITIONS, TEXT_ENCODER, TOKENIZER, Export
from synseg_model.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_KEPT_GRIDS = 16  # token grids whose position embeddings stay on the device; a camera has one


class OnnxEngine:
    """Run an exported folder's graphs with onnxruntime.

    Labels are decoded in chunks that keep the decoder's working memory within `decoder_memory` bytes.
    """

    name = "onnxruntime"

    def __init__(self, folder: str | Path, device: str = "auto", decoder_memory: int = DECODER_MEMORY) -> None:
        self.folder = folder = Path(folder).expanduser()
        self.decoder_memory = decoder_memory
        self.config = ModelConfig.read(folder)
        self._export = Export.read(folder)
        self.fingerprint = self._export.fingerprint
        self._positions = np.load(io.BytesIO(self._export.read_file(folder, POSITIONS)), allow_pickle=False)
        self._positions_at: dict[tuple[int, int], ort.OrtValue] = {}
        self.device = choose_device(device)
        sessions = []
        for name in (IMAGE_ENCODER, DECODER):
            sessions.append(_session(self._export.read_file(folder, name), self.device, folder / name))
            if self.device != "cpu" and "CUDAExecutionProvider" not in sessions[-1].get_providers():
                if device != "auto":
                    raise ValueError(f"device {device!r}: onnxruntime cannot use it (CUDA or cuDNN is missing)")
                logger.warning("onnxruntime cannot use the GPU (CUDA or cuDNN is missing): running on the CPU")
                self.device = "cpu"
        self._image_encoder, self._decoder = sessions
        self._text = TextEncoder(folder, self._export, self.config.context_length, self.device)

    def count_tokens(self, text: str) -> int:
        return self._text.count_tokens(text)

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        return self._text.encode_text(prompts)

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        results: list[np.ndarray | None] = [None] * len(frames)
        for size in {frame.shape for frame in frames}:  # frames of one size go through as one batch
            rows = [i for i, frame in enumerate(frames) if frame.shape == size]
            for i, maps in zip(rows, self._decode(*self._encode([frames[i] for i in rows]), text), strict=True):
                results[i] = maps
        return results

    def _encode(self, frames: list[np.ndarray]) -> list[ort.OrtValue]:
        """Encode frames of one size once; returns class features (S,B,D) and features (S,B,h,w,D) on the device."""
        patch = self._export.patch
        rows, columns = (side // patch for side in self.config.image.input_size(*frames[0].shape[:2], patch))
        return self._run(
            self._image_encoder, {"frames": np.stack(frames), "positions": self._positions_of(rows, columns)}
        )

    def _decode(self, class_features: ort.OrtValue, features: ort.OrtValue, text: np.ndarray) -> np.ndarray:
        """Decode text embeddings (K,D) against encoded frames, in chunks; returns activations (B,K,h,w) float32."""
        _, batch, rows, columns, _ = features.shape()
        patch = self._export.patch
        per_label = batch * self.config.decoder.bytes_per_label(1 + rows * columns, patch)
        chunk = max(1, self.decoder_memory // per_label)
        maps = np.empty((batch, len(text), rows * patch, columns * patch), np.float32)
        encoded = {"class_features": class_features, "features": features}
        for start in range(0, len(text), chunk):
            part = np.ascontiguousarray(text[start : start + chunk], np.float32)
            maps[:, start : start + chunk] = self._run(self._decoder, {**encoded, "text": part})[0].numpy()
        return maps

    def _positions_of(self, rows: int, columns: int) -> ort.OrtValue:
        """Return the position embeddings of a token grid, on the device; computed when a grid is first met."""
        if (rows, columns) not in self._positions_at:
            if len(self._positions_at) == _KEPT_GRIDS:
                self._positions_at.clear()
            values = resize_positions(self._positions, rows, columns)
            self._positions_at[rows, columns] = ort.OrtValue.ortvalue_from_numpy(values, *_place(self.device))
        return self._positions_at[rows, columns]

    def _run(self, session: ort.InferenceSession, inputs: dict[str, np.ndarray | ort.OrtValue]) -> list[ort.OrtValue]:
        """Run a graph whose outputs stay on the device: encoded frames never pass through the host's memory."""
        binding = session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name, *_place(self.device))
        session.run_with_iobinding(binding)
        return list(binding.get_outputs())


class TextEncoder:
    """An exported folder's tokenizer and text tower; the same for every engine that runs such folders."""

    def __init__(self, folder: Path, export: Export, context_length: int, device: str = "cpu") -> None:
        self._tokenizer = Tokenizer(export.read_file(folder, TOKENIZER), context_length)
        self._session = _session(export.read_file(folder, TEXT_ENCODER), device, folder / TEXT_ENCODER)

    def count_tokens(self, text: str) -> int:
        return self._tokenizer.count_tokens(text)

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        parts = [
            self._session.run(None, {"tokens": self._tokenizer.tokenize(prompts[start : start + 64])})[0]
            for start in range(0, len(prompts), 64)
        ]
        return np.concatenate(parts)


def choose_device(device: str) -> str:
    """Turn "auto", "cpu", "cuda" or "cuda:N" into "cpu" or "cuda:N"; raise ValueError for anything else.

    "cuda" needs an onnxruntime that was built for it, which "auto" takes where it is installed.
    """
    has_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "auto":
        return "cuda:0" if has_cuda else "cpu"
    if device == "cpu":
        return device
    match = re.fullmatch(r"cuda(?::(\d{1,3}))?", device)
    if not match:
        raise ValueError(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    if not has_cuda:
        raise ValueError(f"device {device!r}: this onnxruntime has no CUDA; install onnxruntime-gpu, or choose cpu")
    return f"cuda:{match[1] or 0}"


def _place(device: str) -> tuple[str, int]:
    kind, _, index = device.partition(":")
    return kind, int(index or 0)


def _session(graph: bytes, device: str, path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors: a warning about every node placed on the CPU helps nobody
    providers: list = ["CPUExecutionProvider"]
    if device != "cpu":
        # TF32 keeps ten bits: fp32 is chosen by whoever wants more, and fp16 is as fast.
        cuda = {"device_id": str(_place(device)[1]), "use_tf32": "0"}
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    try:
        return ort.InferenceSession(graph, options, providers)
    except Exception as error:  # onnxruntime's own kinds, which share no base but Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"onnxruntime {ort.__version__} cannot run {path}: {reason}") from None
