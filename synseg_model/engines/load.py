"""Ways of running the network. An engine takes raw frames and text and returns activation maps."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from pathlib import Path

from synseg_model.config import ModelError
from synseg_model.engine import Engine
from synseg_model.engines.tensorrt.flavour import missing
from synseg_model.weights.exported_folder import is_exported
from synseg_model.weights.find import check_model, find_twin, shipped_models

logger = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "onnxruntime", "openvino", "tensorrt")
GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/dxg")  # of a driver: on a PC, on a Jetson, under WSL
# Options of load_engine that are the engine's own; torch takes all of them.
OPTIONS = {"onnxruntime": {"keep_labels", "cuda_graphs"}, "openvino": {"keep_labels", "precision"}, "tensorrt": set()}


def load_engine(
    model: str | Path, engine: str = "auto", device: str = "auto", build_beside: bool = False, **options: object
) -> Engine:
    """Load a model into the engine asked for.

    engine: "auto" (the best that is there for this model), "torch" for a model's weights, "onnxruntime", "openvino" and
    "tensorrt" for an exported folder, or for a model folder that carries one (`exported/` in it); "null" or
    "null:MILLISECONDS" for no network, whatever the model (see engines/null.py).
    device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
    build_beside: where TensorRT's engines are still to be built, do not wait for that: return an `UpgradingEngine`
    that runs on onnxruntime meanwhile, to be started and stopped by whoever asked for it.
    options: keep_labels, not of tensorrt; precision, of torch and openvino; cuda_graphs, of torch and onnxruntime;
    compile, of torch. See `TorchEngine`.
    Raise ValueError for an unknown engine, device or option, ModelError for a model that cannot be loaded.
    """
    if engine.partition(":")[0] == "null":
        from synseg_model.engines.null import NullEngine

        return NullEngine.from_name(engine)
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    check_model(model)  # before torch, whose import takes seconds
    exported = str(model) not in shipped_models() and is_exported(model)
    if engine == "auto":
        return _load_best(model, exported, device, build_beside, options)
    if engine == "torch":
        if exported:
            raise ModelError(
                f"model {str(model)!r} is an exported folder, which has no weights for torch: choose engine auto, "
                "onnxruntime, openvino or tensorrt, or name the model that it was exported from"
            )
        from synseg_model.engines.torch import TorchEngine

        return TorchEngine(model, device, **options)
    if not exported:
        twin = find_twin(model)
        if twin is None:
            raise ModelError(
                f"model {str(model)!r} is not exported, as {engine} needs it: synseg export {model} --output DIR"
            )
        model = twin
    foreign = sorted(set(options) - OPTIONS[engine])
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: the engine {engine} has no such option, the engine torch has")
    if engine == "tensorrt":
        return _load_tensorrt(model, device, build_beside)
    if engine == "openvino":
        from synseg_model.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(model, device, **options)
    from synseg_model.engines.onnxruntime import OnnxEngine

    return OnnxEngine(model, device, **options)


def _load_tensorrt(folder: str | Path, device: str, build_beside: bool) -> Engine:
    from synseg_model.engines.tensorrt.engine import EngineNotBuiltError, TensorRtEngine

    try:
        return TensorRtEngine(folder, device, build=not build_beside)
    except EngineNotBuiltError as lack:
        logger.info("%s; this is done now, beside the frames", lack)
    from synseg_model.engines.onnxruntime import OnnxEngine
    from synseg_model.engines.upgrading import UpgradingEngine

    try:
        engine = OnnxEngine(folder, device)
    except ValueError as error:  # this onnxruntime cannot use the GPU; the CPU does for a while
        logger.info("%s: on the CPU meanwhile", error)
        engine = OnnxEngine(folder, "cpu")
    command = ["nice", sys.executable, "-m", "synseg_model", "build-engine", str(folder)]  # frames come first
    # A device with its number: without, a GPU that is not found means engines for no GPU in particular.
    command += ["--device", "cuda" if device == "auto" else device]
    return UpgradingEngine(engine, "tensorrt", command, lambda: TensorRtEngine(folder, device, build=False))


def _load_best(
    model: str | Path, exported: bool, device: str, build_beside: bool, options: dict[str, object]
) -> Engine:
    """Load a model into torch; an exported folder into TensorRT, or into what is the fastest without it.

    A model folder that carries its export runs on a CPU as the export does, which is faster and needs no torch.
    """
    twin = None if exported else find_twin(model)
    if twin is not None and not _torch_takes_gpu(device):
        for name in ("openvino", "onnxruntime"):
            if importlib.util.find_spec(name) and set(options) <= OPTIONS[name]:
                logger.info("engine %s, because %s carries its export and the device is a CPU", name, model)
                return load_engine(twin, name, "cpu", **options)
    if not exported:
        logger.info("engine torch, because %s is not exported", model)
        return load_engine(model, "torch", device, **options)
    lacks = "the device is cpu" if device == "cpu" else missing()
    if lacks is None:
        try:
            engine = load_engine(model, "tensorrt", device, build_beside, **options)
        except (ValueError, ImportError, RuntimeError) as error:  # a damaged folder fails again below, in plain words
            lacks = str(error)
        else:
            logger.info("engine tensorrt, because %s is an exported folder and TensorRT is here", model)
            return engine
    # On a CPU, OpenVINO takes half the time of onnxruntime.
    name = "openvino" if _has_openvino() and not _onnxruntime_takes_gpu(device) else "onnxruntime"
    logger.info("engine %s, because %s is an exported folder and, for tensorrt, %s", name, model, lacks)
    return load_engine(model, name, device, **options)


def _torch_takes_gpu(device: str) -> bool:
    """Tell whether torch would run on a GPU; where one is named it must, or say what it lacks."""
    if device != "auto":
        return device != "cpu"
    # torch takes seconds to import: only where there may be a GPU is it asked.
    if not any(map(os.path.exists, GPU_FILES)) or not importlib.util.find_spec("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def _onnxruntime_takes_gpu(device: str) -> bool:
    """Tell whether onnxruntime would run on a GPU; where one is named it must, or say what it lacks."""
    if device != "auto":
        return device != "cpu"
    if not importlib.util.find_spec("onnxruntime"):
        return False
    from synseg_model.engines.onnxruntime import choose_device

    return choose_device(device) != "cpu"
