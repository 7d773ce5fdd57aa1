"""Calls of the node's services that wait for the answer, from any thread."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from rclpy import create_node
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

_numbers = itertools.count(1)  # of the nodes that wait for answers


class RequestRefusedError(RuntimeError):
    """The node refused a request, or nothing came of it; the text says why."""


class ServiceCaller:
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


def checked(response: Any, done: bool) -> Any:
    """Return a response, or raise RequestRefusedError with its message where the request was not done."""
    if not done:
        raise RequestRefusedError(response.message)
    return response
