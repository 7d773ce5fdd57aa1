"""What clients want together: stable, bounded, and each client's own affair."""

import math

import numpy as np
import pytest

from synseg_model.vocabulary import CheckedLabels
from synseg_ros.node.vocabulary_clients import TOPIC, ClientError, ClientLimits, VocabularyClients


@pytest.fixture
def clients(clock):
    return VocabularyClients(ClientLimits(labels=3, total=5, clients=2), clock)


def put(clients, client, *labels, thresholds=None, lease=math.inf):
    given = np.array(thresholds or [0.5] * len(labels), np.float32)
    return clients.put(client, CheckedLabels(labels, given), thresholds is not None, labels, lease)


def union(clients, threshold_of=lambda label, own: own):
    together = clients.union(threshold_of)
    return dict(zip(together.checked.labels, together.wanted_by, strict=True))


def test_the_topics_labels_come_first_then_clients_by_arrival(clients):
    put(clients, "zoe", "cup")
    put(clients, "adam", "dog")
    put(clients, TOPIC, "person")
    assert list(union(clients)) == ["person", "cup", "dog"]


def test_a_label_that_several_want_is_there_once_as_the_first_spells_it(clients):
    put(clients, TOPIC, "Mug")
    put(clients, "tidy", "mug", "cup")
    assert union(clients) == {"Mug": (TOPIC, "tidy"), "cup": ("tidy",)}


def test_the_lowest_threshold_holds_and_those_of_the_settings_come_before_the_models(clients):
    put(clients, "a", "mug", "cup", thresholds=[0.75, 0.25])
    put(clients, "b", "mug", "cup")
    checked = clients.union(lambda label, own: 0.625).checked
    assert dict(zip(checked.labels, checked.thresholds.tolist(), strict=True)) == {"mug": 0.625, "cup": 0.25}


def test_what_a_client_asks_for_replaces_what_it_had_and_nobody_elses(clients):
    put(clients, "a", "mug", "cup")
    put(clients, "b", "cup")
    put(clients, "a", "dog")
    assert union(clients) == {"dog": ("a",), "cup": ("b",)}


def test_a_withdrawn_client_leaves_what_others_want(clients):
    put(clients, "a", "mug", "cup")
    put(clients, "b", "cup")
    assert clients.withdraw("a") and not clients.withdraw("a")
    assert union(clients) == {"cup": ("b",)}
    assert clients.names == ("b",)


def test_a_lease_ends_by_the_clock_unless_it_is_renewed(clients, clock):
    put(clients, "a", "mug", lease=10.0)
    put(clients, "b", "cup", lease=10.0)
    put(clients, TOPIC, "person")
    clock.now += 9.0
    clients.renew("b")
    assert clients.expire() == ()
    clock.now += 1.0
    assert clients.expire() == ("a",)
    assert list(union(clients)) == ["person", "cup"]
    clock.now += 9.0
    assert clients.expire() == ("b",)
    clock.now += 1e9
    assert clients.expire() == () and clients.names == (TOPIC,)


def test_a_put_is_taken_back_unless_the_client_asked_again(clients):
    put(clients, "a", "mug")
    wish, before = put(clients, "a", "cup")
    clients.restore("a", wish, before)
    assert list(union(clients)) == ["mug"]
    wish, before = put(clients, "a", "cup")
    put(clients, "a", "dog")
    clients.restore("a", wish, before)
    assert list(union(clients)) == ["dog"]
    wish, before = put(clients, "new", "bowl")
    clients.restore("new", wish, before)
    assert clients.names == ("a",)


def test_more_labels_than_there_is_room_for_are_refused_and_name_who_has_them(clients):
    put(clients, TOPIC, "1", "2", "3")
    put(clients, "a", "4")
    with pytest.raises(ClientError, match=r"2 labels more than the 4 of other clients \(a, topic\).*5 in all"):
        put(clients, "b", "1", "5", "6")
    put(clients, "b", "1", "4", "5")
    with pytest.raises(ClientError, match="5 in all"):
        put(clients, TOPIC, *"1236")
    assert list(union(clients)) == ["1", "2", "3", "4", "5"]


def test_more_clients_than_allowed_are_refused_but_never_the_topic(clients):
    put(clients, "a", "1")
    put(clients, "b", "2")
    with pytest.raises(ClientError, match=r"2 clients have labels.*a, b"):
        put(clients, "c", "1")
    put(clients, "a", "3")
    put(clients, TOPIC, "4")
    assert set(clients.names) == {"a", "b", TOPIC}


@pytest.mark.parametrize(
    ("client", "count", "lease", "reason"),
    [
        ("", 1, 1.0, "client ''"),
        ("two words", 1, 1.0, "two words"),
        ("ro\nbot", 1, 1.0, "client"),
        ("x" * 65, 1, 1.0, "64"),
        (TOPIC, 1, 1.0, "synseg/vocab"),
        ("a", 4, 1.0, "4 labels.*3 at most"),
        ("a", 1, math.nan, "lease of nan"),
        ("a", 1, math.inf, "lease of inf"),
        ("a", 1, -1.0, "lease of -1"),
        ("a", 1, 0.5, "lease of 0.5"),
        ("a", 1, 3601.0, "3600"),
    ],
)
def test_bad_requests_are_refused_with_the_value(clients, client, count, lease, reason):
    with pytest.raises(ClientError, match=reason):
        clients.check(client, count, lease)


def test_a_lease_of_zero_is_the_default(clients):
    assert clients.check("robot/arm-1", 3, 0.0) == 30.0
    assert clients.check("robot/arm-1", 0, 3600.0) == 3600.0


def test_by_default_no_client_of_a_service_can_starve_another():
    limits = ClientLimits()
    assert limits.labels * limits.clients <= limits.total
