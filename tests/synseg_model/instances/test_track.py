"""Ids that stay: over motion, occlusion and new vocabularies; and when they must not."""

import math

import numpy as np
import pytest

from synseg_model.instances import Tracker, TrackSettings
from tests.synseg_model.instances.drawn import box_instance

FPS = 30


def balls(*places, label="ball", side=40):
    return [box_instance(round(x), round(y), side, side, label) for x, y in places]


def test_ids_count_up_from_1_and_follow_the_order_of_instances():
    tracker = Tracker()
    assert tracker.update(balls((10, 10), (200, 10)), 0.0) == (1, 2)
    assert tracker.update(balls((202, 12), (11, 10)), 0.1) == (2, 1)
    assert tracker.update(balls((202, 12), (400, 10), (11, 10)), 0.2) == (2, 3, 1)


def test_ids_stay_where_objects_cross():
    tracker = Tracker()
    for frame in range(60):
        there, back = 20 + 9 * frame, 560 - 9 * frame
        assert tracker.update(balls((there, 100), (back, 130)), frame / FPS) == (1, 2)


def test_a_small_fast_object_whose_boxes_never_overlap_keeps_its_id():
    tracker = Tracker(TrackSettings(reach=2.0))
    for frame in range(15):
        assert tracker.update([box_instance(10 + 38 * frame, 100, 20, 20)], frame / FPS) == (1,)


@pytest.mark.parametrize(("hidden", "kept"), [(0.3, True), (1.9, True), (2.2, False)])
def test_an_occluded_object_keeps_its_id_for_a_time_not_for_frames(hidden, kept):
    for fps in (5, 60):
        tracker = Tracker(TrackSettings(keep=2.0))
        first = tracker.update(balls((100, 100), (300, 300)), 10.0)
        for frame in range(1, int(hidden * fps)):
            tracker.update(balls((300, 300)), 10.0 + frame / fps)
        again = tracker.update(balls((105, 100), (300, 300)), 10.0 + hidden)
        assert again == (first if kept else (3, 2))


def test_an_object_that_passes_behind_another_is_expected_on_the_other_side():
    tracker = Tracker()
    for frame in range(40):
        x = 100 + 6 * frame
        seen = not 15 <= frame < 27
        ids = tracker.update(balls(*([(x, 100)] if seen else []), (205, 300)), frame / FPS)
        assert ids == ((1, 2) if seen else (2,))


def test_labels_never_share_an_id():
    tracker = Tracker()
    assert tracker.update(balls((10, 10), label="cup"), 0.0) == (1,)
    assert tracker.update(balls((10, 10), label="ball"), 0.1) == (2,)
    assert tracker.update(balls((10, 10), label="cup"), 0.2) == (1,)


def test_a_new_vocabulary_keeps_the_ids_of_labels_that_stay():
    tracker = Tracker()
    tracker.update([box_instance(10, 10, 40, 40, "cup", 1), box_instance(90, 10, 40, 40, "ball", 2)], 0.0)
    again = [box_instance(90, 10, 40, 40, "Ball", 1), box_instance(10, 10, 40, 40, "mug", 2)]
    assert tracker.update(again, 0.1) == (2, 3)


def test_a_jump_is_a_new_object():
    tracker = Tracker()
    tracker.update(balls((10, 10)), 0.0)
    assert tracker.update(balls((500, 400)), 1 / FPS) == (2,)


def test_a_large_object_is_not_the_small_one_in_front_of_it():
    tracker = Tracker()
    tracker.update([box_instance(100, 100, 20, 20)], 0.0)
    assert tracker.update([box_instance(50, 50, 120, 120)], 1 / FPS) == (2,)


def test_an_impossible_pair_does_not_push_a_good_one_aside():
    tracker = Tracker()
    tracker.update(balls((100, 100), (160, 100)), 0.0)
    assert tracker.update(balls((150, 100)), 1 / FPS) == (2,)


def test_time_that_jumps_back_resets_and_ids_are_not_used_again():
    tracker = Tracker()
    tracker.update(balls((10, 10), (200, 10)), 50.0)
    assert tracker.update(balls((10, 10)), 49.9) == (3,)
    assert len(tracker) == 1


def test_the_same_stamp_twice_keeps_ids_and_finite_velocities():
    tracker = Tracker()
    for stamp in (1.0, 1.0, 1.0, 1.1, 1.2):
        assert tracker.update(balls((10 + 50 * (stamp - 1), 10)), stamp) == (1,)


def test_frames_without_instances_are_frames():
    tracker = Tracker()
    assert tracker.update([], 0.0) == ()
    assert tracker.update(balls((10, 10)), 0.1) == (1,)
    assert tracker.update([], 0.2) == ()
    assert tracker.update(balls((10, 10)), 0.3) == (1,)


def test_memory_is_bounded_where_everything_flickers_and_labels_change():
    tracker = Tracker(TrackSettings(keep=1e6, most=50))
    rng = np.random.default_rng(0)
    given = []
    for frame in range(200):
        places = rng.integers(0, 4000, (20, 2)).tolist()
        given += tracker.update(balls(*places, label=f"thing {frame}", side=8), frame / FPS)
    assert len(tracker) == 50
    assert len(tracker._groups) <= 101
    assert len(set(given)) == len(given) == 4000


def test_objects_seen_last_are_kept_when_there_are_too_many():
    tracker = Tracker(TrackSettings(most=2))
    tracker.update(balls((0, 0), (100, 0)), 0.0)
    tracker.update(balls((100, 0)), 0.1)
    assert tracker.update(balls((0, 300), (100, 0)), 0.2) == (3, 2)
    assert tracker.update(balls((0, 300), (100, 0)), 0.3) == (3, 2)


@pytest.mark.parametrize("stamp", [math.nan, math.inf])
def test_a_stamp_that_is_no_time_is_refused(stamp):
    with pytest.raises(ValueError, match=f"stamp {stamp}"):
        Tracker().update([], stamp)


@pytest.mark.parametrize(("name", "value"), [("keep", -1.0), ("reach", 0.0), ("change", 0.5), ("most", 0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} {value}"):
        TrackSettings(**{name: value})
