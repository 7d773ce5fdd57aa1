"""Activations that torch keeps on its device, and what Results ask of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from synseg_model.engines.device_batch import BYTES_PER_LABEL_AND_PIXEL, DeviceBatch
from synseg_model.network.postprocess import begin_label_map, confidence, continue_label_map, masks
from synseg_model.vocabulary import Vocabulary


class TorchBatch(DeviceBatch[Tensor]):
    """Keep the logits (B,K,h,w) of frames of one size (H,W); of half precision they take half the memory.

    memory: bytes that working on them may take; labels are taken in steps that keep to it.
    """

    def __init__(self, logits: Tensor, size: tuple[int, int], memory: int) -> None:
        super().__init__(tuple(logits.shape), size)
        self._logits, self._memory = logits, memory

    def download(self, array: Tensor, dtype: type) -> np.ndarray:
        host = torch.empty(array.shape, dtype=array.dtype, pin_memory=array.is_cuda)
        host.copy_(array, non_blocking=True)
        if array.is_cuda:
            torch.cuda.current_stream(array.device).synchronize()
        return host.numpy().astype(dtype)  # pinned memory is scarce: Results must not hold it

    @torch.inference_mode()
    def activations(self, row: int) -> np.ndarray:
        return self._activations(slice(row, row + 1), slice(None))[0].cpu().numpy()

    @torch.inference_mode()
    def mask(self, row: int, index: int, threshold: np.float32) -> np.ndarray:
        reached, _, _, _ = self._threshold(row, slice(index, index + 1), np.array([threshold], np.float32))
        return self.download(reached[0, 0], bool)

    @torch.inference_mode()
    def measure(self, row: int, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = [self._threshold(row, part, thresholds[part])[1:] for part in self._parts(1)]
        numbers, sums, peaks = (torch.cat(values, 1)[0] for values in zip(*parts, strict=True))
        sums, peaks = self.download(torch.stack([sums, peaks]), np.float32)
        return self.download(numbers, np.int32), sums, peaks

    @torch.inference_mode()
    def _decide(self, vocabulary: Vocabulary) -> list[tuple[Tensor, Tensor]]:
        device, batch = self._logits.device, self.shape[0]
        thresholds = torch.tensor(vocabulary.thresholds, device=device)
        ids = torch.tensor(vocabulary.ids, dtype=torch.int32, device=device)
        state = begin_label_map(batch, *self.size, device)
        for part in self._parts(batch):
            state = continue_label_map(self._activations(slice(None), part), thresholds[part], ids[part], state)
        return list(zip(state[0], confidence(state), strict=True))

    def _activations(self, rows: slice, labels: slice) -> Tensor:
        return self._logits[rows, labels].float().sigmoid()

    def _threshold(self, row: int, part: slice, thresholds: np.ndarray) -> tuple[Tensor, ...]:
        device = self._logits.device
        axes = (torch.arange(side, dtype=torch.int32, device=device) for side in self.size)
        activations = self._activations(slice(row, row + 1), part)
        return masks(activations, torch.tensor(thresholds, device=device), *axes)

    def _parts(self, batch: int) -> list[slice]:
        """Cut the labels into parts whose planes of the frames' size fit into memory."""
        most = max(1, self._memory // (BYTES_PER_LABEL_AND_PIXEL * batch * self.size[0] * self.size[1]))
        return [slice(start, start + most) for start in range(0, self.shape[1], most)]
