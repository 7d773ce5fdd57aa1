"""The network run by torch, on the CPU or a GPU."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synseg_model.engines.half_precision import halve_products, halve_throughout
from synseg_model.engines.label_sizes import padded
from synseg_model.engines.recorded_pass import RecordedPass, Sizes
from synseg_model.engines.recordings import Recordings
from synseg_model.engines.segment_pass import Arithmetic, InputPass, PassOutput, SegmentPass
from synseg_model.engines.torch_batch import DecidedBatch, TorchBatch
from synseg_model.network.skip_decoder import SkipDecoder
from synseg_model.network.synseg import enlarge
from synseg_model.preprocess import by_size, remembered, resize_frame
from synseg_model.result import DeviceMaps
from synseg_model.vocabulary import Vocabulary, prompt
from synseg_model.weights.model_folder import load_model

PRECISIONS = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GPU_DECODER_MEMORY = 2**30  # bytes; a GPU is fast when it has much to do at once


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


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Turn "auto", "fp64", "fp32", "bf16" or "fp16" into the type of matrix products; raise ValueError for all else.

    "auto" is fp16 on a GPU and fp32 on the CPU. bf16 is faster on a CPU with AVX512-BF16 or AMX; with its 8 bits, masks
    of synseg-tiny keep an IoU of 0.99 with those of fp32.
    """
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: expected auto, {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("precision 'fp16' is slow on a CPU: choose bf16, fp32 or auto")
    return PRECISIONS[precision]


class TorchEngine:
    """Run a model folder's network with torch.

    precision: "fp32", "bf16", "fp16", or "auto" for half precision on a GPU and float32 on the CPU. "fp64" is the
        reference that tells how exact the others are.
    keep_labels: decode only so many labels of a frame in full, those that are most active when all are decoded at a
        quarter of the tokens; 0 for all. Activations of the others are about 0.
    cuda_graphs: record a pass, from a frame's bytes to its label map, for every size of frames and vocabulary that
        comes again, and replay it: launching it takes longer than running it. None for True on a GPU. Recordings are
        made in the background, while frames are segmented without; the eight used last are kept.
    compile: compile what is recorded, with `torch.compile`, in the background as well. It takes about half a minute for
        each size, and needs a C compiler.
    On a GPU frames go up as bytes and are resized there, and activations stay there (`device_maps`).
    Raise ValueError for a device that is not there or a precision that it does not have.
    """

    name = "torch"

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        precision: str = "auto",
        keep_labels: int = 0,
        cuda_graphs: bool | None = None,
        compile: bool = False,
    ) -> None:
        self._device = choose_device(device)
        self.device = str(self._device)
        self._type = choose_precision(precision, self._device)
        on_gpu = self._device.type == "cuda"
        if keep_labels < 0:
            raise ValueError(f"keep_labels {keep_labels}: expected a number of labels, or 0 for all")
        if cuda_graphs and not on_gpu:
            raise ValueError(f"cuda_graphs on device {self.device}: they need a GPU")
        if compile and (not on_gpu or cuda_graphs is False):
            raise ValueError(f"compile on device {self.device}: it needs a GPU, and cuda_graphs")
        self._keep_labels, self._compile = keep_labels, compile
        self.network, self.fingerprint = load_model(model)
        self.config = self.network.config
        self._wide = torch.promote_types(self._type, torch.float32)  # of weights, and of what autocast leaves alone
        self.network.to(self._device, self._wide)
        # Backbones take a seventh less time on a CPU where the channels of a pixel lie together.
        layout = torch.channels_last if self.config.encoder.backbone else torch.contiguous_format
        self.network.encoder.image.to(memory_format=layout)
        self._arithmetic = Arithmetic(self._device, self._type, self._wide, layout)
        self._passes: dict[tuple, InputPass | SegmentPass] = {}
        if self._type != self._wide:
            halve_products(self.network, self._type)
        if on_gpu:
            self.network.decoder_memory = GPU_DECODER_MEMORY
            if self._type != self._wide and halve_throughout(self.network, self._type, self._example):
                self._arithmetic = self._arithmetic._replace(values=self._type)
                self._passes.clear()  # they keep position embeddings of another type
        self._measures_asked = False
        self._lock = threading.Lock()
        self._pool = torch.cuda.graph_pool_handle() if on_gpu else None
        self.recordings: Recordings[Sizes, RecordedPass] | None = None
        if on_gpu and cuda_graphs is not False:
            self.recordings = Recordings(self._record)

    @property
    def independent_labels(self) -> bool:
        """Whether all labels are decoded in full."""
        return not self._keep_labels

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
    def logits(self, images: np.ndarray | Tensor, text: np.ndarray) -> Tensor:
        """Run images that are already of an input size; returns logits (B,K,H,W) on the engine's device.

        images: (B,H,W,3) RGB, 0 to 255, sides multiples of the patch. text: (K,D) float32.
        """
        return enlarge(self._maps(images, text), images.shape[1:3])

    def _maps(self, images: np.ndarray | Tensor, text: np.ndarray) -> Tensor:
        """Run images as `logits` does; returns logits (B,K,h,w) at the decoder's own resolution."""
        # Plane by plane: arithmetic on pixels that lie interleaved takes ten times as long.
        planes = torch.as_tensor(images).to(self._device).permute(0, 3, 1, 2).to(self._wide).contiguous()
        return self._pass(InputPass, tuple(planes.shape[2:]))(planes, self._embeddings(text))

    @torch.inference_mode()
    def attention(self, frame: np.ndarray, layer: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Return CLIP's self-attention (1+P,1+P) in a block, see `ClipEncoder.attention`, and P's rows and columns.

        frame: (H,W,3) uint8 RGB. layer: 0-based, negative from the last block.
        Raise ValueError for a model whose image encoder has no attention.
        """
        encoder = self.network.encoder
        if self.config.encoder.backbone:
            backbone = self.config.encoder.backbone
            raise ValueError(f"the image encoder {backbone!r} has no attention: choose a model with a ViT")
        pixels = resize_frame(frame, self.config.image, encoder.patch)
        planes = torch.from_numpy(pixels[None]).to(self._device).permute(0, 3, 1, 2).contiguous()
        images = self._pass(InputPass, pixels.shape[:2]).normalised(planes)
        with self._arithmetic.autocast():
            attention = encoder.attention(images, layer % encoder.depth)[0]
        return attention.float().cpu().numpy(), (pixels.shape[0] // encoder.patch, pixels.shape[1] // encoder.patch)

    @torch.inference_mode()
    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        def run(images: list[np.ndarray]) -> np.ndarray:
            logits = self._maps(np.stack(images), text)
            return logits.float().sigmoid_().numpy()  # in place: of many labels, maps are most of the memory

        if self._device.type != "cpu":
            return [maps.numpy() for maps in self.device_maps(frames, text)]
        return by_size([resize_frame(frame, self.config.image, self.network.encoder.patch) for frame in frames], run)

    def device_maps(
        self, frames: Sequence[np.ndarray], text: np.ndarray, vocabulary: Vocabulary | None = None
    ) -> list[DeviceMaps]:
        return by_size(frames, lambda images: self._segment_there(images, text, vocabulary))

    @torch.inference_mode()
    def _segment_there(
        self, frames: list[np.ndarray], text: np.ndarray, vocabulary: Vocabulary | None
    ) -> list[DeviceMaps]:
        """Segment frames of one size and leave what they give on the device."""
        size, memory = frames[0].shape[:2], self.network.decoder_memory
        recorded = self._recorded(len(frames), size, vocabulary)
        if recorded is not None:
            logits, confidences, label_maps, measures = recorded(frames, vocabulary)
            asked = self._ask_for_measures
            batch = DecidedBatch(logits, size, memory, vocabulary, label_maps, confidences, measures, asked)
            return batch.frames()
        logits = self._pass(SegmentPass, size).logits(self._upload(frames), self._embeddings(text))
        if logits.is_cuda:  # what fails fails here, and who takes the time of a call takes the network's
            torch.cuda.current_stream(self._device).synchronize()
        return TorchBatch(logits, size, memory).frames()

    def _recorded(self, frames: int, size: tuple[int, int], vocabulary: Vocabulary | None) -> RecordedPass | None:
        """Return a recording of a pass, once there is one."""
        if self.recordings is None or vocabulary is None:
            return None
        labels = padded(len(vocabulary))
        # Few labels need not be looked for among places that are empty.
        if 0 < self._keep_labels < labels and self._keep_labels >= len(vocabulary):
            labels = len(vocabulary)
        wide = max(vocabulary.ids) > np.iinfo(np.uint8).max
        uniform = bool((vocabulary.thresholds == vocabulary.thresholds[0]).all())
        measured = self._measures_asked
        return self.recordings.get(Sizes(frames, size, labels, measured, wide, uniform, self._weights_version))

    def _record(self, sizes: Sizes) -> Iterator[RecordedPass]:
        """Record a pass, and then what a compiler makes of it."""
        options = (self._keep_labels, sizes.measured, sizes.uniform)
        segment = SegmentPass(self.network, self._arithmetic, sizes.size, *options)
        yield self._checked(segment, sizes, segment)
        if self._compile:
            torch.compiler.reset()  # there is a limit to what one function is compiled for
            yield self._checked(torch.compile(segment.__call__, dynamic=False), sizes, segment)

    def _checked(self, way: Callable[..., PassOutput], sizes: Sizes, segment: SegmentPass) -> RecordedPass:
        """Record a way of running a pass, and compare it with the pass."""
        width = self.network.encoder.text_width
        recorded = RecordedPass(way, sizes, width, self._device, self._lock, self._pool)
        recorded.check(segment)
        return recorded

    def _ask_for_measures(self) -> None:
        """Have passes measure masks from now on."""
        self._measures_asked = True

    def _pass(self, kind: type, size: tuple[int, int]):
        """Return the InputPass or SegmentPass for a size."""
        key = (kind, tuple(size), self._weights_version)
        make = functools.partial(kind, self.network, self._arithmetic, tuple(size), self._keep_labels)
        return remembered(self._passes, key, make)

    @property
    def _weights_version(self) -> int:
        """Return a number that changes when weights are loaded into the network, as training does."""
        decoder, image = self.network.decoder, self.network.encoder.image
        return (decoder.position if isinstance(decoder, SkipDecoder) else image.positional_embedding)._version

    @torch.inference_mode()
    def _example(self, throughout: bool) -> Tensor:
        """Segment noise for a few labels, without autocast where half precision is to be throughout."""
        config, network = self.config, self.network
        arithmetic = self._arithmetic._replace(values=self._type) if throughout else self._arithmetic
        size = config.image.input_size(480, 640, network.encoder.patch)
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(1, 3, *(side // 16 + 1 for side in size), generator=generator)
        planes = 255 * F.interpolate(noise, size=size, mode="bilinear").to(self._device)
        text = self.encode_text([prompt(config.templates[0], label) for label in ("wall", "dog", "red ball")])
        if config.normalize_text:
            text /= np.linalg.norm(text, axis=1, keepdims=True)
        return InputPass(network, arithmetic, size)(planes, self._embeddings(text)).float().sigmoid()

    def _embeddings(self, text: np.ndarray) -> Tensor:
        return torch.tensor(text, device=self._device, dtype=self._wide)  # a copy: the vocabulary's is read-only

    def _upload(self, frames: list[np.ndarray]) -> Tensor:
        """Copy frames of one size to the device as bytes (B,H,W,3)."""
        pixels = torch.empty(len(frames), *frames[0].shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        np.stack(frames, out=pixels.numpy())
        return pixels.to(self._device, non_blocking=True)
