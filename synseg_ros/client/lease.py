"""Labels that the node segments for as long as a program needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rclpy.node import Node

from synseg_ros.client.calls import RequestRefusedError, ServiceCaller, check_no_nul, checked
from synseg_ros.srv import SetVocabulary

RENEWALS = 3  # of a lease before it would end


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
        self._caller: ServiceCaller | None = None

    def __enter__(self) -> VocabularyLease:
        self._caller = ServiceCaller(self._node)
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
        return checked(response, response.accepted)
