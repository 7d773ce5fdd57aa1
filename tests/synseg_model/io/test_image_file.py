"""Image files: every kind that is read, and why another is not."""

import cv2
import numpy as np
import pytest
from PIL import Image

from synseg_model.io.image_file import MediaError, read_image
from synseg_model.io.sources import open_source

RED = (250, 10, 20)


def solid(color=RED, size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.new("RGB", size, color)


@pytest.mark.parametrize("extension", ["png", "bmp", "jpg", "webp", "tiff", "ppm", "JPG"])
def test_common_formats_are_read_as_rgb(tmp_path, extension):
    path = tmp_path / f"red.{extension}"
    solid().save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((8, 12, 3), np.uint8)
    np.testing.assert_allclose(image[4, 6], RED, atol=8)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Image.new("L", (4, 3), 77), (77, 77, 77)),
        (Image.new("RGBA", (4, 3), (*RED, 10)), RED),
        (Image.new("LA", (4, 3), (77, 10)), (77, 77, 77)),
        (Image.new("1", (4, 3), 1), (255, 255, 255)),
        (solid().convert("P"), RED),
        (Image.fromarray(np.full((3, 4), 0x8001, np.uint16)), (128, 128, 128)),
    ],
    ids=["gray", "alpha", "gray-alpha", "bilevel", "palette", "16-bit"],
)
def test_every_kind_of_pixel_becomes_rgb_of_8_bits(tmp_path, source, expected):
    path = tmp_path / "image.png"
    source.save(path)
    image = read_image(path)
    assert (image.shape[2], image.dtype) == (3, np.uint8)
    np.testing.assert_allclose(image[1, 1], expected, atol=2 if source.mode != "P" else 30)


def test_sixteen_bit_colour_becomes_rgb_of_8_bits(tmp_path):
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.full((3, 4, 3), (20 << 8, 10 << 8, 250 << 8), np.uint16))
    np.testing.assert_array_equal(read_image(path)[0, 0], (250, 10, 20))


def test_cmyk_photographs_are_read(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path)
    expected = np.asarray(Image.open(path).convert("RGB"))[8, 8]
    np.testing.assert_allclose(read_image(path)[8, 8], expected, atol=8)


def test_photographs_stand_upright_as_their_exif_says(tmp_path):
    image = solid(size=(12, 8))
    image.paste((0, 0, 255), (0, 0, 6, 8))  # the left half is blue
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    path = tmp_path / "turned.jpg"
    image.save(path, exif=exif, quality=95)
    image = read_image(path)
    assert image.shape == (12, 8, 3)
    assert image[2, 4, 2] > 200  # blue is at the top now
    assert image[10, 4, 0] > 200


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff"])
def test_of_several_frames_the_first_is_used_and_one_line_says_so(tmp_path, name, caplog):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (0, 120, 240)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / name).max() < 10
    assert caplog.text.count(f"{name} has 3 frames or pages: only the first is used") == 1
    frames[0].save(tmp_path / name)
    caplog.clear()
    read_image(tmp_path / name)
    assert not caplog.text


@pytest.mark.parametrize(("ending", "kind"), [("tiff", np.float32), ("tiff", np.int32), ("pfm", np.float32)])
def test_numbers_that_are_no_brightness_are_refused_by_their_kind(tmp_path, ending, kind):
    path = tmp_path / f"a.{ending}"
    assert cv2.imwrite(str(path), np.ones((8, 8, 3), kind))
    with pytest.raises(MediaError, match=f"its samples are {np.dtype(kind)}.*convert them to 8 or 16 bits"):
        list(open_source(path))
