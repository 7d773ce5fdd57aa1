"""The network run by onnxruntime from an exported folder, on the CPU or an NVIDIA GPU. Needs no torch."""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from synseg_model.config import DECODER_MEMORY, ModelError
from synseg_model.engines.exported import GPU_DECODER_MEMORY, ExportedEngine
from synseg_model.engines.text_encoder import TextEncoder
from synseg_model.weights.exported_folder import GPU_GRAPHS, TEXT_ENCODER, Export

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnnxArray:
    """A value of onnxruntime's on its device, or a part of one: `offset` elements from its beginning."""

    value: ort.OrtValue
    shape: tuple[int, ...]
    offset: int = 0


class OnnxEngine(ExportedEngine[OnnxArray]):
    """Run an exported folder's graphs with onnxruntime.

    decoder_memory: bytes, see `ExportedEngine`; None for what is usual on the device. A GPU has more: every pass of the
    decoder makes one more run of the label map's graph for each frame, and runs, not sums, take a GPU's time.
    """

    name = "onnxruntime"

    def __init__(
        self, folder: str | Path, device: str = "auto", keep_labels: int = 0, decoder_memory: int | None = None
    ) -> None:
        super().__init__(folder, decoder_memory or DECODER_MEMORY, keep_labels)
        folder = self.folder
        self.device = choose_device(device)
        self._sessions: dict[str, ort.InferenceSession] = {}
        for name in GPU_GRAPHS:
            self._sessions[name] = _session(self._export.check_file(folder, name), self.device)
            if self.device != "cpu" and "CUDAExecutionProvider" not in self._sessions[name].get_providers():
                if device != "auto":
                    raise ValueError(f"device {device!r}: onnxruntime cannot use it (CUDA or cuDNN is missing)")
                logger.warning("onnxruntime cannot use the GPU (CUDA or cuDNN is missing): running on the CPU")
                self.device = "cpu"
        if self.device != "cpu" and decoder_memory is None:
            self.decoder_memory = GPU_DECODER_MEMORY
        self._text = make_text_encoder(folder, self._export, self.config.context_length, self.device)

    def run(self, graph: str, inputs: dict[str, np.ndarray | OnnxArray]) -> dict[str, OnnxArray]:
        session, place = self._sessions[graph], _place(self.device)
        binding = session.io_binding()
        for name, array in inputs.items():
            if isinstance(array, np.ndarray):
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            elif tuple(array.value.shape()) == array.shape:
                binding.bind_ortvalue_input(name, array.value)
            else:
                address = array.value.data_ptr() + 4 * array.offset
                binding.bind_input(name, *place, np.float32, array.shape, address)
        names = [output.name for output in session.get_outputs()]
        for name in names:
            binding.bind_output(name, *place)
        session.run_with_iobinding(binding)
        values = zip(names, binding.get_outputs(), strict=True)
        return {name: OnnxArray(value, tuple(value.shape())) for name, value in values}

    def keep(self, array: np.ndarray) -> OnnxArray:
        return OnnxArray(ort.OrtValue.ortvalue_from_numpy(array, *_place(self.device)), array.shape)

    def download(self, array: OnnxArray) -> np.ndarray:
        flat = array.value.numpy().reshape(-1)
        return flat[array.offset : array.offset + math.prod(array.shape)].reshape(array.shape)

    def part(self, array: OnnxArray, row: int, start: int, stop: int) -> OnnxArray:
        _, labels, height, width = array.shape
        return OnnxArray(array.value, (1, stop - start, height, width), (row * labels + start) * height * width)


def make_text_encoder(folder: Path, export: Export, context_length: int, device: str = "cpu") -> TextEncoder:
    """Have onnxruntime run an exported folder's text tower."""
    session = _session(export.check_file(folder, TEXT_ENCODER), device)
    return TextEncoder(folder, export, context_length, lambda tokens: session.run(None, {"tokens": tokens})[0])


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


def _session(path: Path, device: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors: a warning about every node placed on the CPU helps nobody
    try:
        with _no_warning_of_plug_ins(device):
            # Of bytes, not of a path, it would keep a copy.
            return ort.InferenceSession(str(path), options, execution_providers(device))
    except Exception as error:  # onnxruntime's own kinds, which share no base but Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"onnxruntime {ort.__version__} cannot run {path}: {reason}") from None


def execution_providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    """Name what runs a graph on "cpu" or "cuda:N", best first, with its options."""
    if device == "cpu":
        return ["CPUExecutionProvider"]
    options = {
        # TF32 keeps ten bits: fp32 is chosen by whoever wants more, and fp16 is as fast.
        "use_tf32": "0",
        # The default tries every kernel of cuDNN for every shape that a convolution meets: each new number of labels
        # would hold frames up for that.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default doubles the memory that is taken from others on the GPU whenever a bit is missing.
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
    }
    index = _place(device)[1]
    if index:  # without it is the first GPU; see _no_warning_of_plug_ins
        options["device_id"] = str(index)
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


@contextlib.contextmanager
def _no_warning_of_plug_ins(device: str) -> Iterator[None]:
    """Keep onnxruntime from warning of what is as it should be.

    Where device_id is given, versions from 1.26 look for a plug-in of that device first, warn that there is none, and
    take what is built in. The warning is not the session's, whose log level would not change it.
    """
    if device == "cpu" or not _place(device)[1]:
        yield
        return
    ort.set_default_logger_severity(3)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)  # as onnxruntime begins
