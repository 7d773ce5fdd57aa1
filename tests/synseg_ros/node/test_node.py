"""The node's manners, with an engine that needs no network."""

import dataclasses
import itertools
import threading

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from synseg_ros.msg import ClassMasks, FrameInfo, Vocabulary

from synseg_model.engines.null import NullEngine
from synseg_model.weights.pedigree import Met, Pedigree
from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.node.node import SynSegNode
from synseg_ros.qos import EVERY_MESSAGE, LATCHED
from tests.synseg_ros.rig import HEIGHT, TOPIC, WIDTH

pytestmark = pytest.mark.ros


def test_every_output_has_the_frames_header_and_size(make_rig):
    rig = make_rig()
    heard = {name: rig.listen(Image, name) for name in ("label_map", "confidence", "overlay")}
    heard["masks"], heard["info"] = rig.listen(ClassMasks, "masks"), rig.listen(FrameInfo, "info")
    rig.connect()
    rig.ask("ball", "cube", "grass")
    rig.show_until(lambda: all(heard.values()), "all outputs")
    rig.bench.spin_until(lambda: len({messages[0].header.stamp.nanosec for messages in heard.values()}) == 1)
    assert {messages[0].header.frame_id for messages in heard.values()} == {"lens"}
    assert {messages[0].header.stamp.sec for messages in heard.values()} == {1000}
    sizes = {(m[0].height, m[0].width) for name, m in heard.items() if name != "info"}
    assert sizes == {(HEIGHT, WIDTH)}
    assert heard["overlay"][0].encoding == "rgb8"


