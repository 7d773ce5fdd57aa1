"""Compressed images are decoded, mosaics among them, and what is none is refused with the reason."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from synseg_ros.interfaces.compressed_images import compressed_to_rgb
from synseg_ros.interfaces.image_encodings import FORMATS, FrameError, image_to_rgb
from tests.synseg_ros.interfaces.images import ALPHA8, CASES, GRAY16, RGB8, gray, message_of


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
        (compressed(b"no image"), "format 'jpeg', 8 bytes: it is not an image"),
        (compressed(png(RGB8)[:60]), "format 'jpeg', 60 bytes: it is not an image, or it is damaged"),
        (compressed(bytes(12) + png(GRAY16), "16UC1; compressedDepth png"), "is depth, not an image; accepted: "),
    ],
)
def test_what_is_no_compressed_image_is_refused_with_the_reason(message, reason):
    with pytest.raises(FrameError, match=reason):
        compressed_to_rgb(message)


MOSAICS = [name for name in FORMATS if name.startswith("bayer_")]


@pytest.mark.parametrize("ending", ["", "; png compressed ", "; png compressed", "; png compressed bayer"])
@pytest.mark.parametrize("encoding", MOSAICS)
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
