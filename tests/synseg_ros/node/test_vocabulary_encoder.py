"""Of the vocabularies that wait only the newest is prepared, and what is not urgent comes after."""

import threading

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from synseg_ros.node.vocabulary_encoder import VocabularyEncoder

pytestmark = pytest.mark.ros
PATIENCE = 10.0
BALL, CUBE = (("ball",), ()), (("cube",), ())


class Desk:
    """An encoder that is held up at a gate until the test opens it."""

    def __init__(self):
        self.ready, self.refused = [], []
        self.gate, self.busy, self.idle = threading.Event(), threading.Event(), threading.Event()
        self.encoder = VocabularyEncoder(self.prepare, self.note_ready, self.note_refused)

    def prepare(self, request):
        self.busy.set()
        assert self.gate.wait(PATIENCE)
        if request[0] == ("",):
            raise ValueError("empty label")
        return request[0]

    def note_ready(self, labels):
        self.ready.append(labels)
        if labels == ("last",):
            self.idle.set()

    def note_refused(self, request, error):
        self.refused.append(str(error))


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.gate.set()
    desk.encoder.stop()


def test_of_several_vocabularies_that_wait_only_the_newest_is_encoded(desk):
    desk.encoder.start()
    desk.encoder.request((("first",), ()))
    assert desk.busy.wait(PATIENCE)
    for label in ("second", "third", "last"):
        desk.encoder.request(((label,), ()))
    desk.gate.set()
    assert desk.idle.wait(PATIENCE)
    assert desk.ready == [("first",), ("last",)]


def test_a_refused_vocabulary_is_reported_and_the_next_one_is_encoded(desk):
    desk.gate.set()
    desk.encoder.request((("",), ()))
    desk.encoder.start()
    assert desk.busy.wait(PATIENCE)
    desk.encoder.request((("last",), ()))
    assert desk.idle.wait(PATIENCE)
    assert desk.refused == ["empty label"]
    assert desk.ready == [("last",)]


def test_clients_take_turns_in_the_order_in_which_they_asked_first(desk):
    desk.encoder.start()
    desk.encoder.request((("first",), ()), "greedy")
    assert desk.busy.wait(PATIENCE)
    old = desk.encoder.request((("old",), ()), "greedy")
    desk.encoder.request((("other",), ()), "modest")
    replaced = desk.encoder.request((("new",), ()), "greedy")
    desk.encoder.request((("last",), ()), "late")
    desk.gate.set()
    assert desk.idle.wait(PATIENCE)
    assert (old, replaced) == (None, (("old",), ()))
    assert desk.ready == [("first",), ("new",), ("other",), ("last",)]


def test_what_is_not_urgent_follows_a_refusal_too(desk):
    called = threading.Event()
    encoder = VocabularyEncoder(desk.prepare, desk.note_ready, desk.note_refused, lambda busy: called.set())
    desk.gate.set()
    encoder.request((("",), ()))
    encoder.start()
    assert called.wait(PATIENCE)
    assert encoder.stop(PATIENCE)
    assert desk.refused == ["empty label"]


def test_what_is_not_urgent_follows_a_vocabulary_and_is_told_to_give_up_for_a_newer_one():
    order, busy, go_on, done = [], threading.Event(), threading.Event(), threading.Event()

    def note_ready(label):
        order.append(label)
        if label == "cube":
            done.set()

    def afterwards(is_busy):
        if busy.is_set():
            return
        order.append(("alone", not is_busy()))
        busy.set()
        assert go_on.wait(PATIENCE)
        order.append(("alone", not is_busy()))

    encoder = VocabularyEncoder(lambda request: request[0][0], note_ready, pytest.fail, afterwards)
    encoder.start()
    encoder.request(BALL)
    assert busy.wait(PATIENCE)
    encoder.request(CUBE)
    go_on.set()
    assert done.wait(PATIENCE)
    assert encoder.stop(PATIENCE)
    assert order == ["ball", ("alone", True), ("alone", False), "cube"]
