"""A pass on frames of one size with memory of its own: on a GPU pinned at both ends, and recorded as a CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synseg_model.engines.label_sizes import NO_LABEL
from synseg_model.engines.segment_pass import PassOutput
from synseg_model.engines.torch_batch import HostMeasures
from synseg_model.vocabulary import Vocabulary

LARGEST_DIFFERENCE = 0.01  # in the mean, between a recorded pass and the same step by step


class Sizes(NamedTuple):
    """What a pass is recorded for.

    frames: of a call. size: (H,W) of each. labels: places for labels. measured: whether masks are measured. wide:
    whether label maps need more than a byte. uniform: whether all labels have one threshold. weights: version of the
    network's weights.
    """

    frames: int
    size: tuple[int, int]
    labels: int
    measured: bool = False
    wide: bool = False
    uniform: bool = False
    weights: int = 0

    def __str__(self) -> str:
        height, width = self.size
        return f"{self.frames} frame(s) of {width}x{height} with {self.labels} labels"


class Answer(NamedTuple):
    """What a call gives, which stays what it is: logits and confidences on the device, the rest on the host."""

    logits: Tensor
    confidences: Tensor
    label_maps: np.ndarray
    measures: HostMeasures | None


class RecordedPass:
    """Run a pass again and again on frames, and on vocabularies that fit its places for labels.

    segment: what a `SegmentPass` does, perhaps compiled. width: of text embeddings. pool: memory that recordings share,
    as no two of them run at the same time; lock: sees to that.
    """

    def __init__(
        self,
        segment: Callable[[Tensor, Tensor, Tensor, Tensor], PassOutput],
        sizes: Sizes,
        width: int,
        device: torch.device,
        lock: threading.Lock,
        pool: object = None,
    ) -> None:
        self._segment, self._sizes, self._device, self._lock = segment, sizes, device, lock
        pinned = {"pin_memory": device.type == "cuda"}
        shape = (sizes.frames, *sizes.size, 3)
        self._host_frames = torch.zeros(shape, dtype=torch.uint8, **pinned)
        self._frames = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._text = torch.full((sizes.labels, width), width**-0.5, device=device)
        self._thresholds = torch.full((sizes.labels,), NO_LABEL, device=device)
        self._ids = torch.ones(sizes.labels, dtype=torch.int32, device=device)
        kind = torch.int32 if sizes.wide else torch.uint8
        self._host_maps = torch.zeros(sizes.frames, *sizes.size, dtype=kind, **pinned)
        self._host_measures = None
        if sizes.measured:
            self._host_measures = (
                torch.zeros(sizes.frames, sizes.labels, 5, dtype=torch.int32, **pinned),
                *(torch.zeros(sizes.frames, sizes.labels, **pinned) for _ in range(2)),
            )
        self._vocabulary: Vocabulary | None = None
        self._graph = self._record(pool) if device.type == "cuda" else None

    def __call__(self, frames: Sequence[np.ndarray], vocabulary: Vocabulary) -> Answer:
        """Segment frames of the recorded number and size."""
        with self._lock, torch.no_grad():
            for host, there, frame in zip(self._host_frames, self._frames, frames, strict=True):
                np.copyto(host.numpy(), frame)
                there.copy_(host, non_blocking=True)  # the first goes up while the second is being copied
            self._set_vocabulary(vocabulary)
            if self._graph is None:
                self._out = self._run()
            else:
                self._graph.replay()
            labels = len(vocabulary)
            # The next call overwrites what belongs to the recording.
            logits, confidences = self._out.logits[:, :labels].clone(), self._out.confidence.clone()
            if self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()
            measures = self._host_measures
            if measures is not None:
                measures = tuple(values[:, :labels].numpy().copy() for values in measures)
            return Answer(logits, confidences, self._host_maps.numpy().astype(np.uint16), measures)

    @torch.no_grad()
    def check(self, reference: Callable[[Tensor, Tensor, Tensor, Tensor], PassOutput]) -> None:
        """Compare with what a pass gives on noise, step by step; raise RuntimeError where it is something else.

        Compilers and recordings depend on the GPU, its driver and many libraries: what they make is not taken unseen.
        """
        generator = torch.Generator().manual_seed(0)
        with self._lock:
            self._vocabulary = None
            frames = torch.randint(256, self._frames.shape, generator=generator, dtype=torch.uint8)
            self._frames.copy_(frames)
            # Of length 1: longer texts than a model knows may leave the range of half precision.
            self._text.copy_(F.normalize(torch.randn(self._text.shape, generator=generator), dim=1))
            self._thresholds.fill_(0.5)
            expected = reference(self._frames, self._text, self._thresholds, self._ids).logits.float().sigmoid()
            if self._graph is None:
                self._out = self._run()
            else:
                self._graph.replay()
            difference = (self._out.logits.float().sigmoid() - expected).abs().mean().item()
        if not difference <= LARGEST_DIFFERENCE:  # nan is in no order
            raise RuntimeError(f"its activations differ from those of the same step by step by {difference:.3g}")

    def _set_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Copy a vocabulary to the device, unless it is there."""
        if vocabulary is self._vocabulary:
            return
        rest = self._sizes.labels - len(vocabulary)
        thresholds = np.pad(vocabulary.thresholds, (0, rest), constant_values=NO_LABEL)
        ids = np.pad(np.array(vocabulary.ids, np.int32), (0, rest), constant_values=1)
        # Any text will do in places that no label takes, but one of length 0.
        text = np.concatenate([vocabulary.embeddings, np.repeat(vocabulary.embeddings[:1], rest, axis=0)])
        for there, array in ((self._text, text), (self._thresholds, thresholds), (self._ids, ids)):
            there.copy_(torch.from_numpy(array))
        self._vocabulary = vocabulary

    def _run(self) -> PassOutput:
        out = self._segment(self._frames, self._text, self._thresholds, self._ids)
        self._host_maps.copy_(out.label_map.to(self._host_maps.dtype), non_blocking=True)
        if self._host_measures is not None:
            for host, there in zip(self._host_measures, out.measures, strict=True):
                host.copy_(there, non_blocking=True)
        return out

    @torch.no_grad()
    def _record(self, pool: object) -> torch.cuda.CUDAGraph:
        """Record a pass on a stream of its own, while other threads go on with theirs."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries allocate and compile on first calls, which a recording cannot hold
                self._run()
            stream.synchronize()
            # torch.cuda.graph would wait for the whole GPU and give its free memory back, which holds frames up.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                self._out = self._run()
            finally:
                graph.capture_end()
        return graph
