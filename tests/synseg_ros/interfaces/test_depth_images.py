"""Depth in every kind of message becomes metres, and what cannot be read is refused with the reason."""

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from synseg_model.instances import Lens
from synseg_ros.interfaces.depth_images import depth_of, intrinsics_of, is_rectified
from synseg_ros.interfaces.image_encodings import FrameError

METRES = np.array([[1.0, 2.5, np.nan], [0.75, np.nan, 4.0]], np.float32)


def raw(pixels, encoding, padding=0, big=False):
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = [row.tobytes() + b"\xff" * padding for row in stored]
    height, width = pixels.shape
    step = width * pixels.itemsize + padding
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=step, is_bigendian=int(big), data=b"".join(rows)
    )


def millimetres():
    return np.nan_to_num(METRES * 1000).astype(np.uint16)


def compressed(name, payload, quantum=0.0, offset=0.0):
    return SimpleNamespace(format=name, data=struct.pack("<iff", 0, quantum, offset) + payload)


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def pack_rvl(pixels):
    """Pack as the paper's C code does, number by number."""
    nibbles = []

    def put(value):
        while True:
            value, low = value >> 3, value & 7
            nibbles.append(low | (8 if value else 0))
            if not value:
                return

    values, at, last = pixels.reshape(-1).tolist(), 0, 0
    while at < len(values):
        begin = at
        while at < len(values) and not values[at]:
            at += 1
        put(at - begin)
        begin = at
        while at < len(values) and values[at]:
            at += 1
        put(at - begin)
        for value in values[begin:at]:
            difference, last = value - last, value
            put(2 * difference if difference >= 0 else -2 * difference - 1)
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    return struct.pack("<II", pixels.shape[1], pixels.shape[0]) + struct.pack(f"<{len(words)}I", *words)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
def test_raw_depth_is_in_metres(encoding, padding, big):
    pixels = METRES if encoding == "32FC1" else millimetres()
    depth = depth_of(raw(pixels, encoding, padding, big))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, METRES, rtol=1e-6)


@pytest.mark.parametrize("name", ["16UC1; compressedDepth png", "16UC1; compressedDepth"])
def test_a_png_of_compressed_depth_is_in_metres(name):
    np.testing.assert_allclose(depth_of(compressed(name, png(millimetres()))), METRES, rtol=1e-6)


def test_rvl_is_in_metres():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 65536, (37, 53)).astype(np.uint16)
    pixels[rng.random(pixels.shape) < 0.4] = 0
    pixels[5:9] = 0
    depth = depth_of(compressed("16UC1; compressedDepth rvl", pack_rvl(pixels)))
    np.testing.assert_array_equal(np.rint(np.nan_to_num(depth) * 1000).astype(np.uint16), pixels)


@pytest.mark.parametrize("pack", [png, pack_rvl])
def test_floating_point_depth_that_was_quantised_is_in_metres(pack):
    quantum, offset = 3000.0, 10.0
    stored = np.where(np.isnan(METRES), 0, quantum / np.nan_to_num(METRES, nan=1.0) + offset).astype(np.uint16)
    kind = "png" if pack is png else "rvl"
    depth = depth_of(compressed(f"32FC1; compressedDepth {kind}", pack(stored), quantum, offset))
    np.testing.assert_allclose(depth, METRES, rtol=2e-3)


