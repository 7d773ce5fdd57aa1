"""Running TensorRT engines on arrays: device buffers, pinned memory and the stream, by pycuda in the primary context.

The primary context is the one that CUDA's runtime uses, hence TensorRT, and torch where it runs beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pycuda.driver as cuda
from pycuda.tools import DeviceMemoryPool

from synseg_model.engines.tensorrt.flavour import Flavour


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array in the device's memory, `offset` bytes from where an allocation begins."""

    shape: tuple[int, ...]
    dtype: np.dtype
    memory: object  # of pycuda's kinds, which give it back when nothing refers to them; int() is the address
    offset: int = 0

    @property
    def address(self) -> int:
        return int(self.memory) + self.offset

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


class CudaDevice:
    """One GPU: its context, entered with `with`, one stream, and memory from a pool.

    Memory may be given back before the stream has done with it: who gets it next uses it in turn.
    name: as the driver gives it. capability: (major, minor). Raise ValueError for a GPU that is not there.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            cuda.init()
            count = cuda.Device.count()
        except cuda.Error as error:
            raise ValueError(f"device 'cuda:{index}': CUDA does not start here ({error})") from None
        if index >= count:
            raise ValueError(f"device 'cuda:{index}': there are {count} CUDA device(s) here")
        device = cuda.Device(index)
        self.name: str = device.name()
        self.capability: tuple[int, int] = device.compute_capability()
        self._context = device.retain_primary_context()
        self._buffers: dict[object, DeviceArray] = {}
        self._pinned: dict[object, np.ndarray] = {}
        self._copied: dict[object, cuda.Event] = {}  # when the last copy out of an owner's pinned memory was done
        with self:
            self.stream = cuda.Stream()
            self._pool = DeviceMemoryPool()

    def __enter__(self) -> CudaDevice:
        self._context.push()
        return self

    def __exit__(self, *_: object) -> None:
        cuda.Context.pop()

    def buffer(self, owner: object, size: int) -> DeviceArray:
        """Return the buffer of an owner, which stays; a larger one replaces it where it has fewer than `size` bytes."""
        if owner not in self._buffers or self._buffers[owner].nbytes < size:
            self._buffers.pop(owner, None)
            self._buffers[owner] = self.empty((max(size, 1),), np.dtype(np.uint8))
        return self._buffers[owner]

    def close(self) -> None:
        """Give all memory and the stream back; called within the context, as the last thing."""
        self.stream.synchronize()
        self._buffers.clear()
        self._pinned.clear()
        self._copied.clear()
        self._pool.stop_holding()
        del self.stream

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """Take memory from the pool, not cleared; it goes back when nothing refers to the array."""
        return DeviceArray(shape, dtype, self._pool.allocate(max(int(np.prod(shape)) * dtype.itemsize, 1)))

    def keep(self, array: np.ndarray) -> DeviceArray:
        """Copy an array up to memory of its own, at once."""
        kept = self.empty(array.shape, array.dtype)
        self.stream.synchronize()  # which may still be using the memory for what had it before
        cuda.memcpy_htod(kept.address, np.ascontiguousarray(array))
        return kept

    def upload(self, array: np.ndarray, owner: object) -> DeviceArray:
        """Copy an array up to the buffer of an owner, in turn."""
        memory = self.buffer(owner, array.nbytes).memory
        pinned = self._pin(owner, array.shape, array.dtype)
        copied = self._copied.get(owner)
        if copied is None:
            copied = self._copied[owner] = cuda.Event(cuda.event_flags.DISABLE_TIMING)
        else:
            copied.synchronize()
        pinned[...] = array
        cuda.memcpy_htod_async(int(memory), pinned, self.stream)
        copied.record(self.stream)
        return DeviceArray(array.shape, array.dtype, memory)

    def download(self, array: DeviceArray) -> np.ndarray:
        """Wait for the stream and return an array in pinned memory, valid until the next download."""
        pinned = self._pin("down", array.shape, array.dtype)
        cuda.memcpy_dtoh_async(pinned, array.address, self.stream)
        self.stream.synchronize()
        return pinned

    def _pin(self, owner: object, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        size = int(np.prod(shape)) * dtype.itemsize
        kept = self._pinned.get(owner)
        if kept is None or kept.nbytes < size:
            self.stream.synchronize()
            kept = self._pinned[owner] = cuda.pagelocked_empty(size, np.uint8)
        return kept[:size].view(dtype).reshape(shape)


class Runner:
    """One TensorRT engine with its execution context; run on one thread at a time."""

    def __init__(self, gpu: CudaDevice, flavour: Flavour, engine) -> None:
        trt = flavour.trt
        self._gpu, self._engine = gpu, engine
        # Working memory is ours: the size that the shapes at hand need, not the largest that the profile allows.
        self._context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._outputs = {
            name: np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            for name in names
            if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
        }

    def is_dynamic(self, name: str, axis: int) -> bool:
        """Tell whether an axis of a tensor takes several sizes."""
        return self._engine.get_tensor_shape(name)[axis] == -1

    def run(self, inputs: Mapping[str, np.ndarray | DeviceArray]) -> dict[str, DeviceArray]:
        """Enqueue the engine on arrays of the host or the device; returns device arrays, from the pool.

        Raise ValueError for sizes outside the profile, RuntimeError where TensorRT fails.
        """
        context, gpu = self._context, self._gpu
        for name, array in inputs.items():
            if not context.set_input_shape(name, tuple(array.shape)):
                raise ValueError(f"input {name!r} of shape {tuple(array.shape)} is outside the engine's profile")
            on_device = array if isinstance(array, DeviceArray) else gpu.upload(array, (id(self), name))
            context.set_tensor_address(name, on_device.address)
        outputs = {}
        for name, dtype in self._outputs.items():
            outputs[name] = gpu.empty(tuple(context.get_tensor_shape(name)), dtype)
            context.set_tensor_address(name, outputs[name].address)
        size = context.update_device_memory_size_for_shapes()
        context.set_device_memory(gpu.buffer("working memory", size).address, size)  # graphs run one after the other
        if not context.execute_async_v3(gpu.stream.handle):
            raise RuntimeError("TensorRT could not run the engine; its log, at level DEBUG, says why")
        return outputs
