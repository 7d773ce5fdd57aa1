"""The same object in two looks at one image has one id, and no other object has it."""

from synseg_model.instances import matching_ids
from tests.synseg_model.instances.drawn import box_instance

CUP = box_instance(10, 10, 20, 20)


def test_an_object_found_with_another_threshold_is_the_same():
    assert matching_ids([box_instance(5, 5, 40, 40)], [CUP], [7]) == (7,)
    assert matching_ids([box_instance(14, 14, 8, 8)], [CUP], [7]) == (7,)


def test_only_equal_labels_in_any_case_are_the_same():
    assert matching_ids([box_instance(10, 10, 20, 20, "CUP", 9)], [CUP], [7]) == (7,)
    assert matching_ids([box_instance(10, 10, 20, 20, "ball")], [CUP], [7]) == (0,)


def test_half_of_the_smaller_mask_must_be_shared():
    assert matching_ids([box_instance(20, 10, 20, 20)], [CUP], [7]) == (0,)
    assert matching_ids([box_instance(19, 10, 20, 20)], [CUP], [7]) == (7,)
    assert matching_ids([box_instance(30, 10, 20, 20)], [CUP], [7]) == (0,)  # beside it


def test_an_object_is_given_once_to_what_it_shares_most_pixels_with():
    parts = [box_instance(10, 10, 20, 8), box_instance(10, 18, 20, 12)]
    assert matching_ids(parts, [CUP], [7]) == (0, 7)
    both = box_instance(0, 0, 100, 100)
    assert matching_ids([both], [CUP, box_instance(50, 50, 30, 30)], [7, 8]) == (8,)


def test_nothing_known_or_nothing_found():
    assert matching_ids([], [CUP], [7]) == ()
    assert matching_ids([CUP], [], []) == (0,)
