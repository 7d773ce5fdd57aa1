"""What is made in the background, when, and what comes of it where it cannot be made."""

import threading

import pytest

from synseg_model.engines.recordings import Recordings

PATIENCE = 60.0  # seconds; only ever used up by a failure


def one(key):
    yield f"made {key}"


def test_what_comes_a_second_time_is_made_in_the_background():
    go_on, made = threading.Event(), []

    def make(key):
        assert go_on.wait(PATIENCE)
        made.append(key)
        yield f"made {key}"

    recordings = Recordings(make)
    assert recordings.get("a") is None and recordings.get("b") is None
    assert recordings.wait(0) and recordings.progress == ""
    assert recordings.get("a") is None
    assert not recordings.wait(0)
    assert recordings.get("a") is None, "no call waits"
    go_on.set()
    assert recordings.wait(PATIENCE)
    assert recordings.get("a") == "made a" and made == ["a"]


def test_each_better_one_is_taken_when_it_is_there():
    first, second = threading.Event(), threading.Event()

    def make(key):
        yield "good"
        first.set()
        assert second.wait(PATIENCE)
        yield "better"

    recordings = Recordings(make)
    for _ in range(2):
        recordings.get("a")
    assert first.wait(PATIENCE)
    assert recordings.get("a") == "good" and "recording a" in recordings.progress
    second.set()
    assert recordings.wait(PATIENCE)
    assert recordings.get("a") == "better" and recordings.progress == ""


def test_what_fails_is_told_once_and_what_was_made_before_stays(caplog):
    def make(key):
        if key == "a":
            yield "good"
        raise RuntimeError("no\ncompiler")

    recordings = Recordings(make)
    for key in ("a", "a", "b", "b"):
        recordings.get(key)
    assert recordings.wait(PATIENCE)
    assert recordings.get("a") == "good"
    assert recordings.get("b") is None and recordings.get("b") is None
    assert recordings.wait(PATIENCE)
    assert recordings.failure == "no compiler" and caplog.text.count("going on without") == 2


def test_those_used_last_are_kept():
    recordings = Recordings(one, most=2)
    for key in ("a", "a", "b", "b"):
        recordings.get(key)
        assert recordings.wait(PATIENCE)
    assert recordings.get("a") == "made a"
    for _ in range(2):
        recordings.get("c")
    assert recordings.wait(PATIENCE)
    assert recordings.get("a") == "made a" and recordings.get("c") == "made c"
    assert recordings.get("b") is None


def test_keys_that_come_once_take_no_memory_for_ever():
    recordings = Recordings(one)
    for key in range(1000):
        assert recordings.get(key) is None
    assert len(recordings._seen) < 100 and not recordings._made


@pytest.mark.parametrize("stopped", [False, True])
def test_stopping_makes_nothing_more(stopped):
    begun, go_on = threading.Event(), threading.Event()

    def make(key):
        begun.set()
        assert go_on.wait(PATIENCE)
        yield key

    recordings = Recordings(make)
    if stopped:
        assert recordings.stop()
    for key in ("a", "a", "b", "b"):
        assert recordings.get(key) is None
    if not stopped:
        assert begun.wait(PATIENCE)
        assert not recordings.stop(timeout=0.01)
    go_on.set()
    assert recordings.wait(PATIENCE)
    assert recordings.get("a") is None and recordings.get("b") is None
