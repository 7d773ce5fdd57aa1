"""A vocabulary reaches the node once, whoever publishes it and when."""

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.qos import DurabilityPolicy, QoSProfile
from synseg_ros.msg import Vocabulary

from synseg_ros.node.vocabulary_input import REMEMBERED, EchoFilter, VocabularySubscription, restore_nul
from synseg_ros.qos import PublisherEventCallbacks

pytestmark = pytest.mark.ros
QOS = {
    "volatile": QoSProfile(depth=10),
    "latched": QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL),
}
BALL, CUBE = (("ball",), ()), (("cube",), ())


def info(publisher=b"p", number=1, stamp=100):
    return {
        "publisher_gid": None if publisher is None else {"data": publisher},
        "publication_sequence_number": number,
        "source_timestamp": stamp,
    }


def test_the_second_copy_of_a_publication_is_an_echo():
    echo = EchoFilter()
    assert [echo.is_new(BALL, info()), echo.is_new(BALL, info())] == [True, False]


@pytest.mark.parametrize("other", [{"publisher": b"q"}, {"number": 2}, {"stamp": 101}])
def test_the_same_labels_published_again_are_new(other):
    echo = EchoFilter()
    assert echo.is_new(BALL, info())
    assert echo.is_new(BALL, info(**other))


