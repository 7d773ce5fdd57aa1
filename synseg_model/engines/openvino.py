"""The network run by OpenVINO from an exported folder, on a CPU, where it is the fastest. Needs no torch."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import openvino

from synseg_model.config import DECODER_MEMORY, ModelError
from synseg_model.engines.exported import ExportedEngine
from synseg_model.engines.text_encoder import TextEncoder
from synseg_model.preprocess import resize_frame
from synseg_model.weights.exported_folder import DECODER, IMAGE_ENCODER, INT8_ENCODER, INT8_WEIGHTS, TEXT_ENCODER

KEPT_SHAPES = 8  # that a graph is compiled for; a camera and a vocabulary have one
PRECISIONS = {"auto": "f32", "fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine(ExportedEngine[np.ndarray]):
    """Run an exported folder's graphs with OpenVINO.

    precision: of matrix products, "fp32", "bf16", or "auto" for fp32: masks should not depend on the CPU. "int8" is for
    folders that `synseg_model.export.int8` has added such an image encoder to; the decoder stays in fp32. Text is
    embedded in fp32 always.
    Raise ValueError for another device than a CPU, and for a precision that it does not have or the CPU has not.
    """

    name, device = "openvino", "cpu"

    def __init__(
        self,
        folder: str | Path,
        device: str = "auto",
        precision: str = "auto",
        keep_labels: int = 0,
        decoder_memory: int = DECODER_MEMORY,
    ) -> None:
        if device not in ("auto", "cpu"):
            raise ValueError(f"device {device!r}: the openvino engine runs on the CPU; choose auto or cpu")
        super().__init__(folder, decoder_memory, keep_labels)
        image = self.config.image
        self._mean, self._std = (255 * np.array(v, np.float32)[:, None, None] for v in (image.mean, image.std))
        core = _core()
        chosen = choose_precision(precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        # A compiled copy has its own weights: ViTs are too large for many, and gain little.
        kept = KEPT_SHAPES if self.config.encoder.backbone else 0
        self._graphs = {
            IMAGE_ENCODER: _Graph(core, self.encoder_model(precision), chosen, kept),
            DECODER: _Graph(core, self._read(core, DECODER), chosen, kept),
        }
        text = _Graph(core, self._read(core, TEXT_ENCODER), "f32")
        self._text = TextEncoder(
            self.folder,
            self._export,
            self.config.context_length,
            lambda tokens: text.run({"tokens": tokens})["embeddings"],
        )

    def run(self, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._graphs[graph].run(inputs)

    def keep(self, array: np.ndarray) -> np.ndarray:
        return array

    def download(self, array: np.ndarray) -> np.ndarray:
        return array

    def part(self, array: np.ndarray, rows: slice, labels: slice) -> np.ndarray:
        return array[rows, labels]

    def encode(self, frames: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return self.run(IMAGE_ENCODER, self.encoder_inputs(frames))

    def encoder_model(self, precision: str = "fp32") -> openvino.Model:
        """Read the image encoder behind the resizing of frames; raise ModelError where it has not the precision."""
        if precision != "int8":
            return _behind_resizing(self._read(_core(), IMAGE_ENCODER))
        if INT8_ENCODER not in self._export.files:
            raise ModelError(
                f"{self.folder} has no image encoder in int8: add one with python -m synseg_model.export.int8 "
                f"{self.folder} --images FOLDER, or choose fp32, bf16 or auto"
            )
        for name in (INT8_ENCODER, INT8_WEIGHTS):
            self._export.check_file(self.folder, name)
        return self._read(_core(), INT8_ENCODER)

    def encoder_inputs(self, frames: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Resize and normalise frames (H,W,3) uint8 of one size; returns what the image encoder takes."""
        patch = self._export.patch
        pixels = np.empty((len(frames), 3, *self._input_size(frames[0])), np.float32)
        for planes, frame in zip(pixels, frames, strict=True):
            # Plane by plane: arithmetic on pixels that lie interleaved takes ten times as long.
            cv2.split(resize_frame(frame, self.config.image, patch), list(planes))
        pixels -= self._mean
        pixels /= self._std
        positions = self._positions_of(pixels.shape[2] // patch, pixels.shape[3] // patch)
        return {"pixels": pixels, "positions": positions}

    def _read(self, core: openvino.Core, name: str) -> openvino.Model:
        path = self._export.check_file(self.folder, name)
        try:
            return core.read_model(str(path))
        except RuntimeError as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ModelError(f"OpenVINO {openvino.__version__} cannot run {path}: {reason}") from None


@functools.cache
def _core() -> openvino.Core:
    """Return this process's one Core.

    Each Core gives the thread an alternate signal stack and, when it goes, the one that it found: of two that go in the
    order in which they came, the second leaves the first one's freed memory there, and the next signal is the end.
    """
    return openvino.Core()


class _Graph:
    """A graph compiled for inputs of any shape, and again for each shape that comes a second time.

    With shapes that are fixed, OpenVINO fuses more: an image encoder with a backbone takes a tenth less time, its
    decoder a third. Compiling takes a quarter of a second, which shapes that come once do not pay. kept: copies with
    fixed shapes, of which the one not used for longest goes first.
    """

    def __init__(self, core: openvino.Core, model: openvino.Model, precision: str, kept: int = 0) -> None:
        self._core, self._model, self._kept = core, model, kept
        self._settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        self._request = self._compile(model)
        self._fixed: dict[tuple, openvino.InferRequest | None] = {}  # None for a shape that has come once
        self._lock = threading.Lock()

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return copies of the outputs; threads take turns."""
        with self._lock:
            found = self._choose(inputs).infer(inputs, share_inputs=True)
        return {port.any_name: array for port, array in found.items()}

    def _choose(self, inputs: dict[str, np.ndarray]) -> openvino.InferRequest:
        """Return the request for the shapes of inputs."""
        if not self._kept:
            return self._request
        shapes = tuple((name, array.shape) for name, array in inputs.items())
        comes_again = shapes in self._fixed
        request = (self._fixed.pop(shapes) or self._compile_for(dict(shapes))) if comes_again else None
        self._fixed[shapes] = request  # as the last
        if len(self._fixed) > self._kept:
            del self._fixed[next(iter(self._fixed))]
        return request or self._request

    def _compile_for(self, shapes: dict[str, tuple[int, ...]]) -> openvino.InferRequest:
        model = self._model.clone()
        model.reshape({name: list(shape) for name, shape in shapes.items()})
        return self._compile(model)

    def _compile(self, model: openvino.Model) -> openvino.InferRequest:
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


def choose_precision(precision: str, capabilities: Sequence[str]) -> str:
    """Turn "auto", "fp32", "bf16" or "int8" into OpenVINO's name for what floats are; raise ValueError for all else.

    capabilities: those that OpenVINO sees in the CPU.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: the openvino engine has {', '.join(PRECISIONS)}")
    if precision == "bf16" and "BF16" not in capabilities:
        raise ValueError("precision 'bf16': this CPU has neither AVX512-BF16 nor AMX; choose fp32 or auto")
    return PRECISIONS[precision]


def _behind_resizing(encoder: openvino.Model) -> openvino.Model:
    """Cut what resizes and normalises frames off an image encoder; "pixels" (B,3,H,W) take the place of "frames".

    In bf16, OpenVINO would weigh pixels by places in the image that have eight bits.
    """
    patches = next(node for node in encoder.get_ordered_ops() if node.get_type_name() == "Convolution")
    pixels = openvino.opset13.parameter([-1, 3, -1, -1], np.float32, name="pixels")
    pixels.output(0).set_names({"pixels"})
    typed = openvino.opset13.convert(pixels, patches.input(0).get_element_type().to_string())  # f16 in a half graph
    patches.input(0).replace_source_output(typed.output(0))
    for reader in encoder.input("frames").get_target_inputs():
        if reader.get_node().get_type_name() == "ShapeOf":  # whose only use behind resizing is the batch
            reader.replace_source_output(pixels.output(0))
    positions = encoder.input("positions").get_node()
    return openvino.Model(encoder.get_results(), [pixels, positions], "image_encoder")
