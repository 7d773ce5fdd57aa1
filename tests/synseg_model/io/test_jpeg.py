"""Damaged JPEGs are told from good ones, at a price that a camera's rate allows."""

import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("simplejpeg", reason="needs simplejpeg, which tells of damage")

from PIL import Image

from synseg_model.cli import main as cli
from synseg_model.io import jpeg
from synseg_model.io.image_file import MediaError, decode_image, read_image
from synseg_model.io.jpeg import decode_jpeg
from synseg_ros.interfaces.compressed_images import compressed_to_rgb
from synseg_ros.interfaces.image_encodings import FrameError
from training.scenes.scenes import make_scene

SCENES = [make_scene(seed, (240, 320)).image for seed in range(5)]


def encoded(image, quality=90, **options):
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    for name, value in options.items():
        flags += [getattr(cv2, f"IMWRITE_JPEG_{name}"), value]
    return cv2.imencode(".jpg", image[..., ::-1], flags)[1].tobytes()


def with_hole(data):
    middle = len(data) // 2
    return data[:middle] + bytes(120) + data[middle + 120 :]


def half_with_an_end(data):
    return data[: len(data) // 2] + b"\xff\xd9"


def half(data):
    return data[: len(data) // 2]


@pytest.mark.parametrize("damage", [with_hole, half_with_an_end, half])
@pytest.mark.parametrize("quality", [50, 80, 95])
@pytest.mark.parametrize("seed", range(len(SCENES)))
def test_a_damaged_jpeg_is_no_image(seed, quality, damage, tmp_path):
    data = damage(encoded(SCENES[seed], quality))
    with pytest.raises(MediaError, match="the JPEG is damaged"):
        decode_image(np.frombuffer(data, np.uint8))
    message = type("Message", (), {"format": "jpeg", "data": np.frombuffer(data, np.uint8)})
    with pytest.raises(FrameError, match=rf"format 'jpeg', {len(data)} bytes: the JPEG is damaged"):
        compressed_to_rgb(message)
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.jpg: the JPEG is damaged"):
        read_image(tmp_path / "a.jpg")


OPTIONS = [{}, {"PROGRESSIVE": 1}, {"OPTIMIZE": 1}, {"RST_INTERVAL": 4}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("image", [*SCENES[:2], np.zeros((480, 640, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)])
def test_a_good_jpeg_has_the_pixels_that_opencv_has(image, options):
    data = np.frombuffer(encoded(image, **options), np.uint8)
    expected = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 8])
def test_what_webcams_leave_before_the_end_is_no_damage(padding):
    data = encoded(SCENES[0])
    padded = np.frombuffer(data[:-2] + padding + data[-2:], np.uint8)
    np.testing.assert_array_equal(decode_image(padded), decode_image(np.frombuffer(data, np.uint8)))


def test_what_comes_after_the_end_is_no_damage():
    data = np.frombuffer(encoded(SCENES[0]) + bytes(4096), np.uint8)
    assert decode_image(data).shape == SCENES[0].shape


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colours_are_read(mode, tmp_path):
    Image.fromarray(SCENES[0]).convert(mode).save(tmp_path / "a.jpg", quality=95)
    expected = np.array(Image.fromarray(SCENES[0]).convert(mode).convert("RGB"), int)
    assert np.abs(read_image(tmp_path / "a.jpg") - expected).mean() < 12


def test_the_orientation_is_applied_to_files_and_not_to_frames(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn to the right
    Image.fromarray(SCENES[0]).save(tmp_path / "a.jpg", quality=95, exif=exif)
    turned = read_image(tmp_path / "a.jpg")
    assert turned.shape == (320, 240, 3)
    data = np.fromfile(tmp_path / "a.jpg", np.uint8)
    stored = decode_image(data, oriented=False)
    np.testing.assert_array_equal(turned, np.rot90(stored, -1))
    with pytest.raises(MediaError, match="the JPEG is damaged"):
        decode_image(np.frombuffer(half_with_an_end(data.tobytes()), np.uint8))


def test_segment_names_the_damaged_file_and_ends_with_1(tmp_path, color_engine, monkeypatch, capsys):
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: color_engine)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(encoded(SCENES[0]))
    (folder / "hole.jpg").write_bytes(with_hole(encoded(SCENES[1])))
    assert cli.main(["segment", str(folder), "--labels", "ball", "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert f"{folder / 'hole.jpg'}: the JPEG is damaged" in captured.err
    assert "1 image segmented, 1 could not be read" in captured.out


def test_where_the_library_is_missing_jpegs_are_read_and_one_line_says_what_is_not_noticed(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    jpeg._library.cache_clear()
    data = np.frombuffer(encoded(SCENES[0]), np.uint8)
    try:
        for _ in range(2):
            assert decode_image(data).shape == SCENES[0].shape
    finally:
        jpeg._library.cache_clear()
    assert caplog.text.count("simplejpeg is not installed, so damage in JPEGs goes unnoticed: pip install") == 1


@pytest.mark.slow
def test_the_check_costs_a_frame_of_a_camera_no_millisecond_more_than_opencv_takes():
    image = cv2.resize(SCENES[0], (640, 480))
    data = np.frombuffer(encoded(image, 80), np.uint8)

    def fastest(decode):
        times = []
        for _ in range(50):
            began = time.perf_counter()
            decode(data)
            times.append(time.perf_counter() - began)
        return min(times)

    opencv = fastest(lambda data: cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
    assert fastest(decode_jpeg) < opencv + 1e-3
