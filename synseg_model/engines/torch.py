"""The network run by torch, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from synseg_model.engines.torch_batch import TorchBatch
from synseg_model.network.postprocess import resize_weights
from synseg_model.network.synseg import SynSeg, enlarge
from synseg_model.preprocess import by_size, remembered, resize_frame
from synseg_model.result import DeviceMaps
from synseg_model.weights.model_folder import load_model

PRECISIONS = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)
_RULED_OUT = -30.0  # logit of a label that is not decoded; finite, as logits are resampled and summed
_KEPT_GRAPHS = 8  # recorded passes; a camera and a vocabulary have one


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
    cuda_graphs: record a pass of every size that is met and replay it, on a GPU: sizes must be few.
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
        cuda_graphs: bool = False,
    ) -> None:
        self._device = choose_device(device)
        self.device = str(self._device)
        self._type = choose_precision(precision, self._device)
        if keep_labels < 0:
            raise ValueError(f"keep_labels {keep_labels}: expected a number of labels, or 0 for all")
        if cuda_graphs and self._device.type != "cuda":
            raise ValueError(f"cuda_graphs on device {self.device}: they need a GPU")
        self._keep_labels, self._graphs = keep_labels, {} if cuda_graphs else None
        self.network, self.fingerprint = load_model(model)
        self._wide = torch.promote_types(self._type, torch.float32)  # of weights, and of what autocast leaves alone
        self.network.to(self._device, self._wide)
        if self._type != self._wide:
            _halve(self.network, self._type)
        self.config = self.network.config
        # Backbones take a seventh less time on a CPU where the channels of a pixel lie together.
        self._layout = torch.channels_last if self.config.encoder.backbone else torch.contiguous_format
        self.network.encoder.image.to(memory_format=self._layout)
        statistics = (
            torch.tensor(values, device=self._device) for values in (self.config.image.mean, self.config.image.std)
        )
        self._mean, self._std = (values.view(3, 1, 1) * 255 for values in statistics)
        self._weights: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

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
        embeddings = torch.tensor(text, device=self._device, dtype=self._wide)  # a copy: the vocabulary's is read-only
        batch = torch.as_tensor(images).to(self._device)
        if self._graphs is None:
            return self._run(batch, embeddings)
        sizes = (batch.shape, batch.dtype, embeddings.shape)
        if sizes not in self._graphs:
            if len(self._graphs) == _KEPT_GRAPHS:
                self._graphs.clear()
            self._graphs[sizes] = _Recording(self._run, batch, embeddings)
        return self._graphs[sizes](batch, embeddings)

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
        images = self._normalise(torch.from_numpy(pixels[None]).to(self._device))
        with self._autocast():
            attention = encoder.attention(images, layer % encoder.depth)[0]
        return attention.float().cpu().numpy(), (pixels.shape[0] // encoder.patch, pixels.shape[1] // encoder.patch)

    def _run(self, images: Tensor, text: Tensor) -> Tensor:
        images = self._normalise(images)
        with self._autocast():
            if not 0 < self._keep_labels < len(text):
                return self.network.maps(images, text)
            return self._run_likely(images, text)

    def _normalise(self, images: Tensor) -> Tensor:
        """Turn images (B,H,W,3), 0 to 255, into what the network takes, (B,3,H,W)."""
        # Plane by plane: arithmetic on pixels that lie interleaved takes ten times as long.
        planes = images.permute(0, 3, 1, 2).to(self._wide, copy=True, memory_format=torch.contiguous_format)
        return planes.sub_(self._mean).div_(self._std).contiguous(memory_format=self._layout)

    def _autocast(self) -> torch.autocast:
        # What is cast is not kept: a recorded pass could not say when it is to be given up.
        return torch.autocast(self._device.type, self._type, enabled=self._type != self._wide, cache_enabled=False)

    def _run_likely(self, images: Tensor, text: Tensor) -> Tensor:
        """Decode for each image only the labels that a coarse pass finds most active."""
        network, grid = self.network, self.network.grid(images)
        reduced = network.encode_image(images)
        kept = network.peaks(reduced, text, grid).topk(self._keep_labels, dim=1).indices
        logits = network.decode(reduced, text[kept], grid)
        every = logits.new_full((len(images), len(text), *logits.shape[2:]), _RULED_OUT)
        return every.scatter_(1, kept[:, :, None, None].expand_as(logits), logits)

    @torch.inference_mode()
    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        def run(images: list[np.ndarray]) -> np.ndarray:
            logits = self._maps(np.stack(images), text)
            return logits.float().sigmoid_().numpy()  # in place: of many labels, maps are most of the memory

        if self._device.type != "cpu":
            return [maps.numpy() for maps in self.device_maps(frames, text)]
        return by_size([resize_frame(frame, self.config.image, self.network.encoder.patch) for frame in frames], run)

    @torch.inference_mode()
    def device_maps(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[DeviceMaps]:
        def run(images: list[np.ndarray]) -> list[DeviceMaps]:
            logits = self._maps(self._upload(images), text)
            if self._graphs is not None:
                logits = logits.clone()  # the next replay overwrites it
            if logits.is_cuda:  # what fails fails here, and who takes the time of a call takes the network's
                torch.cuda.current_stream(self._device).synchronize()
            return TorchBatch(logits, images[0].shape[:2], self.network.decoder_memory).frames()

        return by_size(frames, run)

    def _upload(self, frames: list[np.ndarray]) -> Tensor:
        """Copy frames of one size to the device as bytes and resize them there; returns (B,h,w,3), 0 to 255."""
        pixels = torch.empty(len(frames), *frames[0].shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        np.stack(frames, out=pixels.numpy())
        pixels = pixels.to(self._device, non_blocking=True)
        source = tuple(frames[0].shape[:2])
        target = self.config.image.input_size(*source, self.network.encoder.patch)
        if source == target:
            return pixels
        rows, columns = remembered(self._weights, source, lambda: resize_weights(*source, *target, self._device))
        return (rows @ pixels.permute(0, 3, 1, 2).float() @ columns.T).permute(0, 2, 3, 1)


def _halve(network: SynSeg, half: torch.dtype) -> None:
    """Turn the weights of products behind an image to half precision, as autocast would in every pass.

    Norms keep float32, and so does the text tower, which runs once for a label.
    """
    for part in (network.encoder.image, network.decoder):
        for module in part.modules():
            if isinstance(module, _PRODUCTS):
                module.to(half)


class _Recording:
    """A pass on fixed sizes as a CUDA graph: recorded once, replayed without the cost of launching kernels.

    What a call returns is valid until the next one.
    """

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor], images: Tensor, text: Tensor) -> None:
        self._images, self._text = images.clone(), text.clone()
        aside = torch.cuda.Stream()  # libraries allocate on their first call, which a recording cannot hold
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            run(self._images, self._text)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = run(self._images, self._text)

    def __call__(self, images: Tensor, text: Tensor) -> Tensor:
        self._images.copy_(images)
        self._text.copy_(text)
        self._graph.replay()
        return self._logits
