"""The node's services: they are taken on the executor's thread, which never waits, and answered from other threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from synseg_model import Segmenter
from synseg_model.folding import case_key
from synseg_model.vocabulary import Vocabulary
from synseg_ros.interfaces.image_encodings import FrameError
from synseg_ros.node.answers import locate_response, segment_response
from synseg_ros.node.camera import Camera
from synseg_ros.node.deferred_service import DeferredService, Reply, Sender
from synseg_ros.node.frames import Frame, FrameMessage
from synseg_ros.node.looks import Look
from synseg_ros.node.pipeline import Pipeline
from synseg_ros.node.request_limits import RequestLimits
from synseg_ros.node.vocabulary_clients import ClientError, VocabularyClients
from synseg_ros.node.vocabulary_input import VocabularyRequest
from synseg_ros.node.vocabulary_switch import ActiveVocabulary, Change
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.srv import Locate, Segment, SetVocabulary

MOST_WAITING = 32  # requests of all clients that wait for an answer
MOST_WAITING_OF_CLIENT = 8
CLIENTS_AT_ONCE = 10  # that may make as many requests as one client may
ALL = "all clients"  # under which the requests of all are counted; no client has a space in its name
LONGEST_LOOK = 60.0  # seconds
MOST_PIXELS = 2**25  # of an image to segment: above an 8K frame
VOCABULARY_SECONDS = 60.0  # in which labels are encoded; they come into use even if that takes longer
SMALL_REQUESTS = QoSProfile(depth=1000)  # a client that asks too often is told so
IMAGES = QoSProfile(depth=8)


@dataclass(frozen=True)
class _Open:
    """A request that waits for its answer."""

    client: str
    reply: Reply
    refuse: Callable[[str], bool]  # answers with the reason
    deadline: float  # in seconds of time.monotonic
    late: str  # what is said then
    needs_active: bool = True  # whether it comes to nothing when the node is deactivated


class Services:
    """Offer synseg/locate, synseg/segment and synseg/set_vocabulary.

    They are there in every state of the node, so that clients are told when it is not active. All public methods are
    called on the executor's thread.

    Args:
        node: The node that offers the services.
        settings: Returns the settings in force.
        state: Returns the node's state, such as "active".
        pipeline: Returns what segments frames; None while the node is not configured.
        cameras: By name.
        clients: What each client wants segmented.
    """

    def __init__(
        self,
        node: Node,
        settings: Callable[[], NodeSettings],
        state: Callable[[], str],
        pipeline: Callable[[], Pipeline | None],
        cameras: Mapping[str, Camera],
        clients: VocabularyClients,
    ) -> None:
        self._node, self._settings, self._state = node, settings, state
        self._pipeline, self._cameras, self._clients = pipeline, cameras, clients
        self._limits = RequestLimits()
        self._open: list[_Open] = []
        self._over_limit = 0  # requests that were refused because a client asked too often
        sender = Sender()
        DeferredService(node, Locate, "synseg/locate", self._locate, SMALL_REQUESTS, sender)
        DeferredService(node, Segment, "synseg/segment", self._segment, IMAGES, sender)
        DeferredService(node, SetVocabulary, "synseg/set_vocabulary", self._set_vocabulary, SMALL_REQUESTS, sender)

    def rows(self) -> dict[str, str]:
        """Return what the diagnostics say of requests."""
        return {
            "vocabulary clients": ", ".join(self._clients.names),
            "requests waiting": str(sum(not one.reply.done for one in self._open)),
            "requests over the limit": str(self._over_limit),
        }

    def check(self) -> None:
        """Answer requests whose time is over, and forget clients whose leases have ended."""
        pipeline, now = self._pipeline(), time.monotonic()
        if pipeline is not None:
            pipeline.lookout.check(now)
            for client in pipeline.vocabularies.expire():
                self._node.get_logger().info(f"the lease of client {client} has ended: its labels are forgotten")
        for one in self._open:
            if now >= one.deadline:
                one.refuse(one.late)
        self._open = [one for one in self._open if not one.reply.done]

    def refuse_waiting(self, reason: str, vocabularies: bool = False) -> None:
        """Answer requests that wait with the reason why nothing comes of them.

        Args:
            reason: The reason, for people.
            vocabularies: Whether those for a vocabulary are among them.
        """
        pipeline = self._pipeline()
        if pipeline is not None:
            pipeline.lookout.fail_all(reason)
        for one in self._open:
            if vocabularies or one.needs_active:
                one.refuse(reason)

    # Locate

    def _locate(self, request: Locate.Request, reply: Reply) -> None:
        asked = time.monotonic()
        refuse = _refusal(reply, Locate, "success")
        reason = self._not_active() or self._too_much(request) or self._unknown_camera(request.camera)
        if not reason and not 0 <= request.seconds <= LONGEST_LOOK:  # nan is in no order
            reason = f"seconds {request.seconds:g}: expected 0 to {LONGEST_LOOK:g}"
        if reason:
            refuse(reason)
            return
        deadline = asked + request.seconds + self._settings().request_timeout
        names = [request.camera] if request.camera else list(self._cameras)
        awaited = [name for name in names if not self._cameras[name].input.silent] or names
        pipeline = self._pipeline()

        def work() -> None:
            vocabulary = pipeline.prepare(request.labels, request.thresholds)
            answer = lambda look: reply.send(locate_response(look, self._settings().mask_encoding))  # noqa: E731
            look = Look(vocabulary, names, awaited, asked, asked + request.seconds, deadline, answer)
            if not reply.done:
                pipeline.lookout.add(look)

        self._begin(request.client, reply, refuse, deadline, work)

    def _unknown_camera(self, name: str) -> str:
        if not name or name in self._cameras:
            return ""
        return f"camera {name!r} is unknown: expected one of {', '.join(self._cameras)}, or none for all"

    # Segment

    def _segment(self, request: Segment.Request, reply: Reply) -> None:
        refuse = _refusal(reply, Segment, "success")
        reason = self._not_active() or self._too_much(request)
        given = [message for message in (request.image, request.compressed) if len(message.data)]
        if not reason and len(given) != 1:
            reason = f"{'two images' if given else 'no image'}: expected data in image or in compressed"
        if reason:
            refuse(reason)
            return
        (message,) = given
        pipeline = self._pipeline()

        def work() -> None:
            image = _read(message)
            vocabulary = pipeline.prepare(request.labels, request.thresholds)
            if not reply.done:
                # What a result has on a GPU is read on the thread that made it.
                encoding = self._settings().mask_encoding
                segment = partial(_segment, pipeline.segmenter, image, vocabulary, message.header, encoding)
                reply.send(pipeline.worker.in_turn(segment))

        self._begin(request.client, reply, refuse, time.monotonic() + self._settings().request_timeout, work)

    # SetVocabulary

    def _set_vocabulary(self, request: SetVocabulary.Request, reply: Reply) -> None:
        refuse, client = _refusal(reply, SetVocabulary, "accepted"), request.client
        pipeline = self._pipeline()
        reason = "" if pipeline else f"the node is {self._state()}: configure it first"
        reason = reason or self._too_often(client)
        try:
            lease = self._clients.check(client, len(request.labels), request.lease_seconds)
        except ClientError as error:
            reason = reason or str(error)
        if reason:
            refuse(reason)
            return
        wanted = VocabularyRequest(tuple(request.labels), tuple(request.thresholds)) if request.labels else None
        if self._is_in_use(client, wanted, lease, pipeline.active):
            self._clients.renew(client)
            self._answer_vocabulary(client, reply, pipeline.active, "")
            return
        late = f"the labels are not encoded within {VOCABULARY_SECONDS:.0f} s; they come into use later"
        self._open.append(_Open(client, reply, refuse, time.monotonic() + VOCABULARY_SECONDS, late, needs_active=False))
        pipeline.vocabularies.change(Change(client, wanted, lease, partial(self._answer_vocabulary, client, reply)))

    def _is_in_use(self, client: str, wanted: VocabularyRequest | None, lease: float, active: ActiveVocabulary) -> bool:
        """Tell whether a request asks for nothing new: only its lease begins anew."""
        if any(one.client == client and not one.needs_active and not one.reply.done for one in self._open):
            return False  # what it asked for before comes into use first
        wish = self._clients.wish(client)
        if wish is None or wish.given != wanted or wish.lease != lease or active.vocabulary is None:
            return False
        return set(map(case_key, wish.checked.labels)) <= set(map(case_key, active.vocabulary.labels))

    def _answer_vocabulary(self, client: str, reply: Reply, active: ActiveVocabulary, refusal: str) -> None:
        """Answer with what the client's labels are called in the vocabulary in use; on any thread."""
        response = SetVocabulary.Response(accepted=not refusal, message=refusal, version=active.version)
        wish = self._clients.wish(client)
        if wish is not None and active.vocabulary is not None:
            used = zip(active.vocabulary.labels, active.vocabulary.ids, strict=True)
            by_key = {case_key(label): (label, number) for label, number in used}
            for label, number in filter(None, (by_key.get(case_key(label)) for label in wish.checked.labels)):
                response.labels.append(label)
                response.ids.append(number)
        reply.send(response)

    # All of them

    def _begin(
        self, client: str, reply: Reply, refuse: Callable[[str], bool], deadline: float, work: Callable[[], None]
    ) -> None:
        """Let the requests' thread work on a request, and answer with the reason where that fails."""

        def guarded() -> None:
            try:
                if not reply.done:
                    work()
            except Exception as error:  # whatever an image or an engine makes it raise
                refuse(str(error) or type(error).__name__)

        seconds = deadline - time.monotonic()
        self._open.append(
            _Open(client, reply, refuse, deadline, f"no answer within {seconds:.1f} s: the engine is busy")
        )
        self._pipeline().requests.put(guarded)

    def _not_active(self) -> str:
        state = self._state()
        return "" if state == "active" else f"the node is {state}: activate it first"

    def _too_much(self, request: Any) -> str:
        """Say why a client may not ask this now; "" where it may."""
        if reason := self._too_often(request.client):
            return reason
        most = self._settings().client_labels
        if len(request.labels) > most:
            return f"{len(request.labels)} labels: a request may have {most} at most (parameter client_labels)"
        waiting = [one for one in self._open if not one.reply.done]
        if len(waiting) >= MOST_WAITING:
            return f"{MOST_WAITING} requests wait for an answer: ask again later"
        if sum(one.client == request.client for one in waiting) >= MOST_WAITING_OF_CLIENT:
            return f"{MOST_WAITING_OF_CLIENT} requests of {_named(request.client)} wait for an answer: ask again later"
        return ""

    def _too_often(self, client: str) -> str:
        rate = self._settings().client_requests
        who = ""
        if not self._limits.admit(client[:64], rate):
            who = f"{rate:g} requests per second of {_named(client)}"
        elif not self._limits.admit(ALL, CLIENTS_AT_ONCE * rate):
            who = f"{CLIENTS_AT_ONCE * rate:g} requests per second of all clients"
        self._over_limit += bool(who)
        return who and f"more than {who} (parameter client_requests): ask less often"


def _refusal(reply: Reply, kind: type, field: str) -> Callable[[str], bool]:
    """Return what answers a request with the reason why nothing comes of it."""
    return lambda reason: reply.send(kind.Response(**{field: False, "message": reason}))


def _named(client: str) -> str:
    return f"client {client}" if client else "clients without a name"


def _segment(
    segmenter: Segmenter, image: np.ndarray, vocabulary: Vocabulary, header: Header, mask_encoding: str
) -> Segment.Response:
    return segment_response(segmenter.segment(image, vocabulary), header, mask_encoding)


def _read(message: FrameMessage) -> np.ndarray:
    """Read an image (H, W, 3) uint8 RGB from a message."""
    frame = Frame("", message, time.monotonic())
    frame.check()
    width, height = getattr(message, "width", 0), getattr(message, "height", 0)  # of a compressed one not known yet
    if width * height > MOST_PIXELS:
        raise FrameError(f"image of {width}x{height} pixels: expected {MOST_PIXELS} pixels at most")
    return frame.to_rgb()
