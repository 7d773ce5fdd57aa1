"""Labels that the model never met get the nearest names that it knows, in the background."""

import itertools
import threading

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from synseg_ros.msg import Vocabulary

from synseg_model.weights.pedigree import Met, Pedigree

pytestmark = pytest.mark.ros


def test_labels_never_met_get_the_nearest_known_name_in_a_second_status_of_the_same_version(make_rig, held_up, capfd):
    rig = make_rig(engine=held_up, pedigree=Pedigree({"ball": Met(masks=7), "sky": Met(captions=1)}))
    status = rig.ask("Ball", "cube")
    assert (status.version, list(status.pedigree)) == (1, ["taught by masks (7 images)", "never met"])
    held_up.gate.set()
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
