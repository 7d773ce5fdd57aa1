"""Which camera depth is seen with: the lens counts where images are as the camera takes them."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from synseg_model.instances import Lens
from synseg_ros.space.depth_view import DepthMessages, DepthTopics

HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=1000, nanosec=0), frame_id="lens")
SIZE = (48, 64)
RAW, RECTIFIED = Lens("plumb_bob", (-0.2, 0.0, 0.0, 0.0, 0.0)), None


def camera_info():
    return SimpleNamespace(
        header=HEADER,
        width=64,
        height=48,
        distortion_model="plumb_bob",
        d=[-0.2, 0.0, 0.0, 0.0, 0.0],
        k=[60.0, 0, 31.5, 0, 60, 23.5, 0, 0, 1],
        p=[50.0, 0, 31.5, 0, 0, 50, 23.5, 0, 0, 0, 1, 0],
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    )


def depth_image():
    """Return depth of a wall at 2 m with a small board before it at 1 m, around (13, 9)."""
    pixels = np.full(SIZE, 2000, "<u2")
    pixels[7:12, 11:16] = 1000
    fields = {"encoding": "16UC1", "width": 64, "height": 48, "step": 128, "is_bigendian": 0}
    return SimpleNamespace(header=HEADER, data=pixels.tobytes(), **fields)


def nowhere(target, source, stamp):
    assert target == source
    return np.eye(4)


@pytest.mark.parametrize(
    ("image", "depth", "lens", "focal"),
    [
        ("/camera/image_raw", "/camera/depth/image_raw", RAW, 60),
        ("/camera/image_rect", "/camera/depth/image_rect", RECTIFIED, 50),
        ("/camera/image_rect", "/camera/depth/image_raw", RECTIFIED, 50),
        ("/camera/image_raw", "/camera/depth/image_rect", RAW, 60),
    ],
)
def test_images_and_depth_may_each_be_rectified_or_not(image, depth, lens, focal):
    messages = DepthMessages(DepthTopics(depth, "/camera/camera_info", "/camera/camera_info", image))
    messages.infos.add(camera_info())
    messages.images.add(depth_image())
    view = messages.view(HEADER, SIZE, 0.01, nowhere)
    assert (view.intrinsics.lens, view.intrinsics.fx) == (lens, focal)
    x, y = board_ray("rect" in depth)
    if lens:
        (x,), (y,) = lens.distorted(np.array([x]), np.array([y]))
    rows, columns = np.nonzero(view.depth == 1)
    assert columns.mean() == pytest.approx(focal * x + 31.5, abs=0.8)
    assert rows.mean() == pytest.approx(focal * y + 23.5, abs=0.8)


def board_ray(rectified):
    """Return x/z and y/z of the middle of the board."""
    if rectified:
        return (13 - 31.5) / 50, (9 - 23.5) / 50
    k, d = np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), np.array(RAW.coefficients)
    return cv2.undistortPoints(np.array([[[13.0, 9.0]]]), k, d).ravel()
