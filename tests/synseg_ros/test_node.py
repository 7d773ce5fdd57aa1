"""The node's manners, with an engine that needs no network."""

import threading

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from synseg_ros.msg import ClassMasks, FrameInfo, Vocabulary, VocabularyStatus

from synseg_model import Segmenter
from synseg_model.frames import image_to_array
from synseg_ros.conversions import image_from_array
from synseg_ros.node import SynSegNode
from synseg_ros.qos import EVERY_MESSAGE, LATCHED

pytestmark = pytest.mark.ros

HEIGHT, WIDTH = 48, 60
TOPIC = "/camera/image_raw"


class Rig:
    """A node with its surroundings: a camera, somebody who publishes vocabularies, and subscribers."""

    def __init__(self, bench, node):
        self.bench, self.node = bench, node
        self.camera = bench.node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
        self.speaker = bench.node.create_publisher(Vocabulary, "/synseg/vocab", LATCHED)
        self.statuses = bench.collect(VocabularyStatus, "/synseg/active_vocab", LATCHED)
        self.stamp = 0

    def listen(self, kind, name):
        return self.bench.collect(kind, f"/synseg/camera/{name}", EVERY_MESSAGE)

    def ask(self, *labels, thresholds=()):
        """Publish a vocabulary and wait for the answer."""
        before = len(self.statuses)
        self.speaker.publish(Vocabulary(labels=list(labels), thresholds=list(thresholds)))
        self.bench.spin_until(lambda: len(self.statuses) > before, what="a status")
        return self.statuses[-1]

    def connect(self):
        """Wait until the node hears the camera, and every output that is listened to has its listener."""
        listeners = {s.topic_name for s in self.bench.node.subscriptions if "/synseg/camera/" in s.topic_name}
        self.bench.spin_until(
            lambda: (
                self.camera.get_subscription_count()
                and all(p.get_subscription_count() for p in self.node.publishers if p.topic_name in listeners)
            ),
            what="connections",
        )

    def show(self, **fields):
        """Publish a frame with a stamp of its own; return that stamp."""
        self.stamp += 1
        header = Header(stamp=Time(sec=1000, nanosec=self.stamp), frame_id="lens")
        message = image_from_array(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "rgb8", header)
        for name, value in fields.items():
            setattr(message, name, value)
        self.camera.publish(message)
        return self.stamp

    def counts(self):
        return self.node._cameras["camera"].statistics.counts

    def show_until(self, condition, what):
        """Publish frames, each when the one before has been looked at, until the condition holds."""

        def next_frame():
            seen = self.counts()["received"]
            self.show()
            self.bench.spin_until(lambda: self.counts()["received"] > seen, what="the frame")

        self.bench.spin_until(condition, meanwhile=next_frame, what=what)


@pytest.fixture
def make_rig(bench, monkeypatch, stripe_engine, tmp_path):
    def make(engine=stripe_engine, **parameters):
        segmenter = Segmenter(engine, cache_dir=tmp_path)
        monkeypatch.setattr("synseg_ros.node.Segmenter.load", lambda *args, **options: segmenter)
        given = [Parameter(name, value=value) for name, value in parameters.items()]
        node = SynSegNode(context=bench.context, parameter_overrides=given)
        bench.executor.add_node(node)
        bench.closers += [node.destroy_node, node.close]
        rig = Rig(bench, node)
        bench.spin_until(lambda: rig.statuses, what="the first status")
        return rig

    return make


def stamps(messages):
    return [message.header.stamp.nanosec for message in messages]


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
    monkeypatch.setattr("synseg_ros.publications.overlay", lambda *_: made.append("overlay"))
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


class TroubledEngine:
    """Wraps an engine: waits at a gate while it is closed, and fails as often as told."""

    def __init__(self, engine):
        self._engine = engine
        self.gate, self.busy, self.failures = threading.Event(), threading.Event(), 0
        self.gate.set()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def activations(self, frames, text):
        self.busy.set()
        assert self.gate.wait(60.0)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("out of memory")
        return self._engine.activations(frames, text)


@pytest.fixture
def troubled(stripe_engine):
    engine = TroubledEngine(stripe_engine)
    yield engine
    engine.gate.set()


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


def test_the_newest_frame_wins_and_the_others_are_counted_as_dropped(make_rig, troubled):
    rig = make_rig(engine=troubled)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")
    troubled.gate.clear()
    rig.show_until(troubled.busy.is_set, "a frame in the engine")
    counted = rig.counts()["dropped"]
    for _ in range(5):
        seen = rig.counts()["received"]
        newest = rig.show()
        rig.bench.spin_until(lambda seen=seen: rig.counts()["received"] > seen)
    assert rig.counts()["dropped"] - counted in (4, 5)
    troubled.gate.set()
    rig.bench.spin_until(lambda: newest in stamps(masks))
    assert len(masks) == 2


def test_a_frame_in_the_engine_keeps_the_vocabulary_that_it_began_with(make_rig, troubled):
    rig = make_rig(engine=troubled)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball", "cube")
    troubled.gate.clear()
    rig.show_until(troubled.busy.is_set, "a frame in the engine")
    prepared = threading.Event()
    prepare = rig.node._segmenter.prepare_vocabulary

    def noted(*args):
        vocabulary = prepare(*args)
        prepared.set()
        return vocabulary

    rig.node._segmenter.prepare_vocabulary = noted
    rig.speaker.publish(Vocabulary(labels=["grass"]))
    rig.bench.spin_until(prepared.is_set, what="the next vocabulary to be encoded beside the running one")
    assert not masks
    troubled.gate.set()
    rig.show_until(lambda: masks and masks[-1].vocabulary_version == 2, "masks of the next vocabulary")
    assert (masks[0].vocabulary_version, list(masks[0].labels)) == (1, ["ball", "cube"])
    assert list(masks[-1].labels) == ["grass"]
    assert [mask.vocabulary_version for mask in masks] == sorted(mask.vocabulary_version for mask in masks)


def test_the_quality_of_service_of_the_camera_can_be_set(make_rig):
    name = f"qos_overrides.{TOPIC}.subscription"
    rig = make_rig(**{f"{name}.reliability": "reliable", f"{name}.depth": 4})
    (subscription,) = (s for s in rig.node.subscriptions if s.topic_name == TOPIC)
    assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert subscription.qos_profile.depth == 4


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
    assert (values["engine"], values["vocabulary version"], values["labels"]) == ("stripes", "1", "2")
    assert int(values["frames segmented"]) >= 2
