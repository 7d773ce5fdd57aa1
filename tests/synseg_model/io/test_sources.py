"""Sources of images: files, folders and videos, in order, and never lost in silence."""

import io
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from synseg_model.io.image_file import MediaError, read_image
from synseg_model.io.sources import open_source

RED = (250, 10, 20)


def solid(color=RED, size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.new("RGB", size, color)


def write_video(path: Path, frames: int = 5, size: tuple[int, int] = (64, 48)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, size)
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MPEG-4")
    for index in range(frames):
        writer.write(np.full((size[1], size[0], 3), (200, 100, 40 * index), np.uint8))
    writer.release()
    return path


def test_a_folder_gives_images_only_in_natural_order(tmp_path):
    for name in ("b10.png", "b2.png", "B1.png", "a.png", ".hidden.png"):
        solid().save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "sub.png").mkdir()
    source = open_source(tmp_path)
    assert [name for name, _ in source] == ["a.png", "B1.png", "b2.png", "b10.png"]
    assert (source.kind, source.length, source.skipped) == ("images", 4, [])


def test_unreadable_images_of_a_folder_are_logged_and_counted(tmp_path, caplog):
    solid().save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    solid().save(tmp_path / "z.png")
    source = open_source(tmp_path)
    with caplog.at_level(logging.WARNING, "synseg_model.io.sources"):
        assert [name for name, _ in source] == ["a.png", "z.png"]
    assert [name for name, _ in source.skipped] == ["broken.png", "empty.jpg", "gone.jpg"]
    assert len(caplog.records) == 3
    assert "broken.png" in caplog.text


def test_a_source_can_be_read_again(tmp_path):
    solid().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    source = open_source(tmp_path)
    assert len(list(source)) == len(list(source)) == 1
    assert len(source.skipped) == 1


def test_several_files_keep_their_order(tmp_path):
    for name in ("b.png", "a.png"):
        solid().save(tmp_path / name)
    source = open_source([tmp_path / "b.png", str(tmp_path / "a.png")])
    assert [name for name, _ in source] == ["b.png", "a.png"]


def test_an_image_is_known_by_its_content_if_its_name_says_nothing(tmp_path):
    solid().save(tmp_path / "image", "PNG")
    assert [name for name, _ in open_source(tmp_path / "image")] == ["image"]


@pytest.mark.parametrize("name", ["broken.png", "empty.jpg"])
def test_an_only_image_that_cannot_be_decoded_is_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"" if name == "empty.jpg" else b"no image")
    with pytest.raises(MediaError, match=name):
        list(open_source(tmp_path / name))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_cut_off_in_its_header_is_an_error(tmp_path, kind):
    buffer = io.BytesIO()
    solid(size=(50, 40)).save(buffer, kind)
    path = tmp_path / "cut.img"
    path.write_bytes(buffer.getvalue()[:20])
    with pytest.raises(MediaError, match=r"cut\.img"):
        read_image(path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere.png", "nowhere.png': No such file"),
        ("nul\0.png", "null"),
        (-1, "expected 0 or above"),
        (None, "NoneType: expected a path"),
        (True, "bool: expected a path"),
        (2.5, "float: expected a path"),
        ([], "no source"),
        ("/dev/video987", "cannot open camera device 987"),
    ],
)
def test_sources_that_are_not_there_are_refused_in_one_line(source, words):
    with pytest.raises(MediaError, match=words) as caught:
        open_source(source)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_refused_with_what_it_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(MediaError, match=r"no images in folder .*\.png"):
        open_source(tmp_path)


def test_a_file_that_is_neither_image_nor_video_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no image")
    with pytest.raises(MediaError, match=r"notes\.txt is neither an image nor a video"):
        open_source(path)


def test_a_video_among_several_files_is_refused(tmp_path):
    solid().save(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(MediaError, match=r"b\.txt is not an image"):
        open_source([tmp_path / "a.png", tmp_path / "b.txt"])


def test_a_video_gives_numbered_rgb_frames_and_its_length(tmp_path):
    source = open_source(write_video(tmp_path / "clip.mp4"))
    frames = list(source)
    assert (source.kind, source.length, source.fps) == ("video", 5, 10.0)
    assert [name for name, _ in frames] == [f"00000{i}" for i in range(5)]
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for _, frame in frames)
    np.testing.assert_allclose(frames[4][1][20, 20], (160, 100, 200), atol=12)
    assert len(list(source)) == 5


def test_a_video_that_ends_early_is_reported(tmp_path, monkeypatch, caplog):
    source = open_source(write_video(tmp_path / "clip.mp4"))
    source.length = 20  # as a container announces whose end is missing
    with caplog.at_level(logging.WARNING, "synseg_model.io.sources"):
        assert len(list(source)) == 5
    assert "ended after 5 of 20 frames" in caplog.text
    assert len(source.skipped) == 1


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
JPEG_XL = b"\xff\x0a" + bytes(200)


def test_a_folder_takes_whatever_the_decoders_read_and_names_what_it_leaves_out(tmp_path, caplog):
    image = np.full((8, 8, 3), 100, np.uint8)
    for name in ("a.jfif", "b.JFIF", "c.pjpeg", "d", "e.photo"):
        (tmp_path / name).write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    (tmp_path / "f.avif").write_bytes(cv2.imencode(".avif", image)[1].tobytes())
    (tmp_path / "g.heic").write_bytes(HEIC)
    (tmp_path / "h.jxl").write_bytes(JPEG_XL)
    (tmp_path / "i.bin").write_bytes(HEIC)
    (tmp_path / "labels.txt").write_text("ball")
    source = open_source(tmp_path)
    assert [name for name, _ in source] == ["a.jfif", "b.JFIF", "c.pjpeg", "d", "e.photo", "f.avif"]
    assert "g.heic, h.jxl, i.bin; also left out: 1 other file" in caplog.text


def test_a_folder_of_images_and_other_files_says_nothing(tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "labels.txt").write_text("ball")
    open_source(tmp_path)
    assert not caplog.text


def test_a_folder_of_files_that_are_not_read_is_refused_by_their_names(tmp_path):
    (tmp_path / "g.heic").write_bytes(HEIC)
    with pytest.raises(MediaError, match=r"convert to JPEG or PNG: g\.heic"):
        open_source(tmp_path)


@pytest.mark.parametrize(("data", "kind"), [(HEIC, "HEIC"), (JPEG_XL, "JPEG XL")])
def test_a_file_of_a_kind_that_is_not_read_is_called_by_it_whatever_its_name(tmp_path, data, kind):
    for name in ("a.heic", "a.jpg"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=f"is {kind}, which is not supported: convert it to JPEG or PNG"):
            list(open_source(tmp_path / name))
