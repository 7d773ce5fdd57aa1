"""The TensorRT that is installed: `tensorrt` 10 or 11, or `tensorrt_rtx`; all that differs between them is here."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
from dataclasses import dataclass
from types import ModuleType

from synseg_model.config import ModelError

logger = logging.getLogger(__name__)

FLAVOURS = ("tensorrt", "tensorrt_rtx")  # in order of preference: the first tunes its kernels on the very GPU


def missing() -> str | None:
    """Say what the TensorRT engine lacks here, None where all of it is installed; imports nothing."""
    if not any(importlib.util.find_spec(name) for name in FLAVOURS):
        return "neither tensorrt nor tensorrt_rtx is installed"
    return None if importlib.util.find_spec("pycuda") else "pycuda is not installed"


def load_flavour(capability: tuple[int, int] | None = None) -> Flavour:
    """Import the first TensorRT that is installed and runs on a GPU of this compute capability.

    capability: (major, minor), None where there is no GPU. Raise ModelError where there is none.
    """
    reasons = []
    for name in FLAVOURS:
        try:
            flavour = Flavour(name, importlib.import_module(name))
        except (ImportError, OSError) as error:  # OSError: a library that the wheel expects on the machine
            reasons.append(f"{name}: {str(error).splitlines()[0]}")
            continue
        if flavour.supports(capability):
            return flavour
        wants = "a GPU" if capability is None else f"another GPU: this one's compute capability is {capability}"
        reasons.append(f"{name} {flavour.version} needs {wants}")
    raise ModelError(f"no TensorRT can be used here ({'; '.join(reasons)})")


def device_index(device: str) -> int:
    """Turn "auto", "cuda" or "cuda:N" into N; raise ValueError for anything else, as TensorRT needs a GPU."""
    match = re.fullmatch(r"auto|cuda(?::(\d{1,3}))?", device)
    if not match:
        raise ValueError(f"device {device!r}: the tensorrt engine runs on auto, cuda or cuda:N")
    return int(match[1] or 0)


@dataclass(frozen=True)
class Flavour:
    """One TensorRT. name: of its package. trt: its module, whose interface is the same but for what is here."""

    name: str
    trt: ModuleType

    @property
    def version(self) -> str:
        return self.trt.__version__

    @property
    def is_rtx(self) -> bool:
        """Whether kernels are compiled when an engine runs, so that building needs no GPU."""
        return self.name == "tensorrt_rtx"

    def supports(self, capability: tuple[int, int] | None) -> bool:
        if not self.is_rtx:
            return capability is not None
        return capability is None or hasattr(self.trt.ComputeCapability, "SM{}{}".format(*capability))

    def create_network(self, builder):
        """Create a strongly typed network, which is the only kind from TensorRT 11 on and in RTX."""
        flag = getattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return builder.create_network(0 if flag is None else 1 << int(flag))

    def aim(self, config, has_gpu: bool) -> None:
        """Build for the GPU that is here; RTX without one builds for all the GPUs that it serves by default."""
        if self.is_rtx and has_gpu:
            config.num_compute_capabilities = 1
            config.set_compute_capability(self.trt.ComputeCapability.CURRENT, 0)

    def make_log(self):
        """Make the log that TensorRT's objects ask for: its lines go to ours, its errors are kept."""
        name, severity = self.name, self.trt.ILogger.Severity
        failures = (severity.INTERNAL_ERROR, severity.ERROR)

        class Log(self.trt.ILogger):
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, kind, message: str) -> None:
                if kind in failures:
                    self.errors.append(message)
                if kind in failures or kind == severity.WARNING:  # advice to those who write networks
                    logger.debug("%s: %s", name, message)

        return Log()
