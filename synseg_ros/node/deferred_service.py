"""A service whose answers may come later, from any thread: the executor goes on meanwhile."""

from __future__ import annotations

import threading
from collections import deque
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


class Sender:
    """Send what is to be sent on a thread that is there while there is something to send.

    A middleware may wait for a client that is just leaving, which neither the executor nor the engine must do.
    """

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._running = False

    def put(self, job: Callable[[], None]) -> None:
        """Send something after all that waits."""
        with self._lock:
            self._jobs.append(job)
            begin, self._running = not self._running, True
        if begin:
            threading.Thread(target=self._run, name="synseg-answers", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._running = False
                    return
                job = self._jobs.popleft()
            job()


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
        sender: Sends the answers.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        name: str,
        take: Callable[[Any, Reply], None],
        qos: QoSProfile,
        sender: Sender,
    ) -> None:
        self._node, self._take, self._sender = node, take, sender
        self._service = node.create_service(kind, name, lambda request, response: request, qos_profile=qos)
        self._send = self._service.send_response
        self._service.send_response = self._defer

    def _defer(self, request: Any, header: Any) -> None:
        """Take the request in the place of sending it back."""
        self._take(request, Reply(lambda response: self._sender.put(lambda: self._answer(response, header))))

    def _answer(self, response: Any, header: Any) -> None:
        try:
            if self._node.context.ok():
                self._send(response, header)
        except Exception as error:  # the client or this node has gone
            if self._node.context.ok():
                self._node.get_logger().debug(f"an answer of {self._service.srv_name} was not sent: {error}")
