"""Depth images in messages, in metres: raw, compressed by image_transport's compressedDepth, and disparity.

A message is any object with the fields of a sensor_msgs/Image, sensor_msgs/CompressedImage or
stereo_msgs/DisparityImage: rclpy makes it on a robot, rosbags for a recording.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np

from synseg_model.instances import Intrinsics, Lens, depth_in_metres, disparity_in_metres
from synseg_ros.interfaces.image_encodings import CompressedMessage, FrameError, ImageMessage

SAMPLES = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
ACCEPTED = "16UC1 (millimetres) and 32FC1 (metres)"
# In front of the image file of compressedDepth: an enum, and two floats with which 32FC1 is quantised as disparity.
_HEADER = struct.Struct("<iff")
_MOST_PIXELS = 1 << 26
_NIBBLES = np.arange(0, 32, 4, np.uint32)  # bits in front of each, in a word of 32


def depth_of(message: Any) -> np.ndarray:
    """Read a depth message of any kind.

    Args:
        message: An Image, CompressedImage or DisparityImage.

    Returns:
        (H, W) float32 in metres, NaN where there is none.

    Raises:
        FrameError: The message cannot be read as depth.
    """
    try:
        if hasattr(message, "encoding"):
            return depth_in_metres(_samples(message))
        if hasattr(message, "format"):
            return _decompressed(message)
        return _from_disparity(message)
    except FrameError:
        raise
    except Exception as error:  # OpenCV's own, for bytes that it cannot decode
        raise FrameError(f"the depth image cannot be read ({error})") from None


def intrinsics_of(info: Any, rectified: bool = False) -> Intrinsics:
    """Read a sensor_msgs/CameraInfo.

    Args:
        info: The message. A region of interest is taken as the part of the sensor that images show.
        rectified: Whether the images are rectified: they have the matrix P and no distortion. Images as the camera
            takes them have the matrix K and the distortion d.
    """
    matrix, lens = info.k, Lens.from_info(info.distortion_model, info.d)
    if rectified:
        projection = np.asarray(info.p, np.float64).reshape(3, 4)
        matrix, lens = projection[:, :3] if projection[0, 0] else info.k, None  # not all drivers give P
    camera = Intrinsics.from_matrix(matrix, info.width, info.height, lens)
    roi = info.roi
    if not (roi.width and roi.height):
        return camera
    center = camera.cx - roi.x_offset, camera.cy - roi.y_offset
    return Intrinsics(camera.fx, camera.fy, *center, int(roi.width), int(roi.height), lens)


def is_rectified(topic: str) -> bool:
    """Tell whether images are rectified, by the name of their topic: "image_rect", "image_rect_color" and the like.

    Args:
        topic: Such as "/camera/image_rect/compressed".
    """
    return any("rect" in part.split("_") for part in topic.split("/")[-2:])


def _samples(message: ImageMessage) -> np.ndarray:
    """Return the samples (H, W) of a raw image in the machine's byte order, without a copy where they have it."""
    name, width, height, step = message.encoding, message.width, message.height, message.step
    if name not in SAMPLES:
        raise FrameError(f"encoding {name!r} is not depth; accepted: {ACCEPTED}")
    kind = np.dtype(SAMPLES[name])
    if not (width and height):
        raise FrameError(f"size {width}x{height} of the depth image is empty; width and height must be at least 1")
    if step < width * kind.itemsize:
        raise FrameError(f"step {step} of the depth image is shorter than a row of {width} pixels of {name}")
    if len(message.data) != step * height:
        raise FrameError(
            f"the depth image has {len(message.data)} bytes; {width}x{height} {name} of step {step} takes "
            f"{step * height}"
        )
    stored = kind.newbyteorder(">" if message.is_bigendian else "<")
    samples = np.ndarray((height, width), stored, memoryview(message.data), strides=(step, kind.itemsize))
    return samples.astype(kind, copy=False)


