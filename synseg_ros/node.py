"""The segmentation node: a camera topic and a vocabulary in, masks out. Run as python -m synseg_ros.node.

The executor's thread takes messages and checks them; the worker's thread owns the engine; the encoder's
thread prepares vocabularies, which the worker installs between two frames.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.time import Time
from sensor_msgs.msg import Image

from synseg_model import Segmenter
from synseg_model.frames import FrameError, check_image, image_to_rgb
from synseg_model.vocabulary import Vocabulary
from synseg_ros.conversions import MAKER
from synseg_ros.diagnostics import CameraStatistics, RateLimit
from synseg_ros.msg import VocabularyStatus
from synseg_ros.parameters import NodeSettings, camera_name, declare
from synseg_ros.publications import CameraOutputs
from synseg_ros.qos import LATCHED, NEWEST_FRAME
from synseg_ros.vocabulary_input import Request, VocabularyEncoder, VocabularySubscription
from synseg_ros.worker import Worker

LABELS_SHOWN = 20
WRONG_START = 2  # exit status for a model or parameter that cannot work


@dataclass(frozen=True)
class ActiveVocabulary:
    """The vocabulary in use and its version, which all made with it carries; 0 while there is none."""

    version: int = 0
    vocabulary: Vocabulary | None = None


@dataclass(frozen=True)
class Camera:
    """What belongs to one camera."""

    topic: str
    outputs: CameraOutputs
    statistics: CameraStatistics
    warnings: RateLimit


class SynSegNode(Node):
    """Segment a camera with the vocabulary that was asked for last.

    Raises ModelError when the model cannot be loaded and ParameterException for a parameter of wrong type or
    range. close() ends the threads. Options, such as parameter_overrides, are those of rclpy's Node.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("synseg", **options)
        self.settings = settings = declare(self, NodeSettings)
        self._segmenter = Segmenter.load(
            settings.model,
            engine=settings.engine,
            device=settings.device,
            max_labels=settings.max_labels,
            cache_dir=settings.cache_dir or None,
        )
        self._active = ActiveVocabulary()  # replaced as a whole, on the worker's thread only
        self._worker: Worker[Image] = Worker(self._segment, self._report)
        self._encoder = VocabularyEncoder(
            self._prepare,
            on_ready=lambda vocabulary: self._worker.between_frames(partial(self._install, vocabulary)),
            on_refused=lambda error: self._worker.between_frames(partial(self._refuse, error)),
        )
        self._status = self.create_publisher(VocabularyStatus, "synseg/active_vocab", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._cameras: dict[str, Camera] = {}
        self._add_camera(camera_name(settings), settings.camera)
        self._vocabulary_input = VocabularySubscription(self, "synseg/vocab", self._encoder.request)
        self.create_timer(1.0, self._publish_diagnostics)
        self._publish_status()
        self._worker.start()
        self._encoder.start()
        if settings.labels:
            self._encoder.request((settings.labels, ()))
        engine = self._segmenter.engine
        self.get_logger().info(
            f"segmenting {settings.camera} with {settings.model} ({engine.name} on {engine.device}); "
            f"labels are taken from {self.resolve_topic_name('synseg/vocab')}"
        )

    def close(self) -> None:
        """End the threads after the frame and the vocabulary at hand."""
        self._encoder.stop()
        self._worker.stop()

    def _add_camera(self, name: str, topic: str) -> None:
        self._cameras[name] = Camera(topic, CameraOutputs(self, name), CameraStatistics(), RateLimit())
        self.create_subscription(
            Image,
            topic,
            partial(self._take_frame, name),
            copy(NEWEST_FRAME),  # rclpy writes the overrides into the profile that it is given
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    # On the executor's thread

    def _take_frame(self, name: str, message: Image, info: Mapping[str, Any]) -> None:
        camera = self._cameras[name]
        camera.statistics.received(info)
        try:
            check_image(message)
        except FrameError as error:
            camera.statistics.error("bad", str(error))
            self._warn(camera, f"skipped a frame of {camera.topic}: {error}")
            return
        if self._active.vocabulary is None or not camera.outputs.wanted():
            camera.statistics.count("idle")
        elif not self._worker.offer(name, message):
            camera.statistics.count("dropped")

    def _publish_diagnostics(self) -> None:
        active, engine = self._active, self._segmenter.engine
        values = {
            "model": self.settings.model,
            "engine": engine.name,
            "device": engine.device,
            "vocabulary version": str(active.version),
            "labels": str(len(active.vocabulary) if active.vocabulary else 0),
        }
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [
            camera.statistics.status(f"{self.get_name()}: {name}", values, ready=active.vocabulary is not None)
            for name, camera in self._cameras.items()
        ]
        self._diagnostics.publish(message)

    # On the encoder's thread

    def _prepare(self, request: Request) -> Vocabulary:
        labels, thresholds = request
        if not thresholds and self.settings.threshold > 0:
            thresholds = [self.settings.threshold] * len(labels)
        return self._segmenter.prepare_vocabulary(labels, thresholds or None)

    # On the worker's thread

    def _install(self, vocabulary: Vocabulary) -> None:
        if not _same(vocabulary, self._active.vocabulary):
            self._active = ActiveVocabulary(self._active.version + 1, vocabulary)
            shown = ", ".join(vocabulary.labels[:LABELS_SHOWN])
            more = f" and {len(vocabulary) - LABELS_SHOWN} more" if len(vocabulary) > LABELS_SHOWN else ""
            self.get_logger().info(f"vocabulary {self._active.version}: {shown}{more}")
        self._publish_status()

    def _refuse(self, error: Exception) -> None:
        self.get_logger().warning(f"refused a vocabulary, version {self._active.version} stays: {error}")
        self._publish_status(refusal=str(error) or type(error).__name__)

    def _publish_status(self, refusal: str = "") -> None:
        now = self.get_clock().now().to_msg()
        self._status.publish(MAKER.vocabulary_status(self._active.vocabulary, self._active.version, now, refusal))

    def _segment(self, frames: Mapping[str, Image]) -> None:
        for name, message in frames.items():
            camera, active = self._cameras[name], self._active
            try:
                image = image_to_rgb(message)
                started = time.perf_counter()
                result = self._segmenter.segment(image, vocabulary=active.vocabulary)
                inference_ms = 1e3 * (time.perf_counter() - started)
                camera.outputs.publish(image, result, message.header, active.version, inference_ms)
            except Exception as error:  # whatever an engine throws, the next frame may succeed
                if not self.context.ok():
                    return
                reason = f"{type(error).__name__}: {error}"
                camera.statistics.error("failed", reason)
                self._warn(camera, f"could not segment a frame of {camera.topic}: {reason}")
            else:
                camera.statistics.segmented(self._age_ms(message), inference_ms)

    def _age_ms(self, message: Image) -> float:
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        return (self.get_clock().now().nanoseconds - stamp) / 1e6 if stamp else float("nan")

    def _report(self, error: Exception) -> None:
        if self.context.ok():
            self.get_logger().error(f"{type(error).__name__}: {error}")

    def _warn(self, camera: Camera, text: str) -> None:
        held_back = camera.warnings.admit()
        if held_back is not None:
            self.get_logger().warning(text + (f" ({held_back} more warnings held back)" if held_back else ""))


def _same(new: Vocabulary, running: Vocabulary | None) -> bool:
    return running is not None and new.labels == running.labels and (new.thresholds == running.thresholds).all()


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return 0, or 2 for a model or parameter that cannot work."""
    rclpy.init(args=args)
    node = None
    try:
        node = SynSegNode()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ValueError, OSError, ModuleNotFoundError, ParameterException) as error:  # ModelError is a ValueError
        if node is not None:
            raise
        advice = "; the torch engine needs: make env, or pip install 'synseg[torch]'"
        hint = advice if isinstance(error, ModuleNotFoundError) else ""
        print(f"synseg: {' '.join(str(error).split())}{hint}", file=sys.stderr)
        return WRONG_START
    except Exception:
        if rclpy.ok():  # else the interrupt closed ROS below a node that was still starting
            raise
    finally:
        if node is not None:
            node.close()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
