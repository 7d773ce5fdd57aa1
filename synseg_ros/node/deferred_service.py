"""A service whose answers may come later, from any thread: the executor goes on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile


class Reply:
    """Answer one request, once.

    Args:
        send: Sends the response.
    """

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the request is answered."""
        return self._done

    def send(self, response: Any) -> bool:
        """Send the response; return False where the request is answered already."""
        with self._lock:
            answered, self._done = self._done, True
        if not answered:
            self._send(response)
        return not answered


class DeferredService:
    """Offer a service that answers when it can.

    rclpy's own way, a callback that awaits, is asked again in every turn of the executor until it is done. So the
    callback here ends at once, and what rclpy sends then is kept back until the answer is there.

    Args:
        node: The node that offers the service.
        kind: Type of the service.
        name: Name of the service.
        take: Gets each request with its Reply, on the executor's thread.
        qos: Quality of service; its depth is how many requests may wait for the executor.
    """

    def __init__(self, node: Node, kind: type, name: str, take: Callable[[Any, Reply], None], qos: QoSProfile) -> None:
        self._node, self._take = node, take
        self._service = node.create_service(kind, name, lambda request, response: request, qos_profile=qos)
        self._send = self._service.send_response
        self._service.send_response = self._defer

    def _defer(self, request: Any, header: Any) -> None:
        """Take the request in the place of sending it back."""
        self._take(request, Reply(lambda response: self._answer(response, header)))

    def _answer(self, response: Any, header: Any) -> None:
        if self._node.context.ok():
            self._send(response, header)

    def destroy(self) -> None:
        """End the service."""
        self._node.destroy_service(self._service)
