"""The network run by torch, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synseg_model.checkpoints import load_model
from synseg_model.decoder import logits_to_activation
from synseg_model.engines.preprocess import resize_frame


def choose_device(device: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:N" into a device that is there; raise ValueError where it is not."""
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device {device!r}: expected auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise ValueError(f"device {device!r}: torch sees {count} CUDA device(s) here; choose auto or cpu")
    elif chosen.type != "cpu":
        raise ValueError(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    return chosen


class TorchEngine:
    """Run a model folder's network with torch; half precision on a GPU, float32 on the CPU."""

    name = "torch"

    def __init__(self, model: str | Path, device: str = "auto"):
        self._device = choose_device(device)
        self.device = str(self._device)
        self.network, self.fingerprint = load_model(model)
        self.network.to(self._device)
        self.config = self.network.config
        statistics = (
            torch.tensor(values, device=self._device) for values in (self.config.image.mean, self.config.image.std)
        )
        self._mean, self._std = (values.view(3, 1, 1) * 255 for values in statistics)

    def count_tokens(self, text: str) -> int:
        return self.network.encoder.count_tokens(text)

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        encoder = self.network.encoder
        parts = [
            encoder.encode_text(encoder.tokenize(prompts[start : start + 64]).to(self._device))
            for start in range(0, len(prompts), 64)
        ]
        return torch.cat(parts).float().cpu().numpy()

    @torch.inference_mode()
    def logits(self, images: np.ndarray, text: np.ndarray) -> Tensor:
        """Run pictures that are already of an input size; returns logits (B,K,H,W) on the engine's device.

        images: (B,H,W,3) uint8 RGB, sides multiples of the patch. text: (K,D) float32.
        """
        embeddings = torch.tensor(text, device=self._device)  # a copy: the vocabulary's array is read-only
        batch = torch.from_numpy(images).to(self._device)
        normalised = (batch.permute(0, 3, 1, 2).float() - self._mean) / self._std
        with torch.autocast("cuda", torch.float16, enabled=self._device.type == "cuda"):
            return self.network(normalised, embeddings)

    @torch.inference_mode()
    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        resized = [resize_frame(frame, self.config.image, self.network.encoder.patch) for frame in frames]
        results: list[np.ndarray | None] = [None] * len(frames)
        for size in {image.shape for image in resized}:  # frames of one input size go through as one batch
            rows = [i for i, image in enumerate(resized) if image.shape == size]
            maps = logits_to_activation(self.logits(np.stack([resized[i] for i in rows]), text)).cpu().numpy()
            for i, activation in zip(rows, maps, strict=True):
                results[i] = activation
        return results
