"""The network run by TensorRT from an exported folder, on an NVIDIA GPU. Needs no torch."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synseg_model.config import ModelConfig, ModelError
from synseg_model.engines.engine_cache import EngineCache
from synseg_model.engines.onnx_engine import TextEncoder
from synseg_model.engines.preprocess import resize_positions
from synseg_model.engines.tensorrt_build import Plans, Profile
from synseg_model.engines.tensorrt_flavour import device_index, load_flavour
from synseg_model.engines.tensorrt_runner import CudaDevice, DeviceArray, Runner
from synseg_model.exported import DECODER, IMAGE_ENCODER, POSITIONS, Export

DECODER_MEMORY = 2 * 2**30  # bytes; a GPU is fast when it has much to do at once
_KEPT_GRIDS = 16  # token grids whose position embeddings stay on the device; a camera has one


class TensorRtEngine:
    """Run an exported folder's image encoder and decoder with TensorRT, and its text encoder on the CPU.

    Engines come from the cache; those that it lacks are built first, which takes up to minutes. Frames go up as bytes
    and activations come down through pinned memory; what is between stays on the device. Labels are decoded in passes
    that keep the decoder's working memory within `decoder_memory` bytes. Raise ValueError for a device that is not
    there, ModelError where no TensorRT serves it.
    """

    name = "tensorrt"

    def __init__(
        self,
        folder: str | Path,
        device: str = "auto",
        decoder_memory: int = DECODER_MEMORY,
        cache: EngineCache | None = None,
        profile: Profile | None = None,
    ) -> None:
        self.folder = folder = Path(folder).expanduser()
        self.decoder_memory = decoder_memory
        self.config = ModelConfig.read(folder)
        self._export = Export.read(folder)
        self.fingerprint = self._export.fingerprint
        self._profile = profile or Profile()
        self._text = TextEncoder(folder, self._export, self.config.context_length)
        self._positions = np.load(io.BytesIO(self._export.read_file(folder, POSITIONS)), allow_pickle=False)
        self._positions_at: dict[tuple[int, int], DeviceArray] = {}
        index = device_index(device)
        self.device = f"cuda:{index}"
        self._lock = threading.Lock()  # an execution context serves one thread at a time
        self._gpu = CudaDevice(index)
        flavour = load_flavour(self._gpu.capability)
        self.flavour = f"{flavour.name} {flavour.version}"
        plans = Plans(folder, flavour, self._gpu.name, self._profile, cache or EngineCache())
        with self._gpu:
            log = flavour.make_log()
            runtime = flavour.trt.Runtime(log)
            self._image_encoder, self._decoder = (
                Runner(self._gpu, flavour, self._load(plans, name, runtime, log)) for name in (IMAGE_ENCODER, DECODER)
            )

    def count_tokens(self, text: str) -> int:
        return self._text.count_tokens(text)

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        return self._text.encode_text(prompts)

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        for frame in frames:
            if max(frame.shape[:2]) > self._profile.side:
                raise ValueError(
                    f"a frame of {frame.shape[1]}x{frame.shape[0]} pixels: the tensorrt engine takes sides up to "
                    f"{self._profile.side}; make it smaller, or choose another engine"
                )
        results: list[np.ndarray | None] = [None] * len(frames)
        with self._lock, self._gpu:
            for size in {frame.shape for frame in frames}:  # frames of one size go through as one batch
                rows = [i for i, frame in enumerate(frames) if frame.shape == size]
                for start in range(0, len(rows), self._profile.cameras):
                    batch = rows[start : start + self._profile.cameras]
                    maps = self._decode(self._encode([frames[i] for i in batch]), text)
                    for i, activation in zip(batch, maps, strict=True):
                        results[i] = activation
        return results

    def _load(self, plans: Plans, name: str, runtime, log):
        """Deserialise a graph's engine from the cache, or build it."""
        engine = plans.get(name, load=runtime.deserialize_cuda_engine)
        if engine is None:
            reason = log.errors[-1] if log.errors else "no reason given"
            raise ModelError(f"{self.flavour} cannot load the engine that it built for {name}: {reason}")
        return engine

    def _encode(self, frames: list[np.ndarray]) -> dict[str, DeviceArray]:
        """Encode frames of one size once; returns class features (S,B,D) and features (S,B,h,w,D) on the device."""
        patch = self._export.patch
        rows, columns = (side // patch for side in self.config.image.input_size(*frames[0].shape[:2], patch))
        return self._image_encoder.run({"frames": np.stack(frames), "positions": self._positions_of(rows, columns)})

    def _decode(self, encoded: dict[str, DeviceArray], text: np.ndarray) -> np.ndarray:
        """Decode text embeddings (K,D) against encoded frames, in passes; returns activations (B,K,h,w) float32."""
        _, batch, rows, columns, _ = encoded["features"].shape
        patch = self._export.patch
        per_label = batch * self.config.decoder.bytes_per_label(1 + rows * columns, patch)
        chunk = min(self._profile.labels, max(1, self.decoder_memory // per_label))
        maps = np.empty((batch, len(text), rows * patch, columns * patch), np.float32)
        for start in range(0, len(text), chunk):
            part = np.ascontiguousarray(text[start : start + chunk], np.float32)
            activations = self._decoder.run({**encoded, "text": part})["activations"]
            maps[:, start : start + chunk] = self._gpu.download(activations)
        return maps

    def _positions_of(self, rows: int, columns: int) -> DeviceArray:
        """Return the position embeddings of a token grid, on the device; computed when a grid is first met."""
        if (rows, columns) not in self._positions_at:
            if len(self._positions_at) == _KEPT_GRIDS:
                self._positions_at.clear()
            self._positions_at[rows, columns] = self._gpu.upload(resize_positions(self._positions, rows, columns))
        return self._positions_at[rows, columns]
