"""A vocabulary is checked, encoded between frames, and gets a version; a bad one changes nothing."""

import itertools

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from synseg_ros.msg import ClassMasks, Vocabulary

from synseg_ros.interfaces.image_encodings import image_to_array
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros


def test_before_the_first_vocabulary_the_status_is_zero_and_nothing_is_segmented(make_rig):
    rig = make_rig()
    rig.listen(ClassMasks, "masks")
    rig.connect()
    assert (rig.statuses[0].version, list(rig.statuses[0].labels)) == (0, [])
    rig.show_until(lambda: rig.counts()["idle"] >= 2, "frames without a vocabulary")
    assert rig.counts()["segmented"] == 0


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
