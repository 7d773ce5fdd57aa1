import pytest

from synseg_model.engines.label_sizes import SIZES, STEP, padded, passes


def test_every_number_of_labels_has_the_smallest_size_that_takes_it():
    sizes = [padded(labels) for labels in range(1, 1300)]
    assert all(labels <= size < labels + max(STEP, labels / 4, 5) for labels, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes) and [padded(size) for size in sizes] == sizes
    assert set(SIZES) <= set(sizes) and len(set(sizes)) < 90
    assert (padded(171), padded(1203)) == (176, 1216)


@pytest.mark.parametrize("pad", [False, True])
def test_passes_hold_all_labels_within_the_limit(pad):
    for labels in (1, 7, 20, 171, 1203):
        for most in (1, 4, 64, 5000):
            count, size = passes(labels, most, pad)
            assert count * size >= labels > (count - 1) * size and size <= most
            assert count == -(-labels // most)
            assert pad or size == -(-labels // count)
