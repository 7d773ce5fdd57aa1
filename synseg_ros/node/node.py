"""The segmentation node: camera topics and a vocabulary in, masks out.

A lifecycle node: configure loads the model and takes vocabularies, activate subscribes to the cameras, deactivate stops
that within a frame, cleanup frees all. The executor's thread takes messages; the pipeline's threads do the work.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from synseg_model import Segmenter
from synseg_model.install_hints import missing_module
from synseg_model.viewer.target import read_target
from synseg_model.viewer.viewer import Viewer
from synseg_model.weights.domain import domain_warning
from synseg_ros.node import bond
from synseg_ros.node.camera import Camera
from synseg_ros.node.diagnostics import Diagnostics
from synseg_ros.node.pipeline import Pipeline
from synseg_ros.node.rate_limit import RateLimit
from synseg_ros.node.services import Services
from synseg_ros.node.transform_source import TransformSource
from synseg_ros.node.viewer_output import ViewerThread, unused
from synseg_ros.node.vocabulary_clients import ClientLimits, VocabularyClients
from synseg_ros.node.vocabulary_input import VocabularyRequest, VocabularySubscription
from synseg_ros.node.vocabulary_output import VocabularyOutput
from synseg_ros.node.vocabulary_switch import ActiveVocabulary
from synseg_ros.parameters.given import warn_of_unknown
from synseg_ros.parameters.server import LiveSettings
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.space.depth_view import DepthTopics

REQUESTS_SECONDS = 0.1  # from one look for requests whose time is over to the next
CLEANUP_SECONDS = 10.0  # to wait for the frame and the vocabulary at hand
DONE, REFUSED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SynSegNode(LifecycleNode):
    """Segment cameras with the vocabulary that was asked for last.

    Args:
        options: Those of rclpy's Node, such as parameter_overrides.

    Raises:
        ParameterException: A parameter has a wrong type or value.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("synseg", **options)
        self._live = LiveSettings(self, NodeSettings, self._settings_changed)
        warn_of_unknown(self)
        self._pipeline: Pipeline | None = None
        self._viewer: ViewerThread | None = None  # while it is configured with one
        self._cameras: dict[str, Camera] = {}
        self._domain_warning = ""  # of a model that was made for other images
        self._release: list[Callable[[], object]] = []  # what undoes configure, in the order of doing
        self._last = ActiveVocabulary()  # whose version a later configure goes on with
        limits = ClientLimits(labels=self.settings.client_labels, total=self.settings.max_labels)
        self._vocabulary_clients = VocabularyClients(limits)  # whose labels a later configure goes on with
        self._state, self._error = "unconfigured", ""
        self._request_services = Services(
            self,
            lambda: self.settings,
            lambda: self._state,
            lambda: self._pipeline,
            self._cameras,
            self._vocabulary_clients,
        )
        self._errors = RateLimit()
        self._activated = False  # ever
        self._bond: bond.Bond | None = None  # while it is active under a manager
        self._diagnostics = Diagnostics(self, lambda: self.settings, self._cameras)
        # On a clock that nobody sets back.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._every_second, clock=steady)
        self.create_timer(REQUESTS_SECONDS, self._request_services.check, clock=steady)

    @property
    def settings(self) -> NodeSettings:
        """The parameters in force."""
        return self._live.value

    def start(self) -> bool:
        """Configure and activate; return False when that failed, which the log explains."""
        return self.trigger_configure() == DONE and self.trigger_activate() == DONE

    def close(self) -> bool:
        """End the bond and the threads; return False where one is still busy in a call of the engine or a viewer."""
        self._break_bond()
        ended = self._pipeline is None or self._pipeline.stop()
        return self._stop_viewer() and ended

    def destroy_node(self) -> None:
        """Destroy the node, so that nobody hears of it any more.

        rclpy leaves the state machine of a lifecycle node. It would keep the node's DDS participant alive.
        """
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def report(self, error: Exception) -> None:
        """Log an error that belongs to no camera, not too often.

        Args:
            error: The error.
        """
        held_back = self._errors.admit()
        if self.context.ok() and held_back is not None:
            more = f" ({held_back} more errors held back)" if held_back else ""
            self.get_logger().error(f"{type(error).__name__}: {error}{more}")

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and take vocabularies; after an error, say why and stay unconfigured."""
        self._state = "configuring"
        try:
            self._configure()
        except Exception as error:
            self._clean_up()
            if not self.context.ok():  # the process is being ended, and no transition can be completed any more
                raise KeyboardInterrupt from None
            reason = missing_module(error) if isinstance(error, ModuleNotFoundError) else str(error)
            self._error = " ".join(reason.split())
            self.get_logger().error(f"cannot be configured: {self._error or type(error).__name__}")
            return REFUSED
        self._state, self._error = "inactive", ""
        return DONE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras, and publish."""
        for camera in self._cameras.values():
            camera.listen()
        self._pipeline.worker.resume()
        if not self._activated:  # now every topic is there that parameters could be meant for
            warn_of_unknown(self, qos=True)
        self._state, self._activated = "active", True
        if self._bond is None and bond.available() and not self.settings.autostart:  # for whoever activates it
            self._bond = bond.Bond(self)
        return DONE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the subscriptions; what is in the engine just now is not published."""
        self._break_bond()
        self._state = "inactive"
        self._request_services.refuse_waiting("the node was deactivated")
        for frame in self._pipeline.worker.pause():
            self._cameras[frame.camera].statistics.count("dropped")
        for camera in self._cameras.values():
            camera.ignore()
        return DONE

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and all topics but /diagnostics; the vocabulary is remembered."""
        self._clean_up()
        return DONE

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        self._clean_up("finalized")
        return DONE

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything after a transition that went wrong, and be as before the first configure."""
        self._clean_up()
        self.get_logger().error("a transition failed: the node is unconfigured again")
        return DONE

    def _configure(self) -> None:
        settings = self.settings
        viewer = self._open_viewer(settings.rerun) if settings.rerun else None  # before what takes seconds
        segmenter = Segmenter.load(
            settings.model,
            engine=settings.engine,
            device=settings.device,
            max_labels=settings.max_labels,
            cache_dir=settings.cache_dir or None,
            build_beside=True,  # which may take minutes: no lifecycle manager waits so long
            **settings.engine_options(),
        )
        self._domain_warning = domain_warning(segmenter.engine.config, settings.expect_domain)
        if self._domain_warning:
            self.get_logger().warning(self._domain_warning)
        self._vocabulary_output = VocabularyOutput(self, self._last)
        self._release.append(self._vocabulary_output.destroy)
        self._pipeline = pipeline = Pipeline(
            segmenter,
            self._cameras,
            lambda: self.settings,
            self._announce,
            self.report,
            self._vocabulary_clients,
            self._last.version,
        )
        transforms = TransformSource(self)
        self._release.append(transforms.destroy)
        cameras = settings.cameras(self._resolved)
        depths = settings.depths(cameras)
        for name, topic in cameras.items():
            depth = depths[name] and DepthTopics(*map(self.resolve_topic_name, (*depths[name], topic)))
            self._cameras[name] = camera = Camera(
                self,
                name,
                topic,
                lambda: self.settings,
                lambda: pipeline.active.vocabulary is not None,
                pipeline.lookout.wants,
                pipeline.offer,
                depth,
                transforms,
                viewer,
            )
            self._release.append(camera.destroy)
        if camera.outputs.missing:
            self.get_logger().info(
                f"vision_msgs is not installed: there are no topics {', '.join(camera.outputs.missing)}"
            )
        pipeline.start()
        self._vocabulary_clients.expire()
        if len(self._vocabulary_clients):
            pipeline.vocabularies.refresh()
        elif settings.labels:
            pipeline.request(VocabularyRequest(settings.labels))
        self._release.append(VocabularySubscription(self, "synseg/vocab", pipeline.request).close)
        topics = ", ".join(camera.topic for camera in self._cameras.values())
        self.get_logger().info(
            f"segmenting {topics} with {settings.model} ({segmenter.engine.name} on {segmenter.engine.device}); "
            f"labels are taken from {self.resolve_topic_name('synseg/vocab')}"
        )

    def _open_viewer(self, text: str) -> ViewerThread:
        """Start what shows frames in Rerun; raise ValueError or ModuleNotFoundError where that cannot work here."""
        target = unused(read_target(text, "rerun"))
        # A node may record for days, and the index of a file takes memory as long as it is written.
        viewer = Viewer(target, footer=False, warn=self._warn)
        self._viewer = ViewerThread(viewer, self.report)
        self._viewer.start()
        self.get_logger().info(f"showing frames in Rerun: {target}")
        return self._viewer

    def _stop_viewer(self) -> bool:
        viewer, self._viewer = self._viewer, None
        return viewer is None or viewer.stop()

    def _warn(self, text: str) -> None:
        if self.context.ok():
            self.get_logger().warning(text)

    def _resolved(self, topic: str) -> str:
        """Return the topic that ROS makes of one that was given, without this node's namespace."""
        try:
            resolved = self.resolve_topic_name(topic)
        except Exception as error:  # rclpy's own kinds; not all of them name the topic
            raise ValueError(f"the camera's topic {topic!r} is refused by ROS: {error}") from None
        return resolved.removeprefix(self.get_namespace().rstrip("/") + "/")

    def _break_bond(self) -> None:
        broken, self._bond = self._bond, None
        if broken is not None:
            broken.break_up()

    def _clean_up(self, state: str = "unconfigured") -> None:
        self._break_bond()
        self._state = state
        self._request_services.refuse_waiting("the node was cleaned up", vocabularies=True)
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            self._last = pipeline.active if pipeline.active.version else self._last
            pipeline.worker.pause()
            pipeline.stop(CLEANUP_SECONDS)
        self._stop_viewer()  # before what it looks transforms up with
        for undo in reversed(self._release):
            undo()
        self._release.clear()
        self._cameras.clear()
        del pipeline
        gc.collect()  # the engine has references in circles
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    # On the executor's thread

    def _settings_changed(self, settings: NodeSettings) -> None:
        if self._pipeline is not None:
            self._pipeline.vocabularies.refresh()  # thresholds and class topics may be others

    def _every_second(self) -> None:
        active = list(self._cameras.values()) if self._state == "active" else []
        for camera in active:
            camera.follow()
        self._diagnostics.publish(
            self._state,
            self._error,
            self._domain_warning,
            self._pipeline,
            self._request_services.rows(),
            self._viewer,
        )
        for camera in active:
            camera.watch()

    # On the worker's thread

    def _announce(self, active: ActiveVocabulary, refusal: str) -> None:
        """Tell which vocabulary is in use, or why one was refused: what ids mean comes before the status."""
        stamp = self.get_clock().now().to_msg()
        for camera in tuple(self._cameras.values()):
            camera.outputs.announce(active.vocabulary, stamp)
        self._vocabulary_output.announce(active, refusal)
