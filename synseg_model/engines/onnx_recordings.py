"""Runs of an onnxruntime session that are recorded as CUDA graphs, each with memory of its own. Needs no torch."""

from __future__ import annotations

import logging
import math
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

logger = logging.getLogger(__name__)

MOST = 32  # recordings of one session: onnxruntime keeps a CUDA graph until its session ends
COPIES = 2  # recordings of one key: the next frame is segmented while the last one's results are still read
SEEN = 64  # keys that have come once
SMALL = 4096  # bytes of a host array that is compared with the last one before it is copied to the device
LARGEST_DIFFERENCE = 1e-3  # in the mean, between a recorded run and a plain one, over the mean magnitude
NO_GRAPH = "-1"  # of `gpu_graph_id`: neither record nor replay


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


def key_of(inputs: Mapping[str, Given]) -> Hashable | None:
    """Name what a recording depends on: shapes and types, and the addresses of what stays on the device.

    Args:
        inputs: What the run is given.

    Returns:
        The same for the runs that one recording can do; None for a run that no recording can do, because it reads
        memory that others use later.
    """
    parts = []
    for name, given in sorted(inputs.items()):
        host = given if isinstance(given, np.ndarray) else given.host
        if host is not None:
            parts.append((name, host.shape, host.dtype.str))
        elif given.stays:
            parts.append((name, given.shape, given.address))
        else:
            return None
    return tuple(parts)


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


class _Run(NamedTuple):
    """A recorded run."""

    binding: ort.IOBinding
    options: ort.RunOptions
    inputs: dict[str, ort.OrtValue]  # its own memory, for what comes from the host
    copied: dict[str, np.ndarray]  # what is there, where that is little
    outputs: dict[str, ort.OrtValue]
    leases: list[weakref.ref[Lease]]  # of the outputs that were handed out last


class OnnxRecordings:
    """Record the runs of a session that come again, and replay them.

    A run is recorded when its key (`key_of`) comes a second time. A recording is compared with a plain run before it is
    used. Its outputs have the same memory each time. So it is not replayed while somebody still has the last ones: then
    a second recording of the key runs, or the plain run.

    Use it from one thread at a time.

    Args:
        session: It was made with `enable_cuda_graph` where the device is a GPU. On the CPU nothing is recorded, and all
            else is the same, so that it can be tested.
        place: Kind and number of the device.
    """

    def __init__(self, session: ort.InferenceSession, place: tuple[str, int]) -> None:
        self._session, self._place = session, place
        self._runs: dict[Hashable, list[_Run]] = {}
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self.count = 0
        self.failure = ""

    def run(self, inputs: Mapping[str, Given]) -> dict[str, OnnxArray] | None:
        """Replay a run.

        Args:
            inputs: By name.

        Returns:
            The outputs by name; None where no recording has its memory free. Then the caller runs the session.
        """
        key = key_of(inputs)
        if key is None or self.failure:
            return None
        runs = self._runs.get(key, [])
        free = next((run for run in runs if not any(lease() for lease in run.leases)), None)
        if free is None and len(runs) < COPIES and self._comes_again(key):
            free = self._make(key, inputs)
        return None if free is None else self._replay(free, inputs)

    def _comes_again(self, key: Hashable) -> bool:
        """Tell whether a key came before; sizes that come only once, such as those of photographs, are not worth it."""
        if key in self._runs:
            return self.count < MOST
        if key not in self._seen:
            self._seen[key] = None
            if len(self._seen) > SEEN:
                self._seen.popitem(last=False)
            return False
        return self.count < MOST

    def _make(self, key: Hashable, inputs: Mapping[str, Given]) -> _Run | None:
        try:
            run = self._record(inputs)
        except Exception as error:  # onnxruntime's own kinds, which share no base but Exception
            self.failure = " ".join(str(error).split())[:300] or type(error).__name__
            logger.warning("cannot record a run as a CUDA graph (%s): going on without", self.failure)
            return None
        self._runs.setdefault(key, []).append(run)
        return run

    def _record(self, inputs: Mapping[str, Given]) -> _Run:
        """Record a run; raise RuntimeError where it gives something else than a plain one."""
        expected = self._run_plainly(inputs)
        binding, own = self._session.io_binding(), {}
        for name, given in inputs.items():
            host = given if isinstance(given, np.ndarray) else given.host
            if host is not None:
                own[name] = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(host), *self._place)
        there = {name: OnnxArray(value, tuple(value.shape())) for name, value in own.items()}
        bind_inputs(binding, {**inputs, **there}, self._place)
        outputs = {
            name: ort.OrtValue.ortvalue_from_numpy(np.zeros_like(array), *self._place)
            for name, array in expected.items()
        }
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        self.count += 1
        run = _Run(binding, graph_options(self._place, str(self.count)), own, {}, outputs, [])
        self._session.run_with_iobinding(binding, run.options)  # some runs in one: the last of them is recorded
        for value in outputs.values():
            value.update_inplace(np.zeros(value.shape(), value.numpy().dtype))
        self._session.run_with_iobinding(binding, run.options)
        for name, array in expected.items():
            difference = _difference(outputs[name].numpy(), array)
            if not difference <= LARGEST_DIFFERENCE:  # nan is in no order
                raise RuntimeError(f"its output {name} differs from that of a plain run by {difference:.3g}")
        return run

    def _run_plainly(self, inputs: Mapping[str, Given]) -> dict[str, np.ndarray]:
        binding = self._session.io_binding()
        bind_inputs(binding, inputs, self._place)
        names = [output.name for output in self._session.get_outputs()]
        for name in names:
            binding.bind_output(name, *self._place)
        self._session.run_with_iobinding(binding, graph_options(self._place, NO_GRAPH))
        return {name: value.numpy().copy() for name, value in zip(names, binding.get_outputs(), strict=True)}

    def _replay(self, run: _Run, inputs: Mapping[str, Given]) -> dict[str, OnnxArray]:
        for name, value in run.inputs.items():
            given = inputs[name]
            host = np.ascontiguousarray(given if isinstance(given, np.ndarray) else given.host)
            if host.nbytes > SMALL or not np.array_equal(run.copied.get(name), host):
                value.update_inplace(host)
                if host.nbytes <= SMALL:
                    run.copied[name] = host.copy()
        self._session.run_with_iobinding(run.binding, run.options)
        outputs = {
            name: OnnxArray(value, tuple(value.shape()), stays=True, lease=Lease())
            for name, value in run.outputs.items()
        }
        run.leases[:] = [weakref.ref(array.lease) for array in outputs.values()]
        return outputs


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


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the mean difference of two arrays of one shape, over the mean magnitude of the second, at least 1."""
    if not math.prod(expected.shape):
        return 0.0
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    return float(np.abs(found - expected).mean() / max(1.0, np.abs(expected).mean()))
