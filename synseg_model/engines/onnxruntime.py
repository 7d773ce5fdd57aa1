"""The network run by onnxruntime from an exported folder, on the CPU or an NVIDIA GPU. Needs no torch."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort

from synseg_model.config import DECODER_MEMORY, ModelError
from synseg_model.engines.exported import GPU_DECODER_MEMORY, ExportedEngine
from synseg_model.engines.onnx_recordings import SMALL, OnnxRecordings
from synseg_model.engines.onnx_runs import OnnxArray, check_outputs, run_plainly
from synseg_model.engines.text_encoder import TextEncoder
from synseg_model.weights.exported_folder import GPU_GRAPHS, TEXT_ENCODER, Export

logger = logging.getLogger(__name__)


class OnnxEngine(ExportedEngine[OnnxArray]):
    """Run an exported folder's graphs with onnxruntime.

    decoder_memory: bytes, see `ExportedEngine`; None for what is usual on the device. A GPU has more: every pass of the
    decoder makes one more run of the label map's graph, and runs, not sums, take a GPU's time.
    cuda_graphs: record runs that come again as CUDA graphs, and replay them; None for wherever that is possible.
    """

    name = "onnxruntime"

    def __init__(
        self,
        folder: str | Path,
        device: str = "auto",
        keep_labels: int = 0,
        decoder_memory: int | None = None,
        cuda_graphs: bool | None = None,
    ) -> None:
        super().__init__(folder, decoder_memory or DECODER_MEMORY, keep_labels)
        folder = self.folder
        self.device = choose_device(device)
        if cuda_graphs and self.device == "cpu":
            raise ValueError("cuda_graphs on device cpu: they need a GPU")
        self._cuda_graphs = cuda_graphs
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._recordings: dict[str, OnnxRecordings] = {}
        self._turn = threading.RLock()
        for name in GPU_GRAPHS:
            self._load(name, self._export.check_file(folder, name), device)
        if self.device != "cpu" and decoder_memory is None:
            self.decoder_memory = GPU_DECODER_MEMORY
        self._text = make_text_encoder(folder, self._export, self.config.context_length, self.device)

    @property
    def _records(self) -> bool:
        """Whether runs are to be recorded: on a CPU there is nothing to gain."""
        return self.device != "cpu" and self._cuda_graphs is not False

    def _load(self, name: str, path: Path, device: str) -> None:
        """Load a graph, so that its runs can be recorded where that is possible."""
        session = None
        if self._records:
            try:
                session = _session(path, self.device, recorded=True)
                check_outputs(session)
            except (ModelError, ValueError) as error:
                session = None
                logger.info("%s runs without CUDA graphs, which a new export may allow: %s", name, error)
        recorded = session is not None
        session = session or _session(path, self.device)
        if self.device != "cpu" and "CUDAExecutionProvider" not in session.get_providers():
            if device != "auto":
                raise ValueError(f"device {device!r}: onnxruntime cannot use it (CUDA or cuDNN is missing)")
            logger.warning("onnxruntime cannot use the GPU (CUDA or cuDNN is missing): running on the CPU")
            self.device, recorded = "cpu", False
        self._sessions[name] = session
        if recorded:
            self._recordings[name] = OnnxRecordings(session, _place(self.device))

    def turn(self) -> contextlib.AbstractContextManager:
        return self._turn if self._recordings else contextlib.nullcontext()

    def run(self, graph: str, inputs: dict[str, np.ndarray | OnnxArray]) -> dict[str, OnnxArray]:
        recordings = self._recordings.get(graph)
        if recordings is not None:
            replayed = recordings.run(inputs)
            if replayed is not None:
                return replayed
            if recordings.failure:
                del self._recordings[graph]
                self._sessions[graph] = _session(self.folder / graph, self.device)
        return run_plainly(self._sessions[graph], inputs, _place(self.device), graph in self._recordings)

    def keep(self, array: np.ndarray) -> OnnxArray:
        value = ort.OrtValue.ortvalue_from_numpy(array, *_place(self.device))
        return OnnxArray(value, array.shape, stays=True, host=array.copy() if array.nbytes <= SMALL else None)

    def download(self, array: OnnxArray) -> np.ndarray:
        flat = array.value.numpy().reshape(-1)
        return flat[array.offset : array.offset + math.prod(array.shape)].reshape(array.shape)

    def part(self, array: OnnxArray, rows: slice, labels: slice) -> OnnxArray:
        _, every, height, width = array.shape
        shape = (rows.stop - rows.start, labels.stop - labels.start, height, width)
        offset = array.offset + (rows.start * every + labels.start) * height * width
        # Single labels lie at too many places to record a run for each.
        stays = array.stays and shape[1] == every
        return dataclasses.replace(array, shape=shape, offset=offset, host=None, stays=stays)

    def takes_batches(self, graph: str) -> bool:
        shape = next(each.shape for each in self._sessions[graph].get_inputs() if each.name == "activations")
        return not isinstance(shape[0], int)


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


def _session(path: Path, device: str, recorded: bool = False) -> ort.InferenceSession:
    try:
        with _no_warning_of_plug_ins(device):
            # Of bytes, not of a path, it would keep a copy.
            return ort.InferenceSession(str(path), session_options(recorded), execution_providers(device, recorded))
    except Exception as error:  # onnxruntime's own kinds, which share no base but Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"onnxruntime {ort.__version__} cannot run {path}: {reason}") from None


def session_options(recorded: bool = False) -> ort.SessionOptions:
    """Make the options of a session.

    What it logs is not shown but for errors: it warns that sums over shapes are done on the CPU, as they should be. Of
    a session whose runs are recorded not even those are shown: each is raised, and a plain session then takes over.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4 if recorded else 3
    return options


def execution_providers(device: str, recorded: bool = False) -> list[str | tuple[str, dict[str, str]]]:
    """Name what runs a graph on "cpu" or "cuda:N", best first, with its options.

    recorded: whether runs are recorded as CUDA graphs.
    """
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
    if recorded:
        options["enable_cuda_graph"] = "1"
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
