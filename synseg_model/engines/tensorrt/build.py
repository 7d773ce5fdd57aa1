"""From an exported folder to TensorRT engines: optimisation profiles, cache keys, building with progress."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from synseg_model.config import ModelConfig, ModelError
from synseg_model.engines.tensorrt.cache import EngineCache, EngineKey
from synseg_model.engines.tensorrt.flavour import Flavour
from synseg_model.weights.exported_folder import Export

logger = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")
Report = Callable[[str, int, int], None]  # phase, steps done, steps
Sides = tuple[int, int, int]  # least, usual, most
Limits = dict[str, Sides]  # of the dynamic sizes of the graphs


@dataclass(frozen=True)
class Profile:
    """Say for which sizes engines are built: 1 to `labels` labels, 1 to `cameras` frames, sides to `side` pixels.

    More labels and frames go through in several passes. Kernels are tuned for one frame of 640x480 and 20 labels.
    """

    labels: int = 64
    cameras: int = 8
    side: int = 3840

    def limits(self, config: ModelConfig, patch: int) -> Limits:
        """Limit every dynamic size of the graphs, by the names that `synseg export` gives them."""
        grids = [
            [side // patch for side in config.image.input_size(height, width, patch)]
            for height, width in ((1, self.side), (480, 640), (self.side, 1))  # wide, usual, tall
        ]
        rows, columns = ((min(sides), sides[1], max(sides)) for sides in zip(*grids, strict=True))

        def at(stride: int, patches: Sides) -> Sides:
            """Limit the sides of what has one value in `stride` pixels of the input."""
            return tuple(patch * count // stride for count in patches)

        stride = config.decoder.stride
        limits = {
            "batch": (1, 1, self.cameras),
            "height": (1, 480, self.side),
            "width": (1, 640, self.side),
            "rows": rows,
            "columns": columns,
            "map_height": at(stride, rows),
            "map_width": at(stride, columns),
            "labels": (1, min(20, self.labels), self.labels),
        }
        if config.encoder.backbone:
            for name, level in (("token_{}", 16), ("{}8", 8), ("{}4", 4)):
                limits |= {name.format("rows"): at(level, rows), name.format("columns"): at(level, columns)}
        return limits


class Plans:
    """Get the engines of an exported folder from a cache, or build them for this GPU ("" where there is none)."""

    def __init__(self, folder: Path, flavour: Flavour, gpu: str, profile: Profile, cache: EngineCache) -> None:
        self._folder, self._flavour, self._gpu, self.cache = Path(folder), flavour, gpu, cache
        self._export = Export.read(folder)
        self._limits = profile.limits(ModelConfig.read(folder), self._export.patch)

    def key(self, name: str) -> EngineKey:
        """Name all that the engine of a graph depends on."""
        return EngineKey(
            self._export.files[name][1],
            name,
            self._flavour.name,
            self._flavour.version,
            self._gpu,
            self._export.precision,
            json.dumps(self._limits, sort_keys=True),
        )

    def find(self, name: str, load: Callable[[bytes], Loaded | None] = lambda plan: plan) -> Loaded | None:
        """Load the engine of a graph from the cache; None where it has none that `load` accepts. Builds nothing."""
        return self.cache.find(self.key(name), load)

    def get(
        self, name: str, load: Callable[[bytes], Loaded | None] = lambda plan: plan, report: Report | None = None
    ) -> Loaded | None:
        """Load the engine of a graph, building it where the cache has none that `load` accepts."""

        def build() -> bytes:
            logger.info("%s %s builds an engine for %s", self._flavour.name, self._flavour.version, name)
            graph = self._export.check_file(self._folder, name).read_bytes()
            return build_plan(self._flavour, graph, name, self._limits, bool(self._gpu), report)

        return self.cache.get(self.key(name), build, load)


def build_plan(
    flavour: Flavour, graph: bytes, name: str, limits: Limits, has_gpu: bool, report: Report | None = None
) -> bytes:
    """Build an ONNX graph into a serialised engine; takes seconds to minutes.

    name: of the graph, for messages. report: called while it goes on, from TensorRT's threads.
    Raise ModelError in TensorRT's own words where it cannot, KeyboardInterrupt where Ctrl-C stopped it.
    """
    trt, log = flavour.trt, flavour.make_log()
    builder = trt.Builder(log)
    network = flavour.create_network(builder)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        raise ModelError(f"{flavour.name} {flavour.version} cannot read {name}: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # keeps ten bits: fp32 is chosen by whoever wants more, and fp16 is as fast
    flavour.aim(config, has_gpu)
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        sizes = [
            limits[tensor.get_dimension_name(axis)] if size == -1 else (size, size, size)
            for axis, size in enumerate(tensor.shape)
        ]
        profile.set_shape(tensor.name, *zip(*sizes, strict=True))
    config.add_optimization_profile(profile)
    progress = _make_progress(trt, report)
    config.progress_monitor = progress
    plan = builder.build_serialized_network(network, config)
    if progress.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        reason = log.errors[-1] if log.errors else "no reason given"
        raise ModelError(f"{flavour.name} {flavour.version} cannot build {name}: {reason}")
    return bytes(plan)


def _make_progress(trt, report: Report | None):
    class Progress(trt.IProgressMonitor):
        """Pass on how far the outermost phase is; end the build on Ctrl-C, which must not unwind through C++."""

        def __init__(self) -> None:
            super().__init__()
            self.interrupted = False
            self.phase, self.steps = "", 0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if not parent:
                self.phase, self.steps = phase, steps
            self._tell(phase, 0)

        def step_complete(self, phase: str, step: int) -> bool:
            self._tell(phase, step + 1)
            return not self.interrupted

        def phase_finish(self, phase: str) -> None:
            self._tell(phase, self.steps)

        def _tell(self, phase: str, done: int) -> None:
            try:
                if report and phase == self.phase:
                    report(phase, done, self.steps)
            except KeyboardInterrupt:
                self.interrupted = True

    return Progress()
