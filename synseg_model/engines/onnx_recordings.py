"""Runs of an onnxruntime session that are recorded as CUDA graphs, each with memory of its own. Needs no torch."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from synseg_model.engines.onnx_runs import (
    Given,
    Lease,
    OnnxArray,
    bind_inputs,
    graph_options,
    output_bytes,
    run_plainly,
)
from synseg_model.engines.recordings import KEPT, SeenKeys, reason_of

logger = logging.getLogger(__name__)

COPIES = 2  # recordings of one key: the next frame is segmented while the last one's results are still read
# Recordings of one session. A key of the decoder has two outputs in turn, of which the label map reads each. Those used
# last do not take the place of others: onnxruntime keeps a CUDA graph until its session ends.
MOST = 2 * COPIES * KEPT
MEMORY = 2**29  # bytes of inputs and outputs that the recordings of one session keep
SMALL = 4096  # bytes of a host array that is compared with the last one before it is copied to the device
LARGEST_DIFFERENCE = 1e-3  # in the mean, between a recorded run and a plain one, over the mean magnitude


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
        host = _host(given)
        if host is not None:
            parts.append((name, host.shape, host.dtype.str))
        elif given.stays:
            parts.append((name, given.shape, given.address))
        else:
            return None
    return tuple(parts)


def _host(given: Given) -> np.ndarray | None:
    """Return what comes from the host; None for an array that lies on the device only."""
    return given if isinstance(given, np.ndarray) else given.host


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

    Use it from one thread at a time. Each thread has recordings of its own, as onnxruntime records for a thread.

    Args:
        session: It was made with `enable_cuda_graph` where the device is a GPU. On the CPU nothing is recorded, and all
            else is the same, so that it can be tested.
        place: Kind and number of the device.
        memory: Bytes that recordings may keep.

    Attributes:
        count: How many recordings were made.
        failure: Why there are no more; the session is then of no use, because its stream may still be recording.
    """

    def __init__(self, session: ort.InferenceSession, place: tuple[str, int], memory: int = MEMORY) -> None:
        self._session, self._place, self._memory = session, place, memory
        self._runs: dict[Hashable, list[_Run]] = {}
        self._seen: SeenKeys[Hashable] = SeenKeys()
        self._bytes, self._full = 0, False
        self.count = 0
        self.failure = ""

    def run(self, inputs: Mapping[str, Given]) -> dict[str, OnnxArray] | None:
        """Replay a run.

        Args:
            inputs: By name.

        Returns:
            The outputs by name; None where no recording has its memory free, or recording has failed. Then the caller
            runs a session.
        """
        key = key_of(inputs)
        if key is None or self.failure:
            return None
        key = threading.get_ident(), key
        runs = self._runs.get(key, [])
        free = next((run for run in runs if not any(lease() for lease in run.leases)), None)
        try:
            again = bool(runs) or self._seen.comes_again(key)
            if free is None and len(runs) < COPIES and again and self._has_room(inputs):
                free = self._record(inputs)
                self._runs.setdefault(key, []).append(free)
            return None if free is None else self._replay(free, inputs)
        except Exception as error:  # onnxruntime's own kinds, which share no base but Exception
            self.failure = reason_of(error)
            logger.warning("cannot record a run as a CUDA graph (%s): going on without", self.failure)
            return None

    def _has_room(self, inputs: Mapping[str, Given]) -> bool:
        if self.count < MOST and self._bytes + self._bytes_of(inputs) <= self._memory:
            return True
        if not self._full:
            self._full = True
            logger.info(
                "%d CUDA graphs are recorded, with %d MiB: further sizes run without", self.count, self._bytes >> 20
            )
        return False

    def _bytes_of(self, inputs: Mapping[str, Given]) -> int:
        """Count the bytes that a recording keeps: its outputs, and what comes from the host."""
        own = sum(host.nbytes for host in map(_host, inputs.values()) if host is not None)
        return own + output_bytes(self._session, {name: given.shape for name, given in inputs.items()})

    def _record(self, inputs: Mapping[str, Given]) -> _Run:
        """Record a run; raise RuntimeError where it gives something else than a plain one."""
        plain = run_plainly(self._session, inputs, self._place, own_memory=True)
        expected = {name: array.value.numpy().copy() for name, array in plain.items()}
        del plain
        binding, own = self._session.io_binding(), {}
        for name, given in inputs.items():
            if (host := _host(given)) is not None:
                own[name] = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(host), *self._place)
        there = {name: OnnxArray(value, tuple(value.shape())) for name, value in own.items()}
        bind_inputs(binding, {**inputs, **there}, self._place)
        outputs = {
            name: ort.OrtValue.ortvalue_from_numpy(np.zeros_like(array), *self._place)
            for name, array in expected.items()
        }
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        self._bytes += self._bytes_of(inputs)
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

    def _replay(self, run: _Run, inputs: Mapping[str, Given]) -> dict[str, OnnxArray]:
        for name, value in run.inputs.items():
            host = np.ascontiguousarray(_host(inputs[name]))
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


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the mean difference of two arrays of one shape, over the mean magnitude of the second, at least 1."""
    if not math.prod(expected.shape):
        return 0.0
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    return float(np.abs(found - expected).mean() / max(1.0, np.abs(expected).mean()))
