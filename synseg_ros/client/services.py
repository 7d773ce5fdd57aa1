"""Ask the node where something is, have an image segmented, and have labels segmented while they are needed."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from std_msgs.msg import Header

from synseg_ros.client.calls import RequestRefusedError, ServiceCaller, check_no_nul, checked
from synseg_ros.client.lease import VocabularyLease
from synseg_ros.client.locations import Location
from synseg_ros.ros_messages import image_from_array
from synseg_ros.srv import Locate, Segment


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
        self._waiting: ServiceCaller | None = None
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
        return checked(response, response.success)

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
            self._waiting = self._waiting or ServiceCaller(self._node)
            return self._waiting.call(kind, name, request, timeout)


def _locations(response: Locate.Response) -> dict[str, Location]:
    """Read the answer by label; raise RequestRefusedError where there is none."""
    return {one.label: Location.from_message(one) for one in checked(response, response.success).results}


def _pass_on(done: Future, answer: Future, read: Callable[[Any], Any]) -> None:
    """Give a future's result to another one, read."""
    try:
        answer.set_result(read(done.result()))
    except Exception as error:
        answer.set_exception(error)