def test_masks_and_label_map_show_each_label_where_it_is(make_rig):
    rig = make_rig()
    masks, label_maps = rig.listen(ClassMasks, "masks"), rig.listen(Image, "label_map")
    rig.connect()
    rig.ask("ball", "cube", "grass")
    rig.show_until(lambda: masks and label_maps, "masks")
    assert [(mask.id, mask.label) for mask in masks[0].masks] == [(1, "ball"), (2, "cube"), (3, "grass")]
    columns = image_to_array(label_maps[0])[HEIGHT // 2]
    assert columns[[WIDTH // 6, WIDTH // 2, 5 * WIDTH // 6]].tolist() == [1, 2, 3]
    assert abs(masks[0].masks[1].roi.x_offset - WIDTH // 3) <= 1


def test_without_subscribers_nothing_is_segmented(make_rig):
    rig = make_rig()
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: rig.counts()["idle"] >= 3, "frames that nobody wants")
    assert rig.counts()["segmented"] == 0


def test_an_output_without_subscribers_is_not_made(make_rig, monkeypatch):
    made = []
    monkeypatch.setattr("synseg_ros.interfaces.messages.overlay", lambda *_: made.append("overlay"))
    rig = make_rig()
    label_maps = rig.listen(Image, "label_map")
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: len(label_maps) >= 2, "two label maps")
    assert not made


def test_before_the_first_vocabulary_the_status_is_zero_and_nothing_is_segmented(make_rig):
    rig = make_rig()
    rig.listen(ClassMasks, "masks")
    rig.connect()
    assert (rig.statuses[0].version, list(rig.statuses[0].labels)) == (0, [])
    rig.show_until(lambda: rig.counts()["idle"] >= 2, "frames without a vocabulary")
    assert rig.counts()["segmented"] == 0


def test_a_vocabulary_can_be_given_at_the_start_with_a_threshold(make_rig):
    rig = make_rig(labels=["ball", " Ball ", "cube"], threshold=0.25)
    rig.bench.spin_until(lambda: rig.statuses and rig.statuses[-1].version)
    assert (rig.statuses[-1].version, list(rig.statuses[-1].labels)) == (1, ["ball", "cube"])
    assert list(rig.statuses[-1].thresholds) == [0.25, 0.25]


def test_each_accepted_vocabulary_has_the_next_version(make_rig):
    rig = make_rig()
    assert [rig.ask("ball").version, rig.ask("cube").version, rig.ask("ball").version] == [1, 2, 3]


def test_new_thresholds_are_a_new_version(make_rig):
    rig = make_rig()
    rig.ask("ball", thresholds=[0.5])
    status = rig.ask("ball", thresholds=[0.75])
    assert (status.version, list(status.thresholds)) == (2, [0.75])


def test_the_vocabulary_in_use_asked_for_again_stays_under_its_version(make_rig):
    rig = make_rig()
    rig.ask("ball")
    assert rig.ask("ball").version == 1


@pytest.mark.parametrize(
    ("labels", "thresholds", "reason"),
    [
        ((), (), "label"),
        (("ball", " "), (), "empty"),
        (("very " * 80 + "long",), (), "very very"),
        (("ball", "cube"), (0.5,), "threshold"),
        (("ball",), (float("nan"),), "nan"),
    ],
)
def test_a_bad_vocabulary_is_refused_and_the_running_one_stays(make_rig, labels, thresholds, reason):
    rig = make_rig()
    rig.ask("grass")
    status = rig.ask(*labels, thresholds=thresholds)
    assert not status.accepted
    assert reason in status.message
    assert (status.version, list(status.labels)) == (1, ["grass"])
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.show_until(lambda: masks, "masks")
    assert (masks[0].vocabulary_version, list(masks[0].labels)) == (1, ["grass"])


def test_after_a_refusal_a_good_vocabulary_is_accepted(make_rig):
    rig = make_rig()
    rig.ask("")
    status = rig.ask("ball")
    assert (status.accepted, status.message, status.version) == (True, "", 1)


BAD_FRAMES = {
    "encoding 'nonsense'": {"encoding": "nonsense"},
    "size 0x48 is empty": {"width": 0},
    "step 179 is shorter": {"step": WIDTH * 3 - 1},
    "data has 5 bytes": {"data": b"12345"},
}


@pytest.mark.parametrize("reason", BAD_FRAMES)
def test_bad_frames_cause_one_warning_and_the_next_good_frame_is_segmented(make_rig, capfd, reason):
    rig = make_rig()
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")

    def show_bad():
        seen = rig.counts()["received"]
        rig.show(**BAD_FRAMES[reason])
        rig.bench.spin_until(lambda: rig.counts()["received"] > seen)

    rig.bench.spin_until(lambda: rig.counts()["bad"] >= 5, meanwhile=show_bad)
    good_from = rig.stamp + 1
    rig.show_until(lambda: masks, "masks of a good frame")
    assert masks[0].header.stamp.nanosec >= good_from
    warnings = [line for line in capfd.readouterr().err.splitlines() if "skipped a frame" in line]
    assert len(warnings) == 1
    assert f"skipped a frame of {TOPIC}: {reason}" in warnings[0]


def test_a_failing_engine_is_reported_and_the_next_frame_is_segmented(make_rig, troubled, capfd):
    rig = make_rig(engine=troubled)
    masks = rig.listen(ClassMasks, "masks")
    diagnostics = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.connect()
    rig.ask("ball")
    troubled.failures = 3
    rig.show_until(lambda: masks, "masks after the failures")
    assert rig.counts()["failed"] == 3
    warnings = [line for line in capfd.readouterr().err.splitlines() if "could not segment" in line]
    assert len(warnings) == 1
    assert f"a frame of {TOPIC}: RuntimeError: out of memory" in warnings[0]
    rig.bench.spin_until(lambda: any(d.status[0].level == DiagnosticStatus.ERROR for d in diagnostics))


def test_a_frame_in_the_engine_keeps_the_vocabulary_that_it_began_with(make_rig, troubled):
    rig = make_rig(engine=troubled)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball", "cube")
    troubled.gate.clear()
    rig.show_until(troubled.busy.is_set, "a frame in the engine")
    rig.speaker.publish(Vocabulary(labels=["grass"]))
    rig.bench.spin_until(lambda: rig.node._pipeline.worker._tasks, what="the next vocabulary, behind the frame")
    assert not masks
    troubled.gate.set()
    rig.show_until(lambda: masks and masks[-1].vocabulary_version == 2, "masks of the next vocabulary")
    assert (masks[0].vocabulary_version, list(masks[0].labels)) == (1, ["ball", "cube"])
    assert {(mask.vocabulary_version, *mask.labels) for mask in masks[1:]} == {(2, "grass")}


def test_diagnostics_tell_robots_apart(bench):
    node = SynSegNode(context=bench.context, namespace="/robot1")
    bench.closers += [node.destroy_node, node.close]
    bench.executor.add_node(node)
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    bench.spin_until(lambda: diagnostics, what="diagnostics")
    assert [status.name for status in diagnostics[0].status] == ["robot1/synseg"]


def test_diagnostics_tell_engine_vocabulary_and_counts(make_rig):
    rig = make_rig()
    rig.listen(ClassMasks, "masks")
    diagnostics = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.connect()
    rig.ask("ball", "cube")
    rig.show_until(lambda: rig.counts()["segmented"] >= 2, "two frames")
    heard = len(diagnostics)
    rig.bench.spin_until(lambda: len(diagnostics) > heard)
    status = diagnostics[-1].status[0]
    values = {pair.key: pair.value for pair in status.values}
    assert (status.name, status.level) == ("synseg: camera", DiagnosticStatus.OK)
    assert (values["engine"], values["vocabulary version"], values["labels"]) == ("null", "1", "2")
    assert int(values["frames segmented"]) >= 2


def test_labels_that_stay_keep_their_ids(make_rig):
    rig = make_rig()
    masks, label_maps = rig.listen(ClassMasks, "masks"), rig.listen(Image, "label_map")
    rig.connect()
    rig.ask("ball", "cube", "grass")
    status = rig.ask("grass", "sky", "cube")
    assert list(zip(status.labels, status.ids, strict=True)) == [("grass", 3), ("sky", 1), ("cube", 2)]
    rig.show_until(lambda: masks and label_maps, "masks")
    assert [(mask.label, mask.id) for mask in masks[0].masks] == [("grass", 3), ("sky", 1), ("cube", 2)]
    assert (list(masks[0].labels), list(masks[0].ids)) == (["grass", "sky", "cube"], [3, 1, 2])
    columns = image_to_array(label_maps[0])[HEIGHT // 2]
    assert columns[[WIDTH // 6, WIDTH // 2, 5 * WIDTH // 6]].tolist() == [3, 1, 2]


def test_a_threshold_set_while_running_is_a_new_version_unless_the_request_had_its_own(make_rig):
    rig = make_rig()
    rig.ask("ball", "cube")

    def set_and_wait(**values):
        before = len(rig.statuses)
        results = rig.node.set_parameters([Parameter(name, value=value) for name, value in values.items()])
        assert all(result.successful for result in results)
        rig.bench.spin_until(lambda: len(rig.statuses) > before, what="a status")
        return rig.statuses[-1]

    status = set_and_wait(threshold=0.25)
    assert (status.version, list(status.thresholds)) == (2, [0.25, 0.25])
    status = set_and_wait(label_thresholds=["Cube=0.75"])
    assert (status.version, list(status.thresholds)) == (3, [0.25, 0.75])
    rig.ask("ball", "cube", thresholds=[0.5, 0.5])
    status = set_and_wait(threshold=0.125)
    assert (status.version, list(status.thresholds)) == (4, [0.5, 0.5])


def test_an_output_that_is_switched_off_is_not_published_and_alone_causes_no_work(make_rig):
    rig = make_rig(publish_masks=False)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: rig.counts()["idle"] >= 3, "frames that nobody wants")
    assert (rig.counts()["segmented"], masks) == (0, [])
    rig.node.set_parameters([Parameter("publish_masks", value=True)])
    rig.show_until(lambda: masks, "masks")


def test_each_label_has_a_topic_of_its_own_if_asked_for_and_only_while_it_stays(make_rig):
    rig = make_rig(publish_class_topics=True)
    ball = rig.listen(Image, "classes/red_ball")
    rig.ask("red ball", "мяч")

    def class_topics():
        return {p.topic_name.rpartition("/")[2] for p in rig.node.publishers if "/classes/" in p.topic_name}

    assert class_topics() == {"red_ball", "label_2"}
    rig.connect()
    rig.show_until(lambda: ball, "the mask of one label")
    assert (ball[0].encoding, ball[0].height, ball[0].width) == ("mono8", HEIGHT, WIDTH)
    left, right = image_to_array(ball[0])[HEIGHT // 2, [WIDTH // 4, 3 * WIDTH // 4]]
    assert (left, right) == (255, 0)
    rig.ask("red ball", "sky")
    assert class_topics() == {"red_ball", "sky"}
    rig.node.set_parameters([Parameter("publish_class_topics", value=False)])
    rig.bench.spin_until(lambda: not class_topics(), what="no topics")


def test_a_wrong_quality_of_service_is_named_with_both_policies_and_the_fix(make_rig, bench, capfd):
    rig = make_rig()
    bench.node.create_subscription(ClassMasks, "/synseg/camera/masks", print, LATCHED)
    bench.node.create_publisher(Vocabulary, "/synseg/vocab", qos_profile_sensor_data)
    heard = []

    def warned():
        heard.append(capfd.readouterr().err)
        text = "".join(heard)
        return "/synseg/camera/masks: " in text and "/synseg/vocab: " in text

    bench.spin_until(warned, what="two warnings")
    text = "".join(heard)
    assert "asks for durability TRANSIENT_LOCAL and this node offers VOLATILE" in text
    assert "-p qos_overrides./synseg/camera/masks.publisher.durability:=transient_local" in text
    assert "its reliability is BEST_EFFORT and this node asks for RELIABLE" in text
    assert "in /bench" in text
    assert text.count("/synseg/vocab: ") == 1
    assert rig.ask("ball").accepted


def test_unknown_labels_are_encoded_a_few_at_a_time_with_frames_between(make_rig, troubled):
    events = []

    class Noted:
        """Note in which order the engine is asked for what."""

        def __getattr__(self, name):
            return getattr(troubled, name)

        def encode_text(self, prompts):
            events.append(len(prompts))
            return troubled.encode_text(prompts)

        def activations(self, frames, text):
            events.append("frame")
            return troubled.activations(frames, text)

    rig = make_rig(engine=Noted())
    rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")
    troubled.gate.clear()
    rig.show_until(troubled.busy.is_set, "a frame in the engine")
    rig.speaker.publish(Vocabulary(labels=[f"thing {index}" for index in range(50)]))
    rig.bench.spin_until(lambda: rig.node._pipeline.worker._tasks, what="the first piece, behind the frame")
    troubled.gate.set()
    rig.show_until(lambda: rig.statuses[-1].version == 2, "the new vocabulary")
    pieces = [event for event in events if event != "frame"][1:]
    assert (sum(pieces), pieces[0]) == (50, 8)
    assert all(later <= 2 * earlier for earlier, later in itertools.pairwise(pieces))
    assert "frame" in events[events.index(8) : len(events) - events[::-1].index(pieces[-1])]


def test_labels_never_met_get_the_nearest_known_name_in_a_second_status_of_the_same_version(make_rig, capfd):
    rig = make_rig(pedigree=Pedigree({"ball": Met(masks=7), "sky": Met(captions=1)}))
    status = rig.ask("Ball", "cube")
    assert (status.version, list(status.pedigree)) == (1, ["taught by masks (7 images)", "never met"])
    rig.bench.spin_until(lambda: "nearest" in rig.statuses[-1].pedigree[1], what="the nearest name")
    second = rig.statuses[-1]
    assert (second.version, second.accepted, list(second.labels)) == (1, True, ["Ball", "cube"])
    assert second.pedigree[0] == status.pedigree[0]
    assert f"labels that the model does not know: 'cube' {second.pedigree[1]}\n" in capfd.readouterr().err
    assert list(rig.ask("sky").pedigree) == ["met in captions (1)"]
    heard = len(rig.statuses)
    rig.ask("ball", "sky")
    assert len(rig.statuses) == heard + 1  # nothing is left to tell


class HeldUp:
    """Wraps an engine: notes what it embeds, and waits at a gate in the first piece of the model's names."""

    def __init__(self, engine):
        self._engine = engine
        self.prompts, self.busy, self.gate = [], threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def encode_text(self, texts):
        self.prompts.append(list(texts))
        if len(self.prompts) == 2:  # the first were the labels
            self.busy.set()
            assert self.gate.wait(60.0)
        return self._engine.encode_text(texts)


@pytest.fixture
def held_up(stripe_engine):
    engine = HeldUp(stripe_engine)
    yield engine
    engine.gate.set()


HUNDRED = Pedigree({f"name {index}": Met(masks=1) for index in range(100)})


def test_a_models_names_are_embedded_in_pieces_and_a_newer_vocabulary_comes_before_the_rest(make_rig, held_up):
    rig = make_rig(engine=held_up, pedigree=HUNDRED)
    rig.ask("cube")
    rig.bench.spin_until(held_up.busy.is_set, what="the first piece")
    rig.speaker.publish(Vocabulary(labels=["ball"]))
    rig.bench.spin_until(lambda: rig.node._pipeline.vocabularies._encoder._waiting, what="the newer vocabulary")
    held_up.gate.set()
    rig.bench.spin_until(lambda: "nearest" in rig.statuses[-1].pedigree[0], what="the nearest name")
    assert (rig.statuses[-1].version, list(rig.statuses[-1].labels)) == (2, ["ball"])
    (cube, first, ball), rest = held_up.prompts[:3], held_up.prompts[3:]
    assert (cube, ball) == (["a photo of a cube."], ["a photo of a ball."])
    pieces = [len(first), *map(len, rest)]
    assert (sum(pieces), pieces[:2]) == (100, [1, 1])
    assert all(later <= 2 * earlier or later == 8 for earlier, later in itertools.pairwise(pieces))


def test_a_refusal_meanwhile_stays_told_with_the_nearest_names_and_is_logged_once(make_rig, held_up, capfd):
    rig = make_rig(engine=held_up, pedigree=HUNDRED)
    rig.ask("cube")
    rig.bench.spin_until(held_up.busy.is_set, what="the first piece")
    rig.speaker.publish(Vocabulary(labels=[" "]))
    rig.bench.spin_until(lambda: rig.node._pipeline.vocabularies._encoder._waiting, what="the next request")
    held_up.gate.set()
    rig.bench.spin_until(lambda: "nearest" in rig.statuses[-1].pedigree[0], what="the nearest name")
    assert [status.accepted for status in rig.statuses[-2:]] == [False, False]
    assert "empty" in rig.statuses[-1].message
    assert capfd.readouterr().err.count("refused a vocabulary") == 1


def test_the_node_ends_in_the_middle_of_its_names_without_a_word(make_rig, held_up, capfd):
    rig = make_rig(engine=held_up, pedigree=HUNDRED)
    rig.ask("cube")
    rig.bench.spin_until(held_up.busy.is_set, what="the first piece")
    ending = threading.Thread(target=rig.node.close)
    ending.start()
    rig.bench.spin_until(lambda: rig.node._pipeline.worker._stopping, what="the end")
    held_up.gate.set()
    ending.join(60.0)
    rig.bench.spin_until(
        lambda: not rig.node._pipeline.vocabularies._encoder._thread.is_alive(), what="the encoder's end"
    )
    assert "[ERROR]" not in capfd.readouterr().err


def test_a_model_for_other_images_is_warned_of_once_in_the_log_and_named_in_the_diagnostics(make_rig, capfd):
    engine = NullEngine()
    engine.config = dataclasses.replace(engine.config, name="small", domain="generated scenes")
    rig = make_rig(engine=engine)
    diagnostics = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.bench.spin_until(lambda: diagnostics, what="diagnostics")
    log = capfd.readouterr().err
    assert log.count("the model 'small' is for generated scenes") == 1 and "'synseg-everyday'" in log
    values = {pair.key: pair.value for pair in diagnostics[-1].status[-1].values}
    assert values["model warning"].startswith("the model 'small' is for generated scenes")


@pytest.mark.parametrize("expected", ["generated scenes", ""])
def test_a_model_for_the_images_that_are_expected_is_not_warned_of(make_rig, capfd, expected):
    engine = NullEngine()
    engine.config = dataclasses.replace(engine.config, domain="generated scenes")
    rig = make_rig(engine=engine, expect_domain=expected)
    diagnostics = rig.bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
    rig.bench.spin_until(lambda: diagnostics, what="diagnostics")
    assert "is for generated" not in capfd.readouterr().err
    assert {pair.key: pair.value for pair in diagnostics[-1].status[-1].values}["model warning"] == ""
