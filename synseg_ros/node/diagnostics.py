"""What the node says of itself on /diagnostics: each camera, the engine, the vocabulary, and memory."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from synseg_ros.node.camera import Camera
from synseg_ros.node.camera_statistics import pairs
from synseg_ros.node.depth_input import DepthInput
from synseg_ros.node.pipeline import Pipeline
from synseg_ros.node.viewer_output import ViewerThread
from synseg_ros.node.vocabulary_switch import ActiveVocabulary
from synseg_ros.parameters.tables import NodeSettings


class Diagnostics:
    """Publish one status per camera, and then the node's own.

    Args:
        node: The node that publishes.
        settings: Returns the settings in force.
        cameras: The cameras by name, as they are at present.
    """

    def __init__(self, node: Node, settings: Callable[[], NodeSettings], cameras: Mapping[str, Camera]) -> None:
        self._node, self._settings, self._cameras = node, settings, cameras
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(
        self,
        state: str,
        error: str,
        model_warning: str,
        pipeline: Pipeline | None,
        requests: Mapping[str, str],
        viewer: ViewerThread | None = None,
    ) -> None:
        """Publish how things are now.

        Args:
            state: The node's lifecycle state.
            error: Why it could not be configured, "" where it could.
            model_warning: What is to be said against the model, "" for nothing.
            pipeline: The running pipeline, None while the node is not configured.
            requests: What is to be said of the services, as rows.
            viewer: What shows frames in Rerun, None where nothing does.
        """
        cameras = [self._camera_status(state, camera, pipeline) for camera in self._cameras.values()]
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        own = self._own_status(state, error, model_warning, pipeline, cameras)
        own.values += pairs(requests) + pairs(viewer.rows() if viewer else {"viewer": ""})
        if viewer and viewer.problem:
            own.level = max(own.level, DiagnosticStatus.WARN)
            own.message = "; ".join(filter(None, (own.message, f"not shown in Rerun: {viewer.problem}")))
        message.status = [*cameras, own]
        self._publisher.publish(message)

    def _camera_status(self, state: str, camera: Camera, pipeline: Pipeline | None) -> DiagnosticStatus:
        settings, waiting = self._settings(), pipeline.worker.waiting(camera.name) if pipeline else None
        rows = {"topic": camera.topic, "queue age (ms)": f"{1e3 * waiting.age():.1f}" if waiting else "0.0"}
        rows |= _depth_rows(camera.depth) | camera.objects.statistics.rows()
        problem = camera.objects.statistics.problem
        return camera.statistics.status(
            f"{self._name}: {camera.name}",
            self._values(pipeline) | rows,
            ready=pipeline is not None and pipeline.active.version > 0,
            stale_seconds=settings.stale_seconds if state == "active" else float("inf"),
            slow_ms=settings.slow_ms,
            warnings=[f"no positions: {problem}"] if problem else (),
        )

    def _own_status(
        self,
        state: str,
        error: str,
        model_warning: str,
        pipeline: Pipeline | None,
        cameras: list[DiagnosticStatus],
    ) -> DiagnosticStatus:
        stale = [
            f"{name} ({camera.topic})"
            for name, camera in self._cameras.items()
            if state == "active" and camera.input.silent
        ]
        upgrade = pipeline.upgrade if pipeline else None
        building, failed = (upgrade.progress, upgrade.failure) if upgrade else ("", "")
        silent = f"no frames from {', '.join(stale)}" if stale else ""
        message = error or "; ".join(filter(None, (state, silent, building)))
        values = {"state": state, **self._values(pipeline), **memory()}
        values |= {"stale cameras": ", ".join(stale), "engine build": building, "last error": error}
        values["model warning"] = model_warning
        own = DiagnosticStatus.ERROR if error else DiagnosticStatus.WARN if failed else DiagnosticStatus.OK
        level = max(own, *(status.level for status in cameras), DiagnosticStatus.OK)
        return DiagnosticStatus(name=self._name, level=level, message=message, values=pairs(values))

    @property
    def _name(self) -> str:
        return self._node.get_fully_qualified_name().lstrip("/")  # two robots' nodes have one name in two namespaces

    def _values(self, pipeline: Pipeline | None) -> dict[str, str]:
        """Return the rows that all statuses have."""
        engine = pipeline.segmenter.engine if pipeline else None
        active = pipeline.active if pipeline else ActiveVocabulary()
        return {
            "model": self._settings().model,
            "engine": engine.name if engine else "",
            "device": engine.device if engine else "",
            "vocabulary version": str(active.version),
            "labels": str(len(active.vocabulary) if active.vocabulary else 0),
        }


def _depth_rows(depth: DepthInput | None) -> dict[str, str]:
    """Say where depth comes from, and how long ago the newest depth image arrived."""
    if depth is None:
        return {"depth topic": ""}
    age = depth.age()
    return {"depth topic": depth.topics.depth, "depth age (ms)": f"{1e3 * age:.0f}" if isfinite(age) else ""}


def memory() -> dict[str, str]:
    """Return as rows the memory that this process holds, and the GPU memory that torch holds."""
    rows = {}
    with contextlib.suppress(OSError):  # not on every system
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rows["memory (MB)"] = f"{pages * os.sysconf('SC_PAGESIZE') / 1e6:.0f}"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        rows["GPU memory (MB)"] = f"{torch.cuda.memory_reserved() / 1e6:.0f}"
    return rows
