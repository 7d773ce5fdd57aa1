"""Every encoding gives the right image, and every impossible message a reason."""

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from synseg_ros.interfaces.image_encodings import (
    FORMATS,
    FrameError,
    check_image_message,
    compressed_to_rgb,
    image_fields,
    image_to_array,
    image_to_rgb,
)

HEIGHT, WIDTH = 12, 18
RNG = np.random.default_rng(3)
RGB8 = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
RGB16 = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
GRAY16 = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
ALPHA8 = RNG.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
ALPHA16 = RNG.integers(0, 65536, (HEIGHT, WIDTH, 1), np.uint16)
YUV = RNG.integers((16, 60, 60), (236, 200, 200), (HEIGHT, WIDTH, 3))
YUV[:, 1::2, 1:] = YUV[:, 0::2, 1:]  # two pixels of a row share their colour
YUV420 = YUV.copy()
YUV420[1::2, :, 1:] = YUV420[0::2, :, 1:]
BAYER = {"rggb": ("rg", "gb"), "bggr": ("bg", "gr"), "gbrg": ("gb", "rg"), "grbg": ("gr", "bg")}
FLAT = {"r": 200, "g": 90, "b": 20}


def eight_bits(samples):
    """Scale 16-bit samples to 8 bits in exact integer arithmetic: round(v / 257)."""
    return ((samples.astype(np.int64) + 128) // 257).astype(np.uint8)


def bt601(yuv):
    """Convert video-range YUV to RGB by the formula of ITU-R BT.601."""
    y, u, v = np.moveaxis(yuv.astype(float), -1, 0)
    y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 112, (v - 128) * 255 / 112
    red, blue = y + 0.701 * v, y + 0.886 * u
    green = y - 0.886 * 0.114 / 0.587 * u - 0.701 * 0.299 / 0.587 * v
    return np.clip(np.stack([red, green, blue], -1), 0, 255)


def gray(samples):
    return np.repeat(samples[..., None], 3, axis=-1)


def mosaic(order, scale, dtype):
    """Lay a flat colour out as a sensor sees it through the 2x2 pattern of colour filters."""
    tile = np.array([[FLAT[color] * scale for color in row] for row in BAYER[order]], dtype)
    return np.tile(tile, (HEIGHT // 2, WIDTH // 2))


def semi_planar(first, second):
    """Stack a luma plane on one of alternating chroma samples at half height and half width."""
    chroma = np.stack([YUV420[::2, ::2, first], YUV420[::2, ::2, second]], -1).reshape(HEIGHT // 2, WIDTH)
    return np.concatenate([YUV420[:, :, 0], chroma]).astype(np.uint8)


def packed_422(luma_at):
    samples = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    samples[..., luma_at] = YUV[..., 0]
    samples[:, 0::2, 1 - luma_at], samples[:, 1::2, 1 - luma_at] = YUV[:, 0::2, 1], YUV[:, 0::2, 2]
    return samples


CASES = {
    "rgb8": (RGB8, RGB8),
    "bgr8": (RGB8[..., ::-1], RGB8),
    "8UC3": (RGB8[..., ::-1], RGB8),
    "rgba8": (np.concatenate([RGB8, ALPHA8], -1), RGB8),
    "bgra8": (np.concatenate([RGB8[..., ::-1], ALPHA8], -1), RGB8),
    "8UC4": (np.concatenate([RGB8[..., ::-1], ALPHA8], -1), RGB8),
    "mono8": (RGB8[..., 0], gray(RGB8[..., 0])),
    "8UC1": (RGB8[..., 0], gray(RGB8[..., 0])),
    "mono16": (GRAY16, gray(eight_bits(GRAY16))),
    "16UC1": (GRAY16, gray(eight_bits(GRAY16))),
    "rgb16": (RGB16, eight_bits(RGB16)),
    "bgr16": (RGB16[..., ::-1], eight_bits(RGB16)),
    "rgba16": (np.concatenate([RGB16, ALPHA16], -1), eight_bits(RGB16)),
    "bgra16": (np.concatenate([RGB16[..., ::-1], ALPHA16], -1), eight_bits(RGB16)),
    "yuv422": (packed_422(luma_at=1), bt601(YUV)),
    "uyvy": (packed_422(luma_at=1), bt601(YUV)),
    "yuv422_yuy2": (packed_422(luma_at=0), bt601(YUV)),
    "yuyv": (packed_422(luma_at=0), bt601(YUV)),
    "nv12": (semi_planar(1, 2), bt601(YUV420)),
    "nv21": (semi_planar(2, 1), bt601(YUV420)),
}
for _order in BAYER:
    _flat = np.tile(np.array([FLAT[color] for color in "rgb"], np.uint8), (HEIGHT, WIDTH, 1))
    CASES[f"bayer_{_order}8"] = (mosaic(_order, 1, np.uint8), _flat)
    CASES[f"bayer_{_order}16"] = (mosaic(_order, 257, np.uint16), _flat)

WIDE = [name for name, (samples, _) in CASES.items() if samples.dtype == np.uint16]


def message_of(samples, encoding, padding=0, big_endian=False):
    """Write samples as a driver would: row after row, with garbage in the padding."""
    rows = samples.astype(samples.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(samples), -1)
    garbage = RNG.integers(0, 256, (len(rows), padding), np.uint8)
    data = array.array("B", np.concatenate([rows, garbage], 1).tobytes())
    step = rows.shape[1] + padding
    return SimpleNamespace(
        height=HEIGHT, width=WIDTH, encoding=encoding, is_bigendian=int(big_endian), step=step, data=data
    )


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


def compressed(data, form="jpeg"):
    return SimpleNamespace(format=form, data=np.frombuffer(data, np.uint8))


def png(samples):
    return cv2.imencode(".png", samples)[1].tobytes()


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (RGB8[..., ::-1], RGB8),
        (np.concatenate([RGB8[..., ::-1], ALPHA8], -1), RGB8),
        (RGB8[..., 0], gray(RGB8[..., 0])),
        (GRAY16, gray((GRAY16 >> 8).astype(np.uint8))),
    ],
)
def test_a_compressed_image_is_decoded(samples, expected):
    np.testing.assert_array_equal(compressed_to_rgb(compressed(png(samples), "png")), expected)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (compressed(b""), "format 'jpeg', 0 bytes: there are no bytes"),
        (compressed(b"no image"), "format 'jpeg', 8 bytes: no image"),
        (compressed(png(RGB8)[:60]), "format 'jpeg', 60 bytes: no image, or a damaged one"),
        (compressed(bytes(12) + png(GRAY16), "16UC1; compressedDepth png"), "is depth, not an image; accepted: "),
    ],
)
def test_what_is_no_compressed_image_is_refused_with_the_reason(message, reason):
    with pytest.raises(FrameError, match=reason):
        compressed_to_rgb(message)


