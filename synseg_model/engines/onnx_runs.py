"""Plain runs of an onnxruntime session on arrays that stay on its device. Needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

NO_GRAPH = "-1"  # of `gpu_graph_id`: neither record nor replay
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
Size = int | str | None  # of an axis, as a session names it: a number, a name, "2*name", or nothing


class Lease:
    """Says for as long as it lives that the memory of a recording's outputs is in use."""


@dataclass(frozen=True, eq=False)
class OnnxArray:
    """An array on an engine's device, or a part of one.

    Attributes:
        value: What holds it.
        shape: Its own shape.
        offset: Elements of `value` before its first one.
        stays: Whether its memory is used for nothing else while the engine lives, so that a recording may read it.
        host: Its elements, where they are few: they are copied into a recording's own memory.
        lease: Of the recording whose output it is.
    """

    value: ort.OrtValue
    shape: tuple[int, ...]
    offset: int = 0
    stays: bool = False
    host: np.ndarray | None = None
    lease: Lease | None = None

    @property
    def is_part(self) -> bool:
        """Whether `value` has more elements."""
        return tuple(self.value.shape()) != self.shape

    @property
    def address(self) -> int:
        """Where its first element lies on the device. All arrays that have parts are of float32."""
        return self.value.data_ptr() + 4 * self.offset


Given = np.ndarray | OnnxArray


def bind_inputs(binding: ort.IOBinding, inputs: Mapping[str, Given], place: tuple[str, int]) -> None:
    """Bind what a run is given, where it lies.

    Args:
        binding: Of the session.
        inputs: By name; host arrays are copied to the device by the run.
        place: Kind and number of the device.
    """
    for name, given in inputs.items():
        if isinstance(given, np.ndarray):
            binding.bind_cpu_input(name, np.ascontiguousarray(given))
        elif given.is_part:
            binding.bind_input(name, *place, np.float32, given.shape, given.address)
        else:
            binding.bind_ortvalue_input(name, given.value)


def output_shapes(
    inputs: Mapping[str, Sequence[Size]], outputs: Mapping[str, Sequence[Size]], given: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Work out the shapes of a run's outputs.

    Args:
        inputs: Shapes of a session's inputs, with names for sizes that are dynamic.
        outputs: Shapes of its outputs, with numbers, names of the inputs' sizes, or multiples of those such as
            "2*rows".
        given: Shapes of what the run is given.

    Raises:
        ValueError: For a size of an output that no input has.
    """
    known = {
        name: size
        for key, shape in given.items()
        for name, size in zip(inputs[key], shape, strict=True)
        if isinstance(name, str)
    }

    def work_out(size: Size) -> int:
        if isinstance(size, int):
            return size
        match = re.fullmatch(r"(?:(\d+)\*)?(\w+)", size or "")
        if not match or match[2] not in known:
            raise ValueError(f"size {size!r} of an output: expected a number, or a multiple of one of {sorted(known)}")
        return int(match[1] or 1) * known[match[2]]

    return {name: tuple(work_out(size) for size in shape) for name, shape in outputs.items()}


def run_plainly(
    session: ort.InferenceSession, inputs: Mapping[str, Given], place: tuple[str, int], own_memory: bool = False
) -> dict[str, OnnxArray]:
    """Run a session without a CUDA graph.

    Args:
        session: The session.
        inputs: By name.
        place: Kind and number of the device.
        own_memory: Whether outputs lie outside the session's memory. There a CUDA graph has its intermediate values, at
            addresses that the session takes as free: a replay would overwrite outputs that others still read.

    Returns:
        The outputs by name.
    """
    binding = session.io_binding()
    bind_inputs(binding, inputs, place)
    names = [output.name for output in session.get_outputs()]
    if own_memory:
        types = {output.name: TYPES[output.type] for output in session.get_outputs()}
        values = {
            name: ort.OrtValue.ortvalue_from_shape_and_type(shape, types[name], *place)
            for name, shape in shapes_of(session, {name: given.shape for name, given in inputs.items()}).items()
        }
        for name, value in values.items():
            binding.bind_ortvalue_output(name, value)
    else:
        for name in names:
            binding.bind_output(name, *place)
    session.run_with_iobinding(binding, graph_options(place, NO_GRAPH))
    if not own_memory:
        values = dict(zip(names, binding.get_outputs(), strict=True))
    return {name: OnnxArray(value, tuple(value.shape())) for name, value in values.items()}


def shapes_of(session: ort.InferenceSession, given: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Work out the shapes of a session's outputs; see `output_shapes`."""
    inputs = {value.name: value.shape for value in session.get_inputs()}
    return output_shapes(inputs, {value.name: value.shape for value in session.get_outputs()}, given)


def output_bytes(session: ort.InferenceSession, given: Mapping[str, tuple[int, ...]]) -> int:
    """Count the bytes of a session's outputs; see `output_shapes`."""
    sizes = {value.name: np.dtype(TYPES[value.type]).itemsize for value in session.get_outputs()}
    return sum(sizes[name] * math.prod(shape) for name, shape in shapes_of(session, given).items())


def check_outputs(session: ort.InferenceSession) -> None:
    """Check that outputs of a session can lie in memory of their own.

    Raises:
        ValueError: Where their sizes or types cannot be told in advance.
    """
    shapes_of(session, {value.name: (1,) * len(value.shape) for value in session.get_inputs()})
    for value in session.get_outputs():
        if value.type not in TYPES:
            raise ValueError(f"type {value.type} of output {value.name}: expected one of {', '.join(TYPES)}")


def graph_options(place: tuple[str, int], graph: str) -> ort.RunOptions:
    """Make the options of a run.

    Args:
        place: Kind and number of the device.
        graph: Which CUDA graph is recorded, or replayed where it is recorded; NO_GRAPH for none.
    """
    options = ort.RunOptions()
    if place[0] != "cpu":
        options.add_run_config_entry("gpu_graph_id", graph)
    return options
