"""Ask the node where something is, have an image segmented, and have labels segmented while they are needed."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from rclpy import create_node
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from std_msgs.msg import Header

from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.msg import Instance, Located
from synseg_ros.ros_messages import image_from_array
from synseg_ros.srv import Locate, Segment, SetVocabulary

RENEWALS = 3  # of a lease before it would end
_numbers = itertools.count(1)  # of the nodes that wait for answers


class RequestRefusedError(RuntimeError):
    """The node refused a request, or nothing came of it; the text says why."""


@dataclass(frozen=True)
class Thing:
    """One object in one image.

    Attributes:
        label: Its label.
        camera: Name of the camera.
        header: Header of the image.
        size: (H, W) of the image in pixels.
        score: Mean activation inside its mask, 0 to 1.
        box: x, y, width, height in pixels, the smallest around its mask.
        center: x, y of the middle of its box, as shares of the image's width and height, 0 to 1.
        position: x, y, z in metres in the frame `frame_id`; None where that is not known.
        frame_id: Frame of the position.
        reason: Why the position is not known; "" where it is.
        message: The message, with all that is not here.
    """

    label: str
    camera: str
    header: Header
    size: tuple[int, int]
    score: float
    box: tuple[int, int, int, int]
    center: tuple[float, float]
    position: tuple[float, float, float] | None
    frame_id: str
    reason: str
    message: Instance

    @classmethod
    def from_message(cls, message: Instance) -> Thing:
        """Read a message."""
        roi, point = message.roi, message.position
        x, y, width, height = roi.x_offset, roi.y_offset, roi.width, roi.height
        return cls(
            message.label,
            message.camera,
            message.header,
            (message.height, message.width),
            message.score,
            (x, y, width, height),
            ((x + width / 2) / message.width, (y + height / 2) / message.height),
            (point.x, point.y, point.z) if message.has_position else None,
            message.position_frame_id,
            message.position_reason,
            message,
        )

    @property
    def mask(self) -> np.ndarray:
        """Its mask in the image, (H, W) bool."""
        full = np.zeros(self.size, bool)
        x, y, width, height = self.box
        full[y : y + height, x : x + width] = image_to_array(self.message.mask) == 255
        return full


@dataclass(frozen=True)
class Location:
    """What was found of a label.

    Attributes:
        label: The label.
        in_view: Whether an instance was found.
        presence: How sure the model is that the label is in view at all: its largest activation, 0 to 1.
        camera: The camera of that.
        things: What was found, by camera, the largest first; empty where the label is not in view.
    """

    label: str
    in_view: bool
    presence: float
    camera: str
    things: tuple[Thing, ...]

    @classmethod
    def from_message(cls, message: Located) -> Location:
        """Read a message."""
        things = tuple(map(Thing.from_message, message.instances))
        return cls(message.label, message.in_view, message.presence, message.camera, things)


class SynSegClient:
    """Ask the node, as a part of any node. The node's running vocabulary stays as it is.

    Calls that wait do so on a node of their own: they may be made on any thread, also in a callback, whether or not
    anybody spins.

    Args:
        node: Its context and namespace are used. Answers to calls that do not wait come while it is spun.

    Example:
        >>> client = SynSegClient(node)
        >>> mug = client.locate("mug", seconds=5)
        >>> if mug.in_view:
        ...     print(mug.things[0].camera, mug.things[0].center)
        >>> with client.vocabulary("tidy_up", ["mug", "bowl"]):
        ...     ...  # masks of both are published meanwhile
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._locate = node.create_client(Locate, "synseg/locate", qos_profile=QoSProfile(depth=100))
        self._waiting: _Caller | None = None
        self._lock = threading.Lock()

    def locate(self, label: str, camera: str = "", seconds: float = 0.0, timeout: float = 10.0) -> Location:
        """Look for one label; see `locate_all`."""
        (location,) = self.locate_all([label], camera, seconds, timeout=timeout).values()
        return location

    def locate_all(
        self,
        labels: Sequence[str],
        camera: str = "",
        seconds: float = 0.0,
        thresholds: Sequence[float] = (),
        timeout: float = 10.0,
    ) -> dict[str, Location]:
        """Look for labels in the next frames, and wait for the answer.

        Args:
            labels: What to look for.
            camera: Name of the camera; "" for all.
            seconds: For how long to look for labels that are not in view, 0 to 60.
            thresholds: None, or one per label, 0 to 1.
            timeout: Seconds to wait for the node, beyond those to look.

        Returns:
            What was found, by label, in their order.

        Raises:
            RequestRefusedError: The node refused it, or gave no frame.
            TimeoutError: No answer came in time.
            ValueError: A label has a NUL, at which ROS would cut it in silence.
        """
        request = self._locate_request(labels, camera, seconds, thresholds)
        waits = timeout + (seconds if math.isfinite(seconds) else 0.0)
        return _locations(self._call(Locate, "synseg/locate", request, waits))

    def locate_async(
        self, labels: Sequence[str], camera: str = "", seconds: float = 0.0, thresholds: Sequence[float] = ()
    ) -> Future:
        """Look for labels in the next frames, without waiting; see `locate_all`.

        Returns:
            A future of rclpy whose result is what was found, by label, or which raises RequestRefusedError.

        Raises:
            RequestRefusedError: No node offers the service yet.
            ValueError: As `locate_all` does.
        """
        request = self._locate_request(labels, camera, seconds, thresholds)
        if not self._locate.service_is_ready():
            raise RequestRefusedError(f"no node offers {self._locate.srv_name} yet")
        answer = Future(executor=self._node.executor)
        self._locate.call_async(request).add_done_callback(lambda done: _pass_on(done, answer, _locations))
        return answer

    def segment(
        self, image: np.ndarray, labels: Sequence[str], thresholds: Sequence[float] = (), timeout: float = 10.0
    ) -> Segment.Response:
        """Have the node segment an image of your own, and wait for the answer.

        Args:
            image: (H, W, 3) uint8 RGB.
            labels: What to find.
            thresholds: None, or one per label, 0 to 1.
            timeout: Seconds to wait.

        Returns:
            The response; `FrameMasks.from_message(response.masks)` of `synseg_ros.client` reads its masks.

        Raises:
            RequestRefusedError: The node refused it.
            TimeoutError: No answer came in time.
            ValueError: The image has another shape or type, or a label has a NUL.
        """
        check_no_nul(labels)
        request = Segment.Request(
            image=image_from_array(image, "rgb8", Header()),
            labels=list(labels),
            thresholds=list(thresholds),
            client=self._name,
        )
        response = self._call(Segment, "synseg/segment", request, timeout)
        return _checked(response, response.success)

    def vocabulary(
        self,
        client: str,
        labels: Sequence[str],
        thresholds: Sequence[float] = (),
        lease: float = 10.0,
        on_problem: Callable[[str], None] | None = None,
    ) -> VocabularyLease:
        """Have labels segmented while a `with` block runs; those of other clients stay as they are.

        Args:
            client: Name of the client: 1 to 64 letters, digits and _ . / -.
            labels: What to segment.
            thresholds: None, or one per label, 0 to 1. Where clients differ, the lowest holds.
            lease: Seconds after which the node forgets the labels if this process ends without a word, 1 to 3600.
            on_problem: Gets the reason when the lease cannot be renewed, on a thread of its own.

        Returns:
            What to enter with `with`; it raises RequestRefusedError or TimeoutError there.

        Raises:
            ValueError: A label has a NUL.
        """
        return VocabularyLease(self._node, client, labels, thresholds, lease, on_problem)

    def close(self) -> None:
        """End the clients."""
        self._node.destroy_client(self._locate)
        with self._lock:
            if self._waiting is not None:
                self._waiting.close()
                self._waiting = None

    @property
    def _name(self) -> str:
        return self._node.get_fully_qualified_name()

    def _locate_request(
        self, labels: Sequence[str], camera: str, seconds: float, thresholds: Sequence[float]
    ) -> Locate.Request:
        check_no_nul(labels)
        return Locate.Request(
            labels=list(labels),
            camera=camera,
            seconds=float(seconds),
            thresholds=list(thresholds),
            client=self._name,
        )

    def _call(self, kind: type, name: str, request: Any, timeout: float) -> Any:
        with self._lock:
            self._waiting = self._waiting or _Caller(self._node)
            return self._waiting.call(kind, name, request, timeout)