BAYER = [name for name in FORMATS if name.startswith("bayer_")]


@pytest.mark.parametrize("ending", ["", "; png compressed ", "; png compressed", "; png compressed bayer"])
@pytest.mark.parametrize("encoding", BAYER)
def test_a_mosaic_that_was_compressed_as_it_is_shows_what_the_raw_one_shows(encoding, ending):
    samples = CASES[encoding][0]
    form = encoding + (f"; png compressed {encoding}" if ending.endswith("bayer") else ending)
    image = compressed_to_rgb(compressed(png(samples), form))
    np.testing.assert_array_equal(image, image_to_rgb(message_of(samples, encoding)))
    assert (image[..., 0] != image[..., 2]).any()


def test_an_image_that_was_made_of_a_mosaic_before_is_left_as_it_is():
    mono = RGB8[..., 0]
    shown = compressed_to_rgb(compressed(png(mono), "bayer_rggb8; jpeg compressed mono8"))
    np.testing.assert_array_equal(shown, gray(mono))
    shown = compressed_to_rgb(compressed(png(RGB8[..., ::-1]), "bayer_rggb8; png compressed bgr8"))
    np.testing.assert_array_equal(shown, RGB8)
    shown = compressed_to_rgb(compressed(png(RGB8[..., ::-1]), "bayer_rggb8; png compressed "))
    np.testing.assert_array_equal(shown, RGB8)


@pytest.mark.parametrize(
    ("samples", "form", "reason"),
    [
        (RGB8[..., 0], "bayer_what8; png compressed ", "'bayer_what8' is not a Bayer pattern; accepted: bayer_rggb8"),
        (RGB8[:2, :2, 0], "bayer_rggb8; png compressed ", "size 2x2 is too small; each side must be at least 3"),
    ],
)
def test_a_mosaic_that_cannot_be_read_is_refused_with_the_reason(samples, form, reason):
    with pytest.raises(FrameError, match=reason):
        compressed_to_rgb(compressed(png(samples), form))
