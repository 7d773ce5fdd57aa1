"""Ids stay while a label is wanted, and nobody else gets them at once."""


from synseg_ros.node.label_ids import REST_SECONDS, SMALL, LabelIds


def test_labels_that_stay_keep_their_ids_in_any_case_and_order(clock):
    ids = LabelIds(clock)
    assert ids.assign(["ball", "cube", "grass"], rest=False) == (1, 2, 3)
    assert ids.assign(["sky", "Grass", "ball"], rest=False) == (2, 3, 1)


def test_an_id_rests_before_another_label_gets_it(clock):
    ids = LabelIds(clock)
    ids.assign(["ball", "cube"], rest=True)
    assert ids.assign(["cube", "sky"], rest=True) == (2, 3)
    clock.now += REST_SECONDS / 2
    assert ids.assign(["cube", "sky", "dog"], rest=True) == (2, 3, 4)
    clock.now += REST_SECONDS
    assert ids.assign(["cube", "sky", "dog", "cat"], rest=True) == (2, 3, 4, 1)


def test_a_label_that_comes_back_soon_gets_its_id_back(clock):
    ids = LabelIds(clock)
    ids.assign(["ball", "cube"], rest=True)
    ids.assign(["cube"], rest=True)
    assert ids.assign(["cube", "sky", "Ball"], rest=True) == (2, 3, 1)


def test_small_ids_are_given_before_they_have_rested_rather_than_large_ones(clock):
    ids = LabelIds(clock)
    for turn in range(6):
        labels = [f"{turn} {number}" for number in range(100)]
        given = ids.assign(labels, rest=True)
        assert len(set(given)) == 100 and max(given) <= SMALL
        assert ids.assign(labels, rest=True) == given
        clock.now += 0.1


def test_many_labels_have_many_ids(clock):
    ids = LabelIds(clock)
    assert ids.assign([str(number) for number in range(300)], rest=True) == tuple(range(1, 301))
    assert max(ids.assign([f"other {number}" for number in range(300)], rest=True)) == 600