def test_disparity_is_in_metres():
    focal, baseline = 400.0, 0.1
    disparity = np.where(np.isnan(METRES), -1, focal * baseline / np.nan_to_num(METRES, nan=1.0)).astype(np.float32)
    message = SimpleNamespace(
        image=raw(disparity, "32FC1"), f=focal, t=-baseline, min_disparity=0.0, max_disparity=99.0
    )
    np.testing.assert_allclose(depth_of(message), METRES, rtol=1e-6)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (raw(np.zeros((2, 3), np.uint16), "rgb8"), "encoding 'rgb8' is not depth"),
        (raw(np.zeros((0, 3), np.uint16), "16UC1"), "size 3x0 of the depth image is empty"),
        (SimpleNamespace(**{**vars(raw(METRES, "32FC1")), "data": b"short"}), "has 5 bytes; 3x2 32FC1"),
        (SimpleNamespace(**{**vars(raw(METRES, "32FC1")), "step": 4}), "step 4 of the depth image is shorter"),
        (compressed("rgb8; jpeg compressed bgr8", b"x"), "format 'rgb8; jpeg compressed bgr8' is not depth"),
        (SimpleNamespace(format="16UC1; compressedDepth png", data=b"short"), "has 5 bytes"),
        (compressed("16UC1; compressedDepth png", b"this is no image"), "cannot be decoded"),
        (compressed("16UC1; compressedDepth png", png(np.zeros((2, 3, 3), np.uint8))), "cannot be decoded"),
        (compressed("16UC1; compressedDepth rvl", pack_rvl(millimetres())[:-4]), "ends after"),
        (compressed("16UC1; compressedDepth rvl", struct.pack("<II", 1 << 30, 1 << 30)), "is not accepted"),
        (compressed("16UC1; compressedDepth rvl", b"abc"), "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(message, reason):
    with pytest.raises(FrameError, match=reason.replace("(", r"\(")):
        depth_of(message)


def test_random_bytes_are_refused_or_read_but_never_crash():
    rng = np.random.default_rng(3)
    for _ in range(300):
        payload = struct.pack("<II", *rng.integers(1, 20, 2).tolist()) + rng.bytes(int(rng.integers(0, 60)))
        try:
            assert depth_of(compressed("16UC1; compressedDepth rvl", payload)).ndim == 2
        except FrameError:
            continue


def info_of(**fields):
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    pinhole = {"distortion_model": "plumb_bob", "d": [0.0] * 5, "p": [0.0] * 12, "width": 640, "height": 480}
    return SimpleNamespace(**{"roi": roi, "k": [500.0, 0, 320, 0, 510, 240, 0, 0, 1], **pinhole, **fields})


def test_images_as_the_camera_takes_them_have_the_matrix_k_and_the_distortion():
    p = [450.0, 0, 330, 0, 0, 460, 250, 0, 0, 0, 1, 0]
    info = info_of(d=[-0.3, 0.1, 0.0, 0.0, 0.0], p=p)
    camera, rectified = intrinsics_of(info), intrinsics_of(info, rectified=True)
    assert (camera.fx, camera.cx, camera.lens) == (500, 320, Lens("plumb_bob", (-0.3, 0.1, 0.0, 0.0, 0.0)))
    assert (rectified.fx, rectified.fy, rectified.cx, rectified.cy, rectified.lens) == (450, 460, 330, 250, None)
    assert intrinsics_of(info_of(), rectified=True) == intrinsics_of(info_of())  # without P


@pytest.mark.parametrize(("model", "d"), [("plumb_bob", [0.0] * 5), ("", []), ("a_model", [0.0] * 4)])
def test_without_coefficients_nothing_is_distorted(model, d):
    assert intrinsics_of(info_of(distortion_model=model, d=d)).lens is None


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/camera/image_rect", True),
        ("/camera/image_rect_color/compressed", True),
        ("/camera/depth/image_rect_raw", True),
        ("/camera/image_raw", False),
        ("/rect/camera/image_raw", False),
        ("/camera/image_rectangle", False),
        ("", False),
    ],
)
def test_the_name_of_a_topic_says_whether_its_images_are_rectified(topic, rectified):
    assert is_rectified(topic) is rectified


def test_a_camera_with_a_region_of_interest_is_that_of_the_region():
    roi = SimpleNamespace(x_offset=100, y_offset=50, width=320, height=240)
    info = info_of(k=[500.0, 0, 320, 0, 510, 240, 0, 0, 1], width=640, height=480, roi=roi)
    camera = intrinsics_of(info)
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height) == (500, 510, 220, 190, 320, 240)
