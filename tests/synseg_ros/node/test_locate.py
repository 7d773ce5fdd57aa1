"""Where is it? The answer comes from the next frame, and touches nobody's vocabulary."""

import itertools
import re
import threading

import numpy as np
import pytest

pytest.importorskip("synseg_ros.srv", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.parameter import Parameter
from synseg_ros.msg import ClassMasks
from synseg_ros.srv import Locate, Segment

from synseg_ros.interfaces.image_encodings import image_to_array
from tests.synseg_ros.node.asking import Asker
from tests.synseg_ros.paint import PaintEngine, painted
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros

RED = ("red", (10, 30), (20, 50))
TWO_REDS = (("red", (4, 16), (4, 16)), ("red", (20, 40), (30, 55)))


@pytest.fixture
def engine():
    return PaintEngine()


@pytest.fixture
def rig(make_rig, engine):
    rig = make_rig(engine=engine, request_timeout=60.0)  # for busy machines
    rig.bench.spin_until(rig.camera.get_subscription_count, what="the node's subscription")
    return rig


@pytest.fixture
def asker(rig):
    return Asker(rig)


def test_an_instance_has_its_frame_box_mask_and_score(rig, asker):
    answer = asker.locate("red", image=painted(RED))
    assert (answer.success, answer.message, list(answer.cameras)) == (True, "", ["camera"])
    (located,) = answer.results
    assert (located.label, located.in_view, located.presence, located.camera) == ("red", True, 1.0, "camera")
    (thing,) = located.instances
    assert (thing.camera, thing.label, thing.label_id, thing.track_id) == ("camera", "red", 1, 0)
    assert (thing.height, thing.width, thing.area, thing.score) == (HEIGHT, WIDTH, 600, 1.0)
    assert (thing.roi.x_offset, thing.roi.y_offset, thing.roi.width, thing.roi.height) == (20, 10, 30, 20)
    assert (image_to_array(thing.mask) == 255).all() and image_to_array(thing.mask).shape == (20, 30)
    assert thing.header == answer.headers[0] and thing.header.frame_id == "lens"
    assert not thing.has_position and "depth" in thing.position_reason


def test_all_instances_come_the_largest_first_and_labels_may_overlap(asker):
    answer = asker.locate("Red", "bright red", "RED", image=painted(*TWO_REDS))
    assert [located.label for located in answer.results] == ["Red", "bright red"]
    for located in answer.results[1:]:
        assert [instance.area for instance in located.instances] == [500, 144]


def test_an_absent_label_is_not_in_view_with_the_score_that_speaks_for_it(asker):
    image = painted(RED)
    image[0, 0, 2] = 102
    answer = asker.locate("blue", "dog", image=image)
    assert answer.success
    blue, dog = answer.results
    assert (blue.in_view, list(blue.instances), blue.camera) == (False, [], "camera")
    assert blue.presence == pytest.approx(0.4, abs=1e-3) and blue.threshold == pytest.approx(0.5)
    assert dog.presence == pytest.approx(0.25, abs=1e-3)


def test_the_answer_comes_within_two_frames(rig, asker):
    rig.bench.node.create_timer(0.5, lambda: rig.show(painted(RED)))
    rig.bench.spin_until(lambda: rig.stamp, what="a first frame")
    for label in ("red", "a red thing nobody asked for before"):
        shown = rig.stamp
        answer = asker.ask(Locate, labels=[label])
        assert answer.results[0].in_view
        assert shown < answer.headers[0].stamp.nanosec <= shown + 2


def test_a_frame_from_before_the_request_is_not_looked_at(rig, asker):
    masks, gate = rig.listen(ClassMasks, "masks"), threading.Event()
    rig.connect()
    rig.ask("red")  # whose embedding is known then
    rig.node._pipeline.worker.between_frames(gate.wait)
    old = rig.show(painted(RED))
    rig.bench.spin_until(lambda: rig.node._pipeline.worker.waiting("camera"), what="the old frame")
    future = asker.send(Locate, labels=["red"])
    rig.bench.spin_until(lambda: len(rig.node._pipeline.lookout), what="the look")
    gate.set()
    rig.bench.spin_until(lambda: masks, what="masks of the old frame")
    assert masks[0].header.stamp.nanosec == old and masks[0].masks
    rig.bench.spin_until(future.done, rig.show, "the answer")
    assert not future.result().results[0].in_view
    assert future.result().headers[0].stamp.nanosec > old


def test_nobodys_vocabulary_changes_and_labels_are_decoded_together(rig, asker, engine):
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("green", "blue")
    rig.show_until(lambda: masks, "masks")
    engine.batches.clear()
    answer = asker.locate("red", "Green", image=painted(RED))
    assert [located.in_view for located in answer.results] == [True, False]
    assert set(engine.batches) <= {2, 4} and engine.batches.count(4) == 1  # one call for both
    before = len(masks)
    rig.show_until(lambda: len(masks) > before, "masks after it")
    assert {(message.vocabulary_version, *message.labels) for message in masks} == {(1, "green", "blue")}
    assert rig.statuses[-1].version == 1


def test_labels_of_the_running_vocabulary_have_ids_that_last_and_others_have_none(rig, asker):
    rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("red", "blue")
    image = painted(*TWO_REDS, ("green", (44, 48), (0, 20)))
    first, second = (asker.locate("red", "green", image=image) for _ in range(2))
    for answer in (first, second):
        reds, greens = ([thing.track_id for thing in located.instances] for located in answer.results)
        assert sorted(reds) == [1, 2]
        assert greens == [0]
    ids = [[thing.track_id for thing in answer.results[0].instances] for answer in (first, second)]
    assert first.headers[0] != second.headers[0]
    assert ids[0] == ids[1]


def test_without_a_subscriber_nothing_is_followed(rig, asker):
    rig.ask("red")
    answer = asker.locate("red", image=painted(RED))
    assert [thing.track_id for thing in answer.results[0].instances] == [0]


def test_without_subscribers_and_vocabulary_only_the_frame_that_is_asked_for_is_segmented(rig, asker, engine):
    rig.show_until(lambda: rig.counts()["idle"] >= 2, "idle frames")
    assert asker.locate("red", image=painted(RED)).results[0].in_view
    idle = rig.counts()["idle"]
    rig.show_until(lambda: rig.counts()["idle"] > idle, "idle frames")
    assert engine.batches == [1]
    counts = rig.counts()
    assert (counts["requested"], counts["segmented"]) == (1, 0)

    def all_are_counted():  # the newest may still be on its way through the node
        counts = rig.counts()
        return counts["received"] == sum(counts[kind] for kind in ("requested", "idle", "dropped"))

    rig.bench.spin_until(all_are_counted, what="each frame in one counter")


def test_a_rate_limit_does_not_hold_up_a_request(make_rig, engine):
    rig = make_rig(engine=engine, max_rate=0.001)
    rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("green")
    rig.show_until(lambda: rig.counts()["skipped"] >= 2, "skipped frames")
    assert Asker(rig).locate("red", image=painted(RED)).results[0].in_view


def test_it_looks_on_for_labels_that_are_not_in_view(rig, asker):
    images = itertools.cycle([painted(), painted(("green", (0, 20), (0, 20))), painted(RED)])
    future = asker.send(Locate, labels=["red", "green"], seconds=60.0)
    rig.bench.spin_until(future.done, lambda: rig.show(next(images)), "the answer")
    assert [located.in_view for located in future.result().results] == [True, True]
    first, second = (located.instances[0].header.stamp.nanosec for located in future.result().results)
    assert first != second


def test_it_stops_to_look_when_the_time_is_over(rig, asker):
    answer = asker.locate("red", seconds=0.5)
    assert answer.success and not answer.results[0].in_view


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"labels": []}, "no labels"),
        ({"labels": ["  "]}, "empty"),
        ({"labels": ["very " * 80 + "long"]}, "too long"),
        ({"labels": ["a"] * 10_000}, "10000 labels.*64"),
        ({"labels": ["red"], "thresholds": [float("nan")]}, "nan"),
        ({"labels": ["red"], "thresholds": [0.1, 0.2]}, "more than 1 thresholds for 1 labels"),
        ({"labels": ["red"], "seconds": float("nan")}, "seconds nan"),
        ({"labels": ["red"], "seconds": float("inf")}, "seconds inf"),
        ({"labels": ["red"], "seconds": -1.0}, "seconds -1"),
        ({"labels": ["red"], "seconds": 61.0}, "0 to 60"),
        ({"labels": ["red"], "camera": "rear"}, "'rear' is unknown.*camera"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(asker, fields, reason):
    answer = asker.ask(Locate, **fields)
    assert not answer.success and not answer.results
    assert re.search(reason, answer.message), answer.message


def test_a_camera_without_frames_is_named_when_the_time_is_over(make_rig, engine):
    asker = Asker(make_rig(engine=engine, request_timeout=2.0))
    answer = asker.ask(Locate, labels=["red"])
    assert (answer.success, answer.message) == (False, "no frame came from camera in time")


def test_of_two_cameras_the_one_that_gives_no_frame_is_named_and_the_other_answers(make_rig, engine):
    topics = ["/camera/image_raw", "/rear/image_raw"]
    rig = make_rig(engine=engine, camera_topics=topics, request_timeout=3.0)
    answer = Asker(rig).locate("red", image=painted(RED))
    assert (answer.success, answer.message) == (True, "no frame came from rear in time")
    assert list(answer.cameras) == ["camera"] and answer.results[0].in_view
    rig.node.set_parameters([Parameter("stale_seconds", value=0.1)])
    rig.bench.spin_until(lambda: rig.node._cameras["rear"].input.silent, what="silence")
    answer = Asker(rig).locate("red", image=painted(RED))  # which does not wait for it
    assert answer.message == "no frame came from rear in time"


def test_a_thousand_requests_are_all_answered_and_frames_go_on(rig, asker):
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("green")
    futures = [asker.send(Locate, labels=["red"]) for _ in range(1000)]
    before = len(masks)
    image = painted(RED)
    rig.bench.spin_until(lambda: all(f.done() for f in futures), lambda: rig.show(image), "all answers")
    answers = [future.result() for future in futures]
    refused = [answer.message for answer in answers if not answer.success]
    assert len(masks) > before
    assert 8 <= sum(answer.success for answer in answers) <= 1000 - len(refused)
    assert len(refused) > 800
    assert any("10 requests per second" in message and "client_requests" in message for message in refused)
    own = asker.ask(Locate, labels=["red"], client="another", meanwhile=lambda: rig.show(image))
    assert own.success


def test_an_inactive_node_says_so_and_deactivating_answers_what_waits(make_rig, engine):
    rig = make_rig(engine=engine, start=False)
    asker = Asker(rig)
    assert asker.ask(Locate, labels=["red"]).message == "the node is unconfigured: activate it first"
    rig.node.trigger_configure()
    assert asker.ask(Locate, labels=["red"]).message == "the node is inactive: activate it first"
    assert asker.ask(Segment, labels=["red"]).message == "the node is inactive: activate it first"
    rig.node.trigger_activate()
    future = asker.send(Locate, labels=["red"], seconds=60.0)
    rig.bench.spin_until(lambda: len(rig.node._pipeline.lookout), what="the look")
    rig.node.trigger_deactivate()
    rig.bench.spin_until(future.done, what="the answer")
    assert (future.result().success, future.result().message) == (False, "the node was deactivated")


def test_an_engine_that_fails_for_a_request_costs_nobody_a_frame(make_rig, engine, monkeypatch):
    activations = engine.activations

    def fail(frames, text):
        if len(text) > 1:
            raise RuntimeError("out of memory")
        return activations(frames, text)

    monkeypatch.setattr(engine, "activations", fail)
    rig = make_rig(engine=engine)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("green")
    answer = Asker(rig).locate("red", image=painted(RED))
    assert (answer.success, answer.message) == (False, "the engine failed: RuntimeError: out of memory")
    rig.show_until(lambda: masks, "masks")
    assert rig.counts()["failed"] == 0


def test_a_busy_engine_is_said_to_be_busy(make_rig, troubled):
    rig = make_rig(engine=troubled, request_timeout=0.5)
    gate = threading.Event()
    rig.node._pipeline.worker.between_frames(gate.wait)
    answer = Asker(rig).ask(Locate, labels=["red"])
    gate.set()
    assert not answer.success and "busy" in answer.message


def test_a_huge_look_does_not_make_others_wait_longer_than_a_frame(rig, asker, engine):
    futures = [
        asker.send(Locate, labels=[f"{number} {name}" for number in range(64)], client=name) for name in "abcdefgh"
    ]
    rig.bench.spin_until(lambda: all(f.done() for f in futures), rig.show, "all answers")
    assert all(future.result().success for future in futures)
    assert max(engine.batches) <= 256


def test_instances_are_where_the_label_map_has_them(asker):
    answer = asker.locate("red", image=painted(*TWO_REDS))
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for thing in answer.results[0].instances:
        rows = slice(thing.roi.y_offset, thing.roi.y_offset + thing.roi.height)
        columns = slice(thing.roi.x_offset, thing.roi.x_offset + thing.roi.width)
        mask[rows, columns] |= image_to_array(thing.mask) == 255
    np.testing.assert_array_equal(mask, painted(*TWO_REDS)[..., 0] == 255)