def _decompressed(message: CompressedMessage) -> np.ndarray:
    """Read what image_transport's compressed_depth_image_transport writes."""
    name = message.format.partition(";")[0].strip()
    if "compressedDepth" not in message.format or name not in SAMPLES:
        raise FrameError(
            f"format {message.format!r} is not depth; accepted: '16UC1; compressedDepth png', "
            "'32FC1; compressedDepth png' and the same with rvl"
        )
    data = np.frombuffer(message.data, np.uint8)
    if len(data) <= _HEADER.size:
        raise FrameError(f"the depth image has {len(data)} bytes: expected a header of {_HEADER.size} and an image")
    _, quantum, offset = _HEADER.unpack(data[: _HEADER.size])
    rest = data[_HEADER.size :]
    stored = _unpack_rvl(rest) if message.format.rstrip().endswith("rvl") else cv2.imdecode(rest, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 2:
        raise FrameError("the depth image cannot be decoded: expected a PNG with one channel")
    if name != "32FC1":
        return depth_in_metres(stored.astype(np.uint16, copy=False))
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.float32(quantum) / (stored.astype(np.float32) - np.float32(offset))
    return depth_in_metres(np.where(stored > 0, metres, np.float32(np.nan)))


def _unpack_rvl(data: np.ndarray) -> np.ndarray:
    """Unpack RVL: columns, rows, and runs of zeros and of differences, as numbers of 3 bits per nibble.

    Source: Wilson, "Fast Lossless Depth Image Compression", ISS 2017, https://doi.org/10.1145/3132272.3134144.
    """
    columns, rows = struct.unpack("<II", data[:8])
    total = columns * rows
    if not 0 < total <= _MOST_PIXELS:
        raise FrameError(f"size {columns}x{rows} of the depth image is not accepted")
    words = data[8 : 8 + (len(data) - 8) // 4 * 4].view("<u4")
    nibbles = ((words[:, None] << _NIBBLES) >> np.uint32(28)).reshape(-1)
    ends = np.flatnonzero(nibbles < 8)  # the fourth bit says that the number goes on
    starts = np.concatenate(([0], ends[:-1] + 1))[: len(ends)]
    bits = (nibbles & 7).astype(np.int64)
    if not len(ends):
        raise FrameError(f"the depth image ends after 0 of {total} pixels")
    place = np.arange(int(ends[-1]) + 1) - np.repeat(starts, ends - starts + 1)  # in its number, the lowest first
    numbers = np.add.reduceat(bits[: len(place)] << (3 * np.minimum(place, 10)), starts)
    return _fill(numbers, rows, columns)


def _fill(numbers: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Lay out the numbers: how many zeros, how many values, and the values as zigzag differences, again and again."""
    total = rows * columns
    pixels, at, done, last = np.zeros(total, np.int64), 0, 0, 0
    while done < total:
        if at + 2 > len(numbers):
            raise FrameError(f"the depth image ends after {done} of {total} pixels")
        zeros, count = int(numbers[at]), int(numbers[at + 1])
        done, at = done + zeros, at + 2
        if done + count > total or at + count > len(numbers) or not (zeros or count):
            raise FrameError(f"the depth image ends after {done} of {total} pixels")
        zigzag = numbers[at : at + count]
        values = last + np.cumsum((zigzag >> 1) ^ -(zigzag & 1))
        pixels[done : done + count] = values
        last = int(values[-1]) if count else last
        done, at = done + count, at + count
    return pixels.astype(np.uint16).reshape(rows, columns)


def _from_disparity(message: Any) -> np.ndarray:
    if message.image.encoding != "32FC1":
        raise FrameError(f"encoding {message.image.encoding!r} of the disparity image is not known; accepted: 32FC1")
    disparity = _samples(message.image)
    valid = disparity >= max(0.0, float(message.min_disparity))
    return disparity_in_metres(np.where(valid, disparity, np.float32(np.nan)), float(message.f), abs(float(message.t)))
