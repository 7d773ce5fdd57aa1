"""A program asks in one line, waits or not, and its labels are there while it needs them."""

import threading

import numpy as np
import pytest

pytest.importorskip("synseg_ros.srv", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.parameter import Parameter

from synseg_ros.client import FrameMasks, RequestRefusedError, SynSegClient, Thing
from tests.synseg_ros.paint import PaintEngine, painted
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros

RED = painted(("red", (10, 30), (20, 50)))


@pytest.fixture
def rig(make_rig):
    return make_rig(engine=PaintEngine(), request_timeout=60.0)


@pytest.fixture
def client(bench):
    client = SynSegClient(bench.node)
    yield client
    client.close()


class Call(threading.Thread):
    """Make a call that waits on a thread of its own, as the bench has to spin the node meanwhile."""

    def __init__(self, function, *arguments, **options):
        super().__init__(daemon=True)
        self.call = lambda: function(*arguments, **options)
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = self.call()
        except Exception as error:
            self.error = error

    def wait(self, bench, meanwhile=None):
        bench.spin_until(lambda: not self.is_alive(), meanwhile, "the call")
        if self.error is not None:
            raise self.error
        return self.result


def test_locate_waits_and_says_where(rig, bench, client):
    found = Call(client.locate, "red").wait(bench, lambda: rig.show(RED))
    assert (found.label, found.in_view, found.presence, found.camera) == ("red", True, 1.0, "camera")
    (thing,) = found.things
    assert (thing.size, thing.box, thing.score) == ((HEIGHT, WIDTH), (20, 10, 30, 20), 1.0)
    assert thing.center == pytest.approx((35 / WIDTH, 20 / HEIGHT))
    assert (thing.position, "depth" in thing.reason) == (None, True)
    np.testing.assert_array_equal(thing.mask, RED[..., 0] == 255)
    assert thing.track_id is None  # the label is not in the running vocabulary
    thing.message.track_id = 7
    assert Thing.from_message(thing.message).track_id == 7


def test_locate_all_tells_what_is_not_in_view(rig, bench, client):
    found = Call(client.locate_all, ["red", "blue"], camera="camera").wait(bench, lambda: rig.show(RED))
    assert [(label, one.in_view) for label, one in found.items()] == [("red", True), ("blue", False)]


def test_locate_async_does_not_wait(rig, bench, client):
    bench.spin_until(client._locate.service_is_ready, what="the service")
    found, refused = client.locate_async(["red"]), client.locate_async([""])
    bench.spin_until(lambda: found.done() and refused.done(), lambda: rig.show(RED), "the answers")
    assert found.result()["red"].in_view
    with pytest.raises(RequestRefusedError, match="empty"):
        refused.result()


def test_a_refusal_and_a_missing_node_are_errors(rig, bench, client):
    with pytest.raises(RequestRefusedError, match="rear"):
        Call(client.locate, "red", camera="rear").wait(bench)
    with pytest.raises(RequestRefusedError, match="seconds nan"):
        Call(client.locate, "red", seconds=float("nan")).wait(bench)
    rig.node.destroy_node()
    with pytest.raises(TimeoutError):
        Call(client.locate, "red", timeout=0.5).wait(bench)


def test_labels_that_ros_would_cut_are_refused(client):
    for call in (client.locate, lambda label: client.vocabulary("me", [label])):
        with pytest.raises(ValueError, match=r"'ro\\x00ad' has a NUL"):
            call("ro\0ad")
    with pytest.raises(ValueError, match="no labels"):
        client.vocabulary("me", [])


def test_segment_takes_an_image_of_ones_own(rig, bench, client):
    response = Call(client.segment, RED, ["red", "blue"]).wait(bench)
    masks = FrameMasks.from_message(response.masks).masks
    np.testing.assert_array_equal(masks["red"], RED[..., 0] == 255)
    assert not masks["blue"].any()


def test_a_vocabulary_is_there_while_the_block_runs_and_its_lease_is_renewed(rig, bench, client):
    lease = client.vocabulary("tidy", ["mug", "bowl"], lease=3.0)
    Call(lease.__enter__).wait(bench)
    assert (lease.ids, lease.version) == ({"mug": 1, "bowl": 2}, 1)
    ends = rig.node._vocabulary_clients.wish("tidy").ends
    bench.spin_until(lambda: rig.node._vocabulary_clients.wish("tidy").ends > ends + 1.0, what="renewals")
    assert lease.problem == ""
    Call(lease.__exit__, None, None, None).wait(bench)
    bench.spin_until(lambda: not rig.statuses[-1].labels, what="the labels' end")


def test_a_vocabulary_that_is_refused_is_an_error(rig, bench, client):
    with pytest.raises(RequestRefusedError, match="two words"):
        Call(client.vocabulary("two words", ["mug"]).__enter__).wait(bench)


def test_a_lease_that_cannot_be_renewed_tells_why(rig, bench, client):
    problems = []
    lease = client.vocabulary("tidy", ["mug"], lease=3.0, on_problem=problems.append)
    Call(lease.__enter__).wait(bench)
    rig.node.trigger_deactivate()
    rig.node.trigger_cleanup()
    bench.spin_until(lambda: any("unconfigured" in problem for problem in problems), what="the problem")
    assert lease.problem
    rig.node.start()
    bench.spin_until(lambda: not lease.problem and rig.statuses[-1].labels == ["mug"], what="the labels again")
    Call(lease.__exit__, None, None, None).wait(bench)


@pytest.mark.parametrize("encoding", ["png", "rle"])
def test_masks_of_answers_are_encoded_as_the_parameter_says(rig, bench, client, encoding):
    rig.node.set_parameters([Parameter("mask_encoding", value=encoding)])
    (thing,) = Call(client.locate, "red").wait(bench, lambda: rig.show(RED)).things
    assert (thing.message.mask_encoding, len(thing.message.mask.data)) == (encoding, 0)
    np.testing.assert_array_equal(thing.mask, RED[..., 0] == 255)
    answer = Call(client.segment, RED, ["red"]).wait(bench)
    assert answer.masks.masks[0].mask_encoding == encoding
    np.testing.assert_array_equal(FrameMasks.from_message(answer.masks).masks["red"], RED[..., 0] == 255)
