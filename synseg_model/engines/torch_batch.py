"""What torch keeps of frames on its device, and what Results ask of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from synseg_model.engines.device_batch import DeviceBatch, labels_at_once
from synseg_model.network.postprocess import decide, masks
from synseg_model.vocabulary import Vocabulary

HostMeasures = tuple[np.ndarray, np.ndarray, np.ndarray]


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
    def measure(self, row: int, thresholds: np.ndarray) -> HostMeasures:
        most = labels_at_once(self._memory, 1, self.size)
        parts = [slice(start, start + most) for start in range(0, self.shape[1], most)]
        found = [self._threshold(row, part, thresholds[part])[1:] for part in parts]
        numbers, sums, peaks = (torch.cat(values, 1)[0] for values in zip(*found, strict=True))
        sums, peaks = self.download(torch.stack([sums, peaks]), np.float32)
        return self.download(numbers, np.int32), sums, peaks

    @torch.inference_mode()
    def _decide(self, vocabulary: Vocabulary) -> list[tuple[Tensor, Tensor]]:
        device, batch = self._logits.device, self.shape[0]
        thresholds = torch.tensor(vocabulary.thresholds, device=device)
        ids = torch.tensor(vocabulary.ids, dtype=torch.int32, device=device)
        most = labels_at_once(self._memory, batch, self.size)
        activations = self._activations(slice(None), slice(None))
        uniform = bool((vocabulary.thresholds == vocabulary.thresholds[0]).all())
        label_maps, confidences, _ = decide(activations, thresholds, ids, self.size, False, most, uniform)
        return list(zip(label_maps, confidences, strict=True))

    def _activations(self, rows: slice, labels: slice) -> Tensor:
        return self._logits[rows, labels].float().sigmoid()

    def _threshold(self, row: int, part: slice, thresholds: np.ndarray) -> tuple[Tensor, ...]:
        device = self._logits.device
        axes = (torch.arange(side, dtype=torch.int32, device=device) for side in self.size)
        activations = self._activations(slice(row, row + 1), part)
        return masks(activations, torch.tensor(thresholds, device=device), *axes)


class DecidedBatch(TorchBatch):
    """The same of a pass that has decided for a vocabulary already.

    label_maps: (B,H,W), on the host. confidences: (B,H,W), on the device. measures: of all masks, (B,K,...) on the
    host, or None. asked: called when measures are asked for that the pass did not make.
    """

    def __init__(
        self,
        logits: Tensor,
        size: tuple[int, int],
        memory: int,
        vocabulary: Vocabulary,
        label_maps: np.ndarray,
        confidences: Tensor,
        measures: HostMeasures | None,
        asked: Callable[[], None],
    ) -> None:
        super().__init__(logits, size, memory)
        self._vocabulary, self._measures, self._asked = vocabulary, measures, asked
        self._decision = vocabulary, list(zip(label_maps, confidences, strict=True))

    def download(self, array: np.ndarray | Tensor, dtype: type) -> np.ndarray:
        return array.astype(dtype, copy=False) if isinstance(array, np.ndarray) else super().download(array, dtype)

    def measure(self, row: int, thresholds: np.ndarray) -> HostMeasures:
        if self._measures is not None and np.array_equal(thresholds, self._vocabulary.thresholds):
            numbers, sums, peaks = (values[row] for values in self._measures)
            return numbers, sums, peaks
        self._asked()
        return super().measure(row, thresholds)