class VocabularyLease:
    """Have labels segmented while a `with` block runs. Made by `SynSegClient.vocabulary`.

    Attributes:
        ids: The ids of the labels in label maps, by label.
        version: Version of the first vocabulary with the labels.
        problem: Why the lease could not be renewed last; "" where it could.
    """

    def __init__(
        self,
        node: Node,
        client: str,
        labels: Sequence[str],
        thresholds: Sequence[float],
        lease: float,
        on_problem: Callable[[str], None] | None,
    ) -> None:
        check_no_nul(labels)
        if not labels:
            raise ValueError("no labels: expected at least one")
        self.ids: Mapping[str, int] = {}
        self.version, self.problem = 0, ""
        self._node, self._lease, self._on_problem = node, lease, on_problem
        self._request = SetVocabulary.Request(
            client=client, labels=list(labels), thresholds=list(thresholds), lease_seconds=float(lease)
        )
        self._ended = threading.Event()
        self._caller: _Caller | None = None

    def __enter__(self) -> VocabularyLease:
        self._caller = _Caller(self._node)
        self._ended.clear()
        try:
            response = self._ask(self._request, timeout=60.0)
        except BaseException:
            self._caller.close()
            raise
        self.ids = dict(zip(response.labels, response.ids, strict=True))
        self.version = response.version
        self._thread = threading.Thread(target=self._renew, name="synseg-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            if self._node.context.ok():
                self._ask(SetVocabulary.Request(client=self._request.client), timeout=2.0)
        except (RequestRefusedError, TimeoutError):
            pass  # the lease ends by itself
        finally:
            self._caller.close()

    def _renew(self) -> None:
        while not self._ended.wait(self._lease / RENEWALS) and self._node.context.ok():
            before, self.problem = self.problem, ""
            try:
                response = self._ask(self._request, timeout=self._lease / RENEWALS)
                self.ids = dict(zip(response.labels, response.ids, strict=True))  # others, after a restart of the node
            except Exception as error:
                self.problem = str(error)
                if self.problem != before and self._on_problem is not None and self._node.context.ok():
                    self._on_problem(self.problem)

    def _ask(self, request: SetVocabulary.Request, timeout: float) -> SetVocabulary.Response:
        response = self._caller.call(SetVocabulary, "synseg/set_vocabulary", request, timeout)
        return _checked(response, response.accepted)


class _Caller:
    """Call services and wait, on a node of its own in the namespace of another. Used by one thread at a time."""

    def __init__(self, node: Node) -> None:
        self._node = create_node(
            f"{node.get_name()}_waits_{next(_numbers)}",
            context=node.context,
            namespace=node.get_namespace(),
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._clients: dict[str, Any] = {}

    def call(self, kind: type, name: str, request: Any, timeout: float) -> Any:
        """Call a service; return its response, or raise TimeoutError."""
        if name not in self._clients:
            self._clients[name] = self._node.create_client(kind, name)
        client = self._clients[name]
        if not client.wait_for_service(timeout):
            raise TimeoutError(f"no node offers {client.srv_name}: is the segmentation node running?")
        future = client.call_async(request)
        self._executor.spin_until_future_complete(future, timeout)
        if not future.done():
            client.remove_pending_request(future)
            raise TimeoutError(f"no answer of {client.srv_name} within {timeout:g} s")
        return future.result()

    def close(self) -> None:
        """End the node."""
        self._executor.shutdown()
        self._node.destroy_node()


def check_no_nul(labels: Sequence[str]) -> None:
    """Raise ValueError for a label with a NUL, at which ROS would cut it in silence."""
    for label in labels:
        if "\0" in label:
            raise ValueError(f"label {label!r} has a NUL, which no ROS message carries: leave it out")


def _checked(response: Any, done: bool) -> Any:
    if not done:
        raise RequestRefusedError(response.message)
    return response


def _locations(response: Locate.Response) -> dict[str, Location]:
    """Read the answer by label; raise RequestRefusedError where there is none."""
    return {one.label: Location.from_message(one) for one in _checked(response, response.success).results}


def _pass_on(done: Future, answer: Future, read: Callable[[Any], Any]) -> None:
    """Give a future's result to another one, read."""
    try:
        answer.set_result(read(done.result()))
    except Exception as error:
        answer.set_exception(error)
