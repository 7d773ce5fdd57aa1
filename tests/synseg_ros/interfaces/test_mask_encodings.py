"""Every encoding of a mask gives the same pixels back, and a damaged mask says what is wrong."""

import io
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from synseg_ros.interfaces.image_encodings import FrameError, image_fields
from synseg_ros.interfaces.mask_encodings import PNG_FORMAT, encode_png, encode_rle, mask_in_frame, read_mask
from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS

EMPTY = np.zeros((0, 0), np.uint8)


def message(pixels, encoding, at=(0, 0)):
    """A ClassMask, as far as its mask is read."""
    (height, width), (x, y) = pixels.shape, at
    return SimpleNamespace(
        label="red ball",
        roi=SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height),
        mask=SimpleNamespace(**image_fields(pixels if encoding in ("mono8", "") else EMPTY, "mono8")),
        mask_encoding=encoding,
        mask_png=SimpleNamespace(format=PNG_FORMAT, data=encode_png(pixels) if encoding == "png" else b""),
        mask_rle=encode_rle(pixels) if encoding == "rle" else [],
    )


def masks():
    rng = np.random.default_rng(3)
    yield np.full((1, 1), 255, np.uint8)
    yield np.full((5, 9), 255, np.uint8)
    for shape in ((1, 13), (13, 1), (7, 8), (37, 53)):
        yield rng.integers(0, 2, shape).astype(np.uint8) * 255
    blob = cv2.circle(np.zeros((120, 160), np.uint8), (70, 60), 50, 255, -1)
    yield cv2.circle(blob, (70, 60), 20, 0, -1)
    yield np.asfortranarray(blob)


@pytest.mark.parametrize("encoding", [*MASK_ENCODINGS, ""])
@pytest.mark.parametrize("pixels", list(masks()), ids=lambda pixels: "x".join(map(str, pixels.shape)))
def test_a_mask_comes_back_as_it_was(pixels, encoding):
    found = read_mask(message(pixels, encoding))
    assert found.dtype == bool
    np.testing.assert_array_equal(found, pixels == 255)


def test_a_message_from_before_there_were_encodings_is_mono8():
    old = message(np.full((2, 3), 255, np.uint8), "mono8")
    del old.mask_encoding, old.mask_png, old.mask_rle
    assert read_mask(old).all()


@pytest.mark.parametrize("encoding", MASK_ENCODINGS)
def test_a_mask_lies_in_its_frame_where_its_box_does(encoding):
    found = mask_in_frame(message(np.array([[255, 0], [255, 255]], np.uint8), encoding, at=(3, 1)), (4, 6))
    assert np.argwhere(found).tolist() == [[1, 3], [2, 3], [2, 4]] and found.shape == (4, 6)


@pytest.mark.parametrize("at", [(5, 1), (3, 3), (2**32 - 1, 0)])
def test_a_box_outside_the_frame_is_refused_with_both_sizes(at):
    with pytest.raises(FrameError, match=f"'red ball' lies at x {at[0]} to {at[0] + 2}.*frame of 6x4 pixels"):
        mask_in_frame(message(np.full((2, 2), 255, np.uint8), "png", at), (4, 6))


def test_the_png_has_one_bit_per_pixel_and_any_reader_gives_0_and_255():
    pixels = cv2.circle(np.zeros((40, 50), np.uint8), (20, 20), 15, 255, -1)
    file = encode_png(pixels)
    assert Image.open(io.BytesIO(file.tobytes())).mode == "1"
    np.testing.assert_array_equal(cv2.imdecode(file, cv2.IMREAD_UNCHANGED), pixels)


def test_the_runs_are_those_of_coco():
    coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    for pixels in masks():
        height, width = pixels.shape
        packed = coco.frPyObjects({"size": [height, width], "counts": encode_rle(pixels).tolist()}, height, width)
        np.testing.assert_array_equal(coco.decode(packed), pixels == 255)


def test_the_runs_go_down_the_columns_and_begin_outside():
    assert encode_rle(np.array([[255, 0, 0], [255, 0, 255]], np.uint8)).tolist() == [0, 2, 3, 1]
    assert encode_rle(np.array([[0, 255, 255], [0, 0, 255]], np.uint8)).tolist() == [2, 1, 1, 2]


def test_a_png_that_is_cut_off_anywhere_is_refused():
    whole = message(next(pixels for pixels in masks() if pixels.shape == (37, 53)), "png")
    data = whole.mask_png.data
    for size in range(len(data)):
        whole.mask_png.data = data[:size]
        with pytest.raises(FrameError, match=rf"'red ball' cannot be read: .*mask_png has {size} bytes"):
            read_mask(whole)


def test_a_flipped_byte_of_a_png_is_noticed():
    whole = message(next(pixels for pixels in masks() if pixels.shape == (37, 53)), "png")
    for position in range(len(whole.mask_png.data)):
        damaged = whole.mask_png.data.copy()
        damaged[position] ^= 0x55
        with pytest.raises(FrameError, match="'red ball' cannot be read"):
            read_mask(SimpleNamespace(**{**vars(whole), "mask_png": SimpleNamespace(data=damaged)}))


def test_another_file_than_a_png_is_named():
    jpeg = message(np.full((8, 8), 255, np.uint8), "png")
    jpeg.mask_png.data = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].reshape(-1)
    with pytest.raises(FrameError, match="it is no PNG file"):
        read_mask(jpeg)


def test_a_png_of_another_size_is_refused_before_it_is_decoded():
    large = message(np.full((2, 3), 255, np.uint8), "png")
    large.mask_png.data = encode_png(np.zeros((3000, 4000), np.uint8))
    with pytest.raises(FrameError, match="it has 4000x3000 pixels; expected 3x2, the size of roi"):
        read_mask(large)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "its 0 runs have 0 pixels; expected 6"),
        ([0, 5], "its 2 runs have 5 pixels; expected 6"),
        ([0, 6, 1], "its 3 runs have 7 pixels; expected 6 for a roi of 3x2"),
        ([2**32 - 1, 7], "have 4294967302 pixels"),  # 6, were they added in 32 bits
    ],
)
def test_runs_that_do_not_fill_the_box_are_refused(runs, said):
    wrong = message(np.full((2, 3), 255, np.uint8), "rle")
    wrong.mask_rle = runs
    with pytest.raises(FrameError, match=said):
        read_mask(wrong)


def test_a_mono8_mask_of_another_size_or_encoding_is_refused():
    wrong = message(np.full((2, 3), 255, np.uint8), "mono8")
    wrong.roi.width = 4
    with pytest.raises(FrameError, match="it has 3x2 pixels; expected 4x2"):
        read_mask(wrong)
    wrong.mask.encoding = "rgb8"
    with pytest.raises(FrameError, match="the encoding 'rgb8'; accepted: mono8"):
        read_mask(wrong)


def test_an_unknown_encoding_is_named_with_those_that_are_known():
    unknown = message(np.full((2, 3), 255, np.uint8), "mono8")
    unknown.mask_encoding = "webp"
    with pytest.raises(FrameError, match="'red ball' cannot be read: mask encoding 'webp' is unknown; accepted: mono8"):
        read_mask(unknown)
