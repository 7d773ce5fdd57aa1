"""Every encoding gives the right image, and every impossible message a reason."""

import array
from types import SimpleNamespace

import numpy as np
import pytest

from synseg_ros.interfaces.image_encodings import (
    FORMATS,
    FrameError,
    check_image_message,
    image_fields,
    image_to_array,
    image_to_rgb,
)
from tests.synseg_ros.interfaces.images import CASES, HEIGHT, RGB8, RGB16, WIDE, WIDTH, eight_bits, message_of


def assert_shows(message, expected):
    image = image_to_rgb(message)
    assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    tolerance = 0 if expected.dtype == np.uint8 else 2  # YUV is converted in fixed point
    np.testing.assert_allclose(image.astype(float), expected, atol=tolerance)


def test_every_accepted_encoding_is_tested():
    assert set(CASES) == set(FORMATS)


@pytest.mark.parametrize("encoding", CASES)
def test_an_encoding_gives_its_image(encoding):
    samples, expected = CASES[encoding]
    assert_shows(message_of(samples, encoding), expected)


@pytest.mark.parametrize("encoding", CASES)
def test_padding_of_rows_is_skipped(encoding):
    samples, expected = CASES[encoding]
    assert_shows(message_of(samples, encoding, padding=6), expected)


@pytest.mark.parametrize("encoding", WIDE)
def test_big_endian_samples_are_swapped(encoding):
    samples, expected = CASES[encoding]
    assert_shows(message_of(samples, encoding, big_endian=True), expected)


def test_every_16_bit_value_is_scaled_to_the_nearest_8_bit_value():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = image_to_rgb(SimpleNamespace(**image_fields(values, "mono16")))
    np.testing.assert_array_equal(image[..., 0], eight_bits(values))


@pytest.mark.parametrize("padding", [0, 5])
def test_rgb8_is_not_copied(padding):
    message = message_of(RGB8, "rgb8", padding)
    assert np.shares_memory(image_to_rgb(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "mono16", "bgra16"])
def test_an_array_survives_the_way_through_a_message(encoding):
    samples = CASES[encoding][0]
    message = SimpleNamespace(**image_fields(samples[:, ::-1], encoding))
    np.testing.assert_array_equal(image_to_array(message), samples[:, ::-1])


@pytest.mark.parametrize(
    ("samples", "encoding"),
    [(RGB8, "mono8"), (RGB8, "mono16"), (RGB16, "rgb8"), (RGB8[..., 0], "nv12"), (RGB8, "jpeg")],
)
def test_an_array_of_another_encoding_is_refused(samples, encoding):
    with pytest.raises(ValueError, match=f"not an image of encoding '{encoding}'"):
        image_fields(samples, encoding)


def altered(encoding="rgb8", **fields):
    message = message_of(CASES.get(encoding, (RGB8,))[0], encoding)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (altered("rgb9"), r"encoding 'rgb9' .*accepted: .*rgb8"),
        (altered(""), r"encoding '' .*accepted: "),
        (altered("32FC1"), r"encoding '32FC1' .*floating-point.*accepted: "),
        (altered(width=0), r"size 0x12 is empty.*at least 1"),
        (altered(height=0), r"size 18x0 is empty.*at least 1"),
        (altered(step=53), r"step 53 is shorter .*at least 54"),
        (altered(step=0), r"step 0 is shorter .*at least 54"),
        (altered("mono16", step=37), r"step 37 splits .*multiples of 2"),
        (altered(data=array.array("B", bytes(647))), r"data has 647 bytes.*takes 648"),
        (altered(data=array.array("B", bytes(649))), r"data has 649 bytes.*takes 648"),
        (altered(data=array.array("B")), r"data has 0 bytes.*takes 648"),
        (altered(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1), r"step 4294967295 is shorter"),
        (altered("mono8", width=2**32 - 1, height=2**32 - 1, step=2**32 - 1), r"data has 216 bytes"),
        (altered("yuv422", width=17), r"size 17x12 does not fit yuv422; width must be even"),
        (altered("nv12", height=11), r"size 18x11 does not fit nv12; width and height must be even"),
        (altered("bayer_rggb8", height=2), r"size 18x2 is too small for bayer_rggb8.*at least 3"),
    ],
)
def test_an_unreadable_message_is_refused_with_value_and_remedy(message, reason):
    with pytest.raises(FrameError, match=reason):
        check_image_message(message)


def test_random_messages_give_a_image_or_a_reason_and_nothing_else():
    rng = np.random.default_rng(5)
    names = [*FORMATS, "32FC1", "jpeg"]
    outcomes = {"image": 0, "reason": 0}
    for _ in range(4000):
        width, height = (int(side) for side in rng.integers(0, 9, 2))
        step = int(width * rng.choice([1, 2, 3, 4, 6, 8]) + rng.choice([0, 0, 1, 2]))
        size = int(step * height * rng.choice([1, 1, 1.5]) + rng.choice([0, 0, 0, 1, -1]))
        message = SimpleNamespace(encoding=str(rng.choice(names)), width=width, height=height, step=step)
        message.is_bigendian = int(rng.integers(2))
        message.data = array.array("B", rng.bytes(max(0, size)))
        try:
            image = image_to_rgb(message)
        except FrameError:
            outcomes["reason"] += 1
        else:
            assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
            outcomes["image"] += 1
    assert min(outcomes.values()) > 200
