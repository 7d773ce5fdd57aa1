"""Running TensorRT engines on arrays: device buffers, pinned memory and the stream, by pycuda in the primary context.

The primary context is the one that CUDA's runtime uses, hence TensorRT, and torch where it runs beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pycuda.driver as cuda

from synseg_model.engines.tensorrt_flavour import Flavour


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array in the device's memory."""

    shape: tuple[int, ...]
    dtype: np.dtype
    memory: cuda.DeviceAllocation

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


class CudaDevice:
    """One GPU: its context, entered with `with`, one stream, and buffers that grow and stay.

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
        self._buffers: dict[object, cuda.DeviceAllocation] = {}
        self._sizes: dict[object, int] = {}
        self._pinned: dict[object, np.ndarray] = {}
        with self:
            self.stream = cuda.Stream()

    def __enter__(self) -> CudaDevice:
        self._context.push()
        return self

    def __exit__(self, *_: object) -> None:
        cuda.Context.pop()

    def buffer(self, owner: object, size: int) -> cuda.DeviceAllocation:
        """Return the device buffer of an owner, of `size` bytes at least; a larger one replaces it when it must."""
        if self._sizes.get(owner, -1) < size:
            self.stream.synchronize()  # nothing may still be using the one that is given back
            self._buffers.pop(owner, None)
            self._buffers[owner] = cuda.mem_alloc(max(size, 1))
            self._sizes[owner] = size
        return self._buffers[owner]

    def close(self) -> None:
        """Give all memory and the stream back; called within the context, as the last thing."""
        self.stream.synchronize()
        self._buffers.clear()
        self._sizes.clear()
        self._pinned.clear()
        del self.stream

    def upload(self, array: np.ndarray, owner: object = None) -> DeviceArray:
        """Copy an array up: without an owner to memory of its own, at once; else to the owner's buffer, in turn."""
        if owner is None:
            memory = cuda.mem_alloc(array.nbytes)
            cuda.memcpy_htod(memory, np.ascontiguousarray(array))
        else:
            memory, pinned = self.buffer(owner, array.nbytes), self._pin(("up", owner), array.shape, array.dtype)
            # The last copy out of this pinned memory is done: every call ends with a download, which waits for all.
            pinned[...] = array
            cuda.memcpy_htod_async(memory, pinned, self.stream)
        return DeviceArray(array.shape, array.dtype, memory)

    def download(self, array: DeviceArray) -> np.ndarray:
        """Wait for the stream and return an array in pinned memory, valid until the next download."""
        pinned = self._pin("down", array.shape, array.dtype)
        cuda.memcpy_dtoh_async(pinned, array.memory, self.stream)
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
    """One TensorRT engine with its execution context and output buffers; run on one thread at a time."""

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

    def run(self, inputs: Mapping[str, np.ndarray | DeviceArray]) -> dict[str, DeviceArray]:
        """Enqueue the engine on arrays of the host or the device; returns device arrays, valid until the next run.

        Raise ValueError for sizes outside the profile, RuntimeError where TensorRT fails.
        """
        context, gpu = self._context, self._gpu
        for name, array in inputs.items():
            if not context.set_input_shape(name, tuple(array.shape)):
                raise ValueError(f"input {name!r} of shape {tuple(array.shape)} is outside the engine's profile")
            on_device = array if isinstance(array, DeviceArray) else gpu.upload(array, (id(self), name))
            context.set_tensor_address(name, int(on_device.memory))
        outputs = {}
        for name, dtype in self._outputs.items():
            shape = tuple(context.get_tensor_shape(name))
            memory = gpu.buffer((id(self), name), int(np.prod(shape)) * dtype.itemsize)
            outputs[name] = DeviceArray(shape, dtype, memory)
            context.set_tensor_address(name, int(memory))
        size = context.update_device_memory_size_for_shapes()
        context.set_device_memory(int(gpu.buffer("working memory", size)), size)  # graphs run one after the other
        if not context.execute_async_v3(gpu.stream.handle):
            raise RuntimeError("TensorRT could not run the engine; its log, at level DEBUG, says why")
        return outputs