def test_copies_that_come_late_and_out_of_order_are_echoes():
    echo = EchoFilter()
    first = [echo.is_new(BALL, info(number=n, stamp=n)) for n in range(1, REMEMBERED // 2)]
    again = [echo.is_new(BALL, info(number=n, stamp=n)) for n in range(1, REMEMBERED // 2)]
    assert all(first)
    assert not any(again)


def test_without_any_identification_equal_content_is_an_echo_for_a_moment_only():
    now = [0.0]
    echo = EchoFilter(clock=lambda: now[0])
    nothing = info(publisher=None, number=None, stamp=0)
    assert echo.is_new(BALL, nothing)
    assert echo.is_new(CUBE, nothing)
    now[0] = 0.5
    assert not echo.is_new(BALL, nothing)
    now[0] = 5.0
    assert echo.is_new(BALL, nothing)


def test_memory_of_publications_is_bounded():
    echo = EchoFilter()
    for number in range(10 * REMEMBERED):
        echo.is_new(BALL, info(number=number, stamp=number))
    assert len(echo._seen) == REMEMBERED


@pytest.mark.parametrize("kind", QOS)
def test_everything_that_a_publisher_says_is_received_once_and_in_order(bench, kind):
    publisher = bench.node.create_publisher(Vocabulary, "vocab", QOS[kind])
    received = []
    subscription = VocabularySubscription(bench.node, "vocab", received.append)
    bench.spin_until(lambda: publisher.get_subscription_count() and (kind == "volatile" or subscription._history))
    for labels in (["ball"], ["cube"], ["ball"], ["end"]):
        publisher.publish(Vocabulary(labels=labels))
    bench.spin_until(lambda: (("end",), ()) in received and subscription._history is None)
    assert received == [BALL, CUBE, BALL, (("end",), ())]


def test_what_a_latched_publisher_said_before_is_received_once_and_in_order(bench):
    publisher = bench.node.create_publisher(Vocabulary, "vocab", QOS["latched"])
    for labels in (["grass"], ["ball"]):
        publisher.publish(Vocabulary(labels=labels))
    received = []
    subscription = VocabularySubscription(bench.node, "vocab", received.append)
    bench.spin_until(lambda: len(received) == 2)
    publisher.publish(Vocabulary(labels=["cube"]))
    bench.spin_until(lambda: CUBE in received and subscription._history is None)
    assert received == [(("grass",), ()), BALL, CUBE]


def test_what_is_older_than_what_its_publisher_said_last_is_dropped(bench):
    received = []
    subscription = VocabularySubscription(bench.node, "vocab", received.append)
    subscription._receive(False, Vocabulary(labels=["cube"]), info(number=3, stamp=300))
    subscription._receive(True, Vocabulary(labels=["ball"]), info(number=2, stamp=200))
    subscription._receive(True, Vocabulary(labels=["cube"]), info(number=3, stamp=300))
    subscription._receive(False, Vocabulary(labels=["ball"]), info(publisher=b"q", number=1, stamp=100))
    assert received == [CUBE, BALL]


@pytest.mark.parametrize("first", ["publisher", "node"])
def test_a_plain_publisher_is_heard_and_not_told_that_it_is_not(bench, first):
    warnings, received = [], []
    events = PublisherEventCallbacks(incompatible_qos=warnings.append)

    def publish():
        return bench.node.create_publisher(Vocabulary, "vocab", QOS["volatile"], event_callbacks=events)

    publisher = publish() if first == "publisher" else None
    VocabularySubscription(bench.node, "vocab", received.append)
    publisher = publisher or publish()
    bench.spin_until(publisher.get_subscription_count)
    publisher.publish(Vocabulary(labels=["ball"]))
    bench.spin_until(lambda: received)
    assert (received, warnings, publisher.get_subscription_count()) == ([BALL], [], 1)


def test_a_plain_publisher_is_not_told_so_once_a_latched_one_was_heard(bench):
    received, warnings = [], []
    subscription = VocabularySubscription(bench.node, "vocab", received.append)
    bench.node.create_publisher(Vocabulary, "vocab", QOS["latched"]).publish(Vocabulary(labels=["ball"]))
    bench.spin_until(lambda: received and subscription._history is None)
    events = PublisherEventCallbacks(incompatible_qos=warnings.append)
    publisher = bench.node.create_publisher(Vocabulary, "vocab", QOS["volatile"], event_callbacks=events)
    bench.spin_until(publisher.get_subscription_count)
    publisher.publish(Vocabulary(labels=["cube"]))
    bench.spin_until(lambda: CUBE in received)
    assert warnings == []


def test_a_latched_publisher_that_comes_later_is_received(bench):
    received = []
    VocabularySubscription(bench.node, "vocab", received.append)
    bench.node.create_publisher(Vocabulary, "vocab", QOS["latched"]).publish(Vocabulary(labels=["ball"]))
    bench.spin_until(lambda: received)
    assert received == [BALL]


def test_thresholds_are_received(bench):
    received = []
    VocabularySubscription(bench.node, "vocab", received.append)
    message = Vocabulary(labels=["ball", "cube"], thresholds=[0.5, 0.25])
    bench.node.create_publisher(Vocabulary, "vocab", QOS["latched"]).publish(message)
    bench.spin_until(lambda: received)
    assert received == [(("ball", "cube"), (0.5, 0.25))]


def cdr(*labels, order="little"):
    """Write a Vocabulary as a publisher does whose texts may hold a NUL, such as one in C++."""
    data = (b"\0\1" if order == "little" else b"\0\0") + b"\0\0" + len(labels).to_bytes(4, order)
    for label in labels:
        text = label.encode() + b"\0"
        data += bytes(-len(data) % 4) + len(text).to_bytes(4, order) + text
    return data + bytes(-len(data) % 4) + bytes(4)


def test_a_label_with_a_nul_is_not_cut_in_silence(bench):
    received = []
    VocabularySubscription(bench.node, "vocab", received.append)
    publisher = bench.node.create_publisher(Vocabulary, "vocab", QOS["volatile"])
    bench.spin_until(publisher.get_subscription_count)
    publisher.publish(cdr("ball", "ro\0ad", "grün"))
    publisher.publish(Vocabulary(labels=["grün", ""]))
    bench.spin_until(lambda: len(received) == 2)
    assert received == [(("ball", "ro\0ad", "grün"), ()), (("grün", ""), ())]


@pytest.mark.parametrize("order", ["little", "big"])
def test_labels_are_read_as_they_were_sent(order):
    message = Vocabulary(labels=["a", "", "ab", "Été", ""])  # as rclpy cuts them
    restore_nul(message, cdr("a", "", "ab\0c", "Été", "\0", order=order))
    assert message.labels == ["a", "", "ab\0c", "Été", "\0"]


@pytest.mark.parametrize("data", [b"", b"\0\1\0\0", cdr("ball")[:10], b"\0\1\0\0" + b"\xff" * 20])
def test_bytes_that_are_no_vocabulary_change_nothing(data):
    message = Vocabulary(labels=["ball"])
    restore_nul(message, data)
    assert message.labels == ["ball"]
