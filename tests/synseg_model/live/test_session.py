"""The session keeps what pages ask for, and draws the newest frame while anybody looks."""

import threading

import cv2
import numpy as np
import pytest

from synseg_model.io.drawing import palette
from synseg_model.io.sources import open_source
from synseg_model.live.feed import LiveLabels
from synseg_model.live.session import RequestError, Session
from synseg_model.live.source_feed import SourceFeed


@pytest.fixture
def feed(segmenter, make_video):
    """A feed of a video that is red on the left and green on the right."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[:, :80, 0] = image[:, 80:, 1] = 255
    return SourceFeed(open_source(make_video([image] * 10)), segmenter, "red and green")


@pytest.fixture
def session(feed, notes):
    session = Session(feed, notes.on_state, notes.on_drawn)
    session.start()
    session.count_pages(1)
    yield session
    session.close()


def use(session, notes, *labels):
    """Ask for labels and wait for them; return the newest frame drawn with them."""
    session.ask(labels)
    notes.wait(lambda: [each["label"] for each in session.state()["labels"]] == list(labels), "the labels")
    notes.wait(lambda: notes.drawn and [*notes.drawn[-1].about["found"]] == list(labels), "a frame with the labels")
    return notes.drawn[-1]


def test_labels_take_effect_and_the_state_describes_them(session, notes):
    assert session.state()["labels"] == []
    drawn = use(session, notes, "car", "tree")
    state = session.state()
    colors = ["#" + bytes(color).hex() for color in palette(2)]
    assert state["labels"] == [
        {"label": "car", "id": 1, "color": colors[0], "threshold": 0.5, "shown": True, "own": True},
        {"label": "tree", "id": 2, "color": colors[1], "threshold": 0.5, "shown": True, "own": True},
    ]
    assert (state["source"], state["model"]) == ("red and green", "color (color on cpu)")
    assert (state["busy"], state["refusal"], state["troubles"]) == (False, "", [])
    about = drawn.about
    assert (about["width"], about["height"]) == (160, 120)
    assert about["engine_ms"] > 0 and about["latency_ms"] > 0
    decoded = cv2.imdecode(np.frombuffer(drawn.jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - drawn.image).mean() < 8


def covering(session, notes):
    """Return a label that covers most of the frame, in use alone."""
    for number in range(50):
        label = f"label {number}"
        if use(session, notes, label).about["found"][label][2] > 0.4:
            return label
    raise AssertionError("no label covers much")


def test_the_mask_is_drawn_and_a_hidden_label_is_not(session, notes):
    label = covering(session, notes)
    shown = notes.drawn[-1].image
    session.show(label, False)
    notes.wait(lambda: not np.array_equal(notes.drawn[-1].image, shown), "the frame without the mask")
    hidden = notes.drawn[-1]
    assert np.abs(hidden.image[5, 5].astype(int) - (254, 0, 0)).max() < 12  # as the video has it
    assert hidden.about["found"][label][2] > 0.4  # segmented all the same
    assert session.state()["labels"][0]["shown"] is False
    session.show(label, True)
    notes.wait(lambda: np.array_equal(notes.drawn[-1].image, shown), "the mask again")


def test_a_threshold_changes_the_mask_and_stays_with_its_label(session, notes):
    label = covering(session, notes)
    session.set_threshold(label, 1.0)
    notes.wait(lambda: notes.drawn[-1].about["found"][label][2] == 0, "the empty mask")
    use(session, notes, "sky", label.upper())
    assert [each["threshold"] for each in session.state()["labels"]] == [0.5, 1.0]


def test_names_are_written_on_the_image_where_that_is_asked_for(session, notes):
    covering(session, notes)
    before = notes.drawn[-1].image
    session.show_names(True)
    notes.wait(lambda: not np.array_equal(notes.drawn[-1].image, before), "the name")
    assert session.state()["names"] is True


def test_a_refusal_is_shown_until_labels_are_accepted(session, notes):
    use(session, notes, "car")
    session.ask(["x" * 5000])
    notes.wait(lambda: session.state()["refusal"], "the refusal")
    assert "too long" in session.state()["refusal"]
    assert [each["label"] for each in session.state()["labels"]] == ["car"]
    use(session, notes, "tree")
    assert session.state()["refusal"] == ""


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "0.5", None, True])
def test_a_threshold_that_is_none_is_refused(session, notes, threshold):
    use(session, notes, "car")
    with pytest.raises(RequestError, match="expected a number from 0 to 1"):
        session.set_threshold("car", threshold)
    assert session.state()["labels"][0]["threshold"] == 0.5


def test_a_label_that_is_gone_is_refused(session, notes):
    use(session, notes, "car")
    for request in (lambda: session.show("tree", True), lambda: session.set_threshold("tree", 0.5)):
        with pytest.raises(RequestError, match="'tree' is not in use"):
            request()


def test_a_label_of_other_clients_is_shown_and_keeps_its_threshold(session, notes):
    session.on_labels(LiveLabels(("car", "tree"), (1, 2), (0.5, 0.4), (True, False)))
    assert [(each["label"], each["own"]) for each in session.state()["labels"]] == [("car", True), ("tree", False)]
    session.show("tree", False)
    with pytest.raises(RequestError, match="'tree' is wanted by other clients only"):
        session.set_threshold("tree", 0.3)
    session.set_threshold("car", 0.3)
    notes.wait(lambda: [each["label"] for each in session.state()["labels"]] == ["car"], "the request for car alone")


def test_a_paused_session_keeps_its_frame_and_takes_labels(session, notes):
    use(session, notes, "car")
    session.pause(True)
    assert session.state()["paused"] is True
    drawn = use(session, notes, "tree")
    assert drawn.about["latency_ms"] is None
    count = len(notes.drawn)
    use(session, notes, "dog")
    assert len(notes.drawn) <= count + 2  # no frame but those that requests have made
    session.pause(False)
    notes.wait(lambda: notes.drawn[-1].about["latency_ms"] is not None, "a new frame")


def test_nothing_is_drawn_without_a_page(feed, notes):
    session = Session(feed, notes.on_state, notes.on_drawn)
    session.start()
    try:
        session.ask(["car"])
        notes.wait(lambda: session.state()["labels"], "the labels")
        assert notes.drawn == [] and session.drawn is None
        session.count_pages(1)
        notes.wait(lambda: notes.drawn, "a frame")
    finally:
        session.close()


def test_a_slow_receiver_of_frames_does_not_hold_up_the_engine(feed, notes, segmenter):
    gate, counted, segment = threading.Event(), threading.Semaphore(0), segmenter.segment

    def count(*arguments):
        counted.release()
        return segment(*arguments)

    segmenter.segment = count
    session = Session(feed, notes.on_state, lambda drawn: gate.wait(60))
    session.start()
    try:
        session.count_pages(1)
        session.ask(["car"])
        for _ in range(10):
            assert counted.acquire(timeout=60)
    finally:
        gate.set()
        session.close()


def test_trouble_is_shown_and_logged_once(session, notes, caplog):
    session.on_trouble("source", "camera device 0 stopped giving frames")
    session.on_trouble("source", "camera device 0 stopped giving frames")
    assert session.state()["troubles"] == ["camera device 0 stopped giving frames"]
    session.on_trouble("source", "")
    assert session.state()["troubles"] == []
    assert [record.getMessage() for record in caplog.records] == [
        "camera device 0 stopped giving frames",
        "the source works again",
    ]
