"""Warnings are let through now and then, and the others are counted."""

from synseg_ros.node.rate_limit import RateLimit


def test_a_rate_limit_admits_one_event_a_period_and_counts_the_others():
    now = [100.0]
    limit = RateLimit(period=5.0, clock=lambda: now[0])
    assert [limit.admit(), limit.admit(), limit.admit()] == [0, None, None]
    now[0] += 5.0
    assert [limit.admit(), limit.admit()] == [2, None]
    now[0] += 5.0
    assert limit.admit() == 1
