"""Each client has its own rate, and what is remembered of clients is bounded."""

from synseg_ros.node.request_limits import REMEMBERED, RequestLimits


def test_a_client_has_a_burst_and_then_its_rate(clock):
    limits = RequestLimits(clock)
    assert [limits.admit("a", 10.0) for _ in range(1000)].count(True) == 20
    clock.now += 0.5
    assert [limits.admit("a", 10.0) for _ in range(1000)].count(True) == 5
    clock.now += 1e6
    assert [limits.admit("a", 10.0) for _ in range(1000)].count(True) == 20


def test_one_client_takes_nothing_from_another(clock):
    limits = RequestLimits(clock)
    while limits.admit("greedy", 10.0):
        pass
    assert limits.admit("modest", 10.0)


def test_a_slow_rate_lets_one_request_through(clock):
    limits = RequestLimits(clock)
    assert limits.admit("a", 0.1) and not limits.admit("a", 0.1)
    clock.now += 10.0
    assert limits.admit("a", 0.1)


def test_clients_that_asked_longest_ago_are_forgotten(clock):
    limits = RequestLimits(clock)
    for number in range(10 * REMEMBERED):
        limits.admit(str(number), 10.0)
    assert len(limits._left) == REMEMBERED
