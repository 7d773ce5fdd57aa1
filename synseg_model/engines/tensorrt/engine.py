"""The network run by TensorRT from an exported folder, on an NVIDIA GPU. Needs no torch."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from synseg_model.config import ModelError
from synseg_model.engines.exported import GPU_DECODER_MEMORY, ExportedEngine
from synseg_model.engines.onnxruntime import make_text_encoder
from synseg_model.engines.tensorrt.build import Plans, Profile
from synseg_model.engines.tensorrt.cache import EngineCache
from synseg_model.engines.tensorrt.flavour import device_index, load_flavour
from synseg_model.engines.tensorrt.runner import CudaDevice, DeviceArray, Runner
from synseg_model.result import DeviceMaps
from synseg_model.vocabulary import Vocabulary
from synseg_model.weights.exported_folder import GPU_GRAPHS

logger = logging.getLogger(__name__)


class EngineNotBuiltError(ModelError):
    """The cache lacks an engine, and it was not to be built."""


class TensorRtEngine(ExportedEngine[DeviceArray]):
    """Run an exported folder's graphs with TensorRT, and its text encoder on the CPU.

    Engines come from the cache; those that it lacks are built first, which takes up to minutes, or raise
    EngineNotBuiltError where `build` is False. Frames go up as bytes, and what Results ask for comes down, through
    pinned memory; what is between stays on the device. Raise ValueError for a device that is not there, ModelError
    where no TensorRT serves it.
    """

    name = "tensorrt"

    def __init__(
        self,
        folder: str | Path,
        device: str = "auto",
        decoder_memory: int = GPU_DECODER_MEMORY,
        cache: EngineCache | None = None,
        profile: Profile | None = None,
        build: bool = True,
    ) -> None:
        super().__init__(folder, decoder_memory)
        self._profile = profile or Profile()
        self.most_frames, self.most_labels = self._profile.cameras, self._profile.labels
        self._text = make_text_encoder(self.folder, self._export, self.config.context_length)
        index = device_index(device)
        self.device = f"cuda:{index}"
        self._lock = threading.Lock()  # an execution context serves one thread at a time
        self._gpu = CudaDevice(index)
        flavour = load_flavour(self._gpu.capability)
        self.flavour = f"{flavour.name} {flavour.version}"
        plans = Plans(self.folder, flavour, self._gpu.name, self._profile, cache or EngineCache())
        with self._gpu:
            log = flavour.make_log()
            runtime = flavour.trt.Runtime(log)
            self._runners = {
                name: Runner(self._gpu, flavour, self._load(plans, name, runtime, log, build)) for name in GPU_GRAPHS
            }
        logger.info("%s on %s", self.flavour, self._gpu.name)
        weakref.finalize(self, _free, self._gpu, self._positions_at).atexit = False

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        self._check(frames)
        return super().activations(frames, text)

    def device_maps(
        self, frames: Sequence[np.ndarray], text: np.ndarray, vocabulary: Vocabulary | None = None
    ) -> list[np.ndarray | DeviceMaps]:
        self._check(frames)
        maps = super().device_maps(frames, text, vocabulary)
        with self.turn():  # what fails fails here, and who takes the time of a call takes the network's
            self._gpu.stream.synchronize()
        return maps

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        with self._lock, self._gpu:
            yield

    def run(self, graph: str, inputs: dict[str, np.ndarray | DeviceArray]) -> dict[str, DeviceArray]:
        return self._runners[graph].run(inputs)

    def keep(self, array: np.ndarray) -> DeviceArray:
        return self._gpu.keep(array)

    def download(self, array: DeviceArray) -> np.ndarray:
        return self._gpu.download(array)

    def part(self, array: DeviceArray, rows: slice, labels: slice) -> DeviceArray:
        _, every, height, width = array.shape
        offset = array.dtype.itemsize * (rows.start * every + labels.start) * height * width
        shape = (rows.stop - rows.start, labels.stop - labels.start, height, width)
        return DeviceArray(shape, array.dtype, array.memory, offset)

    def takes_batches(self, graph: str) -> bool:
        return self._runners[graph].is_dynamic("activations", 0)

    def _check(self, frames: Sequence[np.ndarray]) -> None:
        for frame in frames:
            if max(frame.shape[:2]) > self._profile.side:
                raise ValueError(
                    f"a frame of {frame.shape[1]}x{frame.shape[0]} pixels: the tensorrt engine takes sides up to "
                    f"{self._profile.side}; make it smaller, or choose another engine"
                )

    def _load(self, plans: Plans, name: str, runtime, log, build: bool):
        """Deserialise a graph's engine from the cache, or build it where it may."""
        engine = (plans.get if build else plans.find)(name, load=runtime.deserialize_cuda_engine)
        if engine is None and not build:
            raise EngineNotBuiltError(
                f"the cache has no engine of {name} that {self.flavour} accepts on {self._gpu.name}; "
                f"to build it: synseg build-engine {self.folder} --device {self.device}"
            )
        if engine is None:
            reason = log.errors[-1] if log.errors else "no reason given"
            raise ModelError(f"{self.flavour} cannot load the engine that it built for {name}: {reason}")
        return engine


def _free(gpu: CudaDevice, positions: dict[tuple[int, int], DeviceArray]) -> None:
    """Give memory back in its own context: outside of it, pycuda frees only on the thread that made it."""
    with gpu:
        positions.clear()
        gpu.close()
