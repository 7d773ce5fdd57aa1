"""Depth images: their pixels in metres, their camera, and how they are brought to another camera's view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synseg_model.instances.lens import Lens, lens_rays

# Metres of each number of millimetres: looking up takes less than half the time of computing.
_METRES = np.arange(1 << 16, dtype=np.uint16) / np.float32(1000)
_METRES[0] = np.nan
_BLOCK = 16_384  # pixels that are looked up at once
FURTHEST = 1e4  # metres; more is a device's way to say that it measured nothing
_ASPECT = 0.02  # relative difference of aspect ratios from which two images do not show the same view
_SPLAT = 8  # pixels, the largest footprint of one depth pixel in the other camera's image


@dataclass(frozen=True)
class Intrinsics:
    """Hold a camera's matrix, in pixels of an image of width x height, and the distortion of its lens.

    The center of the first pixel is (0, 0), as in ROS. `problem` says why it cannot be used.

    Args:
        fx, fy: focal lengths.
        cx, cy: principal point.
        width, height: of the image that these belong to.
        lens: the distortion of its images. None: a pinhole camera, or rectified images.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    lens: Lens | None = None

    @classmethod
    def from_matrix(
        cls, matrix: Sequence[float] | np.ndarray, width: int, height: int, lens: Lens | None = None
    ) -> Intrinsics:
        """Read the 9 numbers of a camera matrix K, row by row, as camera_info has them.

        Args:
            matrix: the 9 numbers.
            width: of the image in pixels.
            height: the same.
            lens: the distortion of its images; None for a pinhole camera and rectified images.

        Raises:
            ValueError: where there are not 9.
        """
        numbers = [float(number) for number in np.asarray(matrix, np.float64).reshape(-1)]
        if len(numbers) != 9:
            raise ValueError(f"camera matrix of {len(numbers)} numbers: expected 9, row by row")
        return cls(numbers[0], numbers[4], numbers[2], numbers[5], int(width), int(height), lens)

    @property
    def problem(self) -> str:
        """Say why nothing can be computed with this camera; empty where all is well."""
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(number) for number in numbers):
            return f"camera matrix has fx, fy, cx, cy = {numbers}: expected finite numbers"
        if self.fx == 0 and self.fy == 0:
            return "camera is not calibrated: its camera_info has K = 0"
        if self.fx <= 0 or self.fy <= 0:
            return f"camera matrix has the focal lengths {self.fx:g} and {self.fy:g}: expected more than 0"
        if self.width < 1 or self.height < 1:
            return f"camera_info is of an image of {self.width}x{self.height} pixels"
        return self.lens.problem if self.lens else ""

    def scaled(self, width: int, height: int) -> Intrinsics:
        """Return the same camera with another resolution of the whole view."""
        x, y = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return Intrinsics(self.fx * x, self.fy * y, cx, cy, width, height, self.lens)

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x/z of every column (width,) and y/z of every row (height,), float32, of a pinhole."""
        columns = (np.arange(self.width) - self.cx) / self.fx
        rows = (np.arange(self.height) - self.cy) / self.fy
        return columns.astype(np.float32), rows.astype(np.float32)

    def ray_map(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x/z and y/z of every pixel, float32, read-only.

        Without distortion they are (1,width) and (height,1). With it, both are (height,width), NaN on pixels that no
        ray reaches; they are computed once for each camera.
        """
        if self.lens:
            return lens_rays(self.lens, (self.fx, self.fy), (self.cx, self.cy), self.width, self.height)
        columns, rows = self.rays()
        return columns[None], rows[:, None]

    def bend(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x/z and y/z of points as the lens shows them; NaN for points that it does not show."""
        if not self.lens:
            return x, y
        shown = x * x + y * y <= self.lens.reach**2  # a polynomial leads points further out back into the image
        return tuple(np.where(shown, bent, np.float32(np.nan)) for bent in self.lens.distorted(x, y))


def depth_in_metres(pixels: np.ndarray) -> np.ndarray:
    """Read the pixels of a depth image (REP 118).

    Args:
        pixels: (H,W) uint16 in millimetres (16UC1) or float32 in metres (32FC1).

    Returns:
        (H,W) float32 in metres, NaN where there is none: 0, less, more than 10 km, or not finite.

    Raises:
        ValueError: for another type or number of dimensions.
    """
    if pixels.ndim != 2 or pixels.dtype.newbyteorder("=") not in (np.uint16, np.float32):
        raise ValueError(
            f"depth image of shape {pixels.shape}, {pixels.dtype}: expected (H,W) uint16 in millimetres (16UC1) "
            "or float32 in metres (32FC1)"
        )
    if pixels.dtype.kind == "u":
        metres, flat = np.empty(pixels.shape, np.float32), np.ascontiguousarray(pixels).reshape(-1)
        into = metres.reshape(-1)
        for start in range(0, flat.size, _BLOCK):  # indices are copied as 64 bits: few at once stay in the cache
            block = slice(start, start + _BLOCK)
            _METRES.take(flat[block], out=into[block], mode="clip")  # which needs no check: all are inside
        return metres
    return np.where((pixels > 0) & (pixels < FURTHEST), pixels, np.float32(np.nan))


def disparity_in_metres(disparity: np.ndarray, focal: float, baseline: float, offset: float = 0.0) -> np.ndarray:
    """Turn a disparity image into depth: focal * baseline / (disparity + offset).

    Args:
        disparity: (H,W) float32 in pixels; 0 or less, or not finite, is none.
        focal: in pixels.
        baseline: in metres, between the two cameras.
        offset: in pixels, the difference of their principal points (doffs in the Middlebury data).

    Returns:
        (H,W) float32 in metres, NaN where there is none.

    Raises:
        ValueError: for a focal length or baseline that is not above 0, and for an array with other dimensions.
    """
    if disparity.ndim != 2:
        raise ValueError(f"disparity image of shape {disparity.shape}: expected (H,W)")
    for name, value in (("focal length", focal), ("baseline", baseline)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} {value}: expected a number above 0")
    shifted = np.where(disparity > 0, disparity + np.float32(offset), np.float32(np.nan))
    shifted[~(shifted > 0)] = np.nan
    return depth_in_metres(np.float32(focal * baseline) / shifted.astype(np.float32))


def view_problem(name: str, shape: tuple[int, ...], other: str, width: int, height: int) -> str:
    """Say that an image (H,W) cannot be another resolution of a view of width x height; empty where it can."""
    if len(shape) != 2 or not all(shape):
        return f"{name} of shape {shape}: expected (H,W)"
    if abs(shape[1] * height / (shape[0] * width) - 1) > _ASPECT:
        return f"{name} of {shape[1]}x{shape[0]} pixels does not show the view of the {other}, {width}x{height}"
    return ""


def register(
    depth: np.ndarray, depth_camera: Intrinsics, image_camera: Intrinsics, transform: np.ndarray
) -> np.ndarray:
    """Bring a depth image into the view of another camera.

    Every depth pixel becomes a point, and a square in the other image, large enough to leave no holes in a surface.
    The nearest point wins a pixel. Objects grow by up to one depth pixel.

    Args:
        depth: (h,w) float32 in metres, NaN or 0 where there is none.
        depth_camera: the camera of the depth image, at any resolution.
        image_camera: the camera of the image.
        transform: (4,4), takes points from the depth camera's optical frame to the image camera's.

    Returns:
        (H,W) float32 in metres at the size of the image camera, NaN where there is none.

    Raises:
        ValueError: for a camera that cannot be used, and for a transform that is not (4,4) and finite.
    """
    for name, camera in (("depth", depth_camera), ("image", image_camera)):
        if camera.problem:
            raise ValueError(f"{name} camera: {camera.problem}")
    problem = view_problem("depth image", depth.shape, "camera_info", depth_camera.width, depth_camera.height)
    if problem:
        raise ValueError(problem)
    matrix = np.asarray(transform, np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"transform of shape {matrix.shape}: expected (4,4), finite")
    camera = depth_camera.scaled(depth.shape[1], depth.shape[0])
    pixel, z = _projected(depth, camera, matrix[:3].astype(np.float32), image_camera)
    shape = image_camera.height, image_camera.width
    nearest = np.full(shape[0] * shape[1], np.inf, np.float32)
    while len(z):  # of points in one pixel any may be written; those that are nearer are written again
        nearest[pixel] = z
        nearer = z < nearest[pixel]
        pixel, z = pixel[nearer], z[nearer]
    nearest = nearest.reshape(shape)
    for axis, ratio in ((0, image_camera.fy / camera.fy), (1, image_camera.fx / camera.fx)):
        _splat(nearest, axis, min(_SPLAT, math.ceil(ratio - 0.01) + 1))
    nearest[np.isinf(nearest)] = np.nan
    return nearest


def _projected(
    depth: np.ndarray, camera: Intrinsics, matrix: np.ndarray, image_camera: Intrinsics
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels left and above of where depth is seen by the other camera, and how far from it, each (N,)."""
    columns, rows = camera.ray_map()
    # A depth pixel's ray, turned, times its depth, plus the translation: NaN stays NaN, and 0 is no depth.
    z = (matrix[2, 0] * columns + matrix[2, 1] * rows + matrix[2, 2]) * depth + matrix[2, 3]
    seen = (depth > 0) & (z > 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = depth / z
        x, y = (
            (matrix[axis, 0] * columns + matrix[axis, 1] * rows + matrix[axis, 2]) * scale + matrix[axis, 3] / z
            for axis in (0, 1)
        )
        x, y = image_camera.bend(x, y)
        u = np.floor(np.float32(image_camera.fx) * x + np.float32(image_camera.cx))
        v = np.floor(np.float32(image_camera.fy) * y + np.float32(image_camera.cy))
    seen &= (u >= 0) & (u < image_camera.width) & (v >= 0) & (v < image_camera.height)
    pixel = v[seen].astype(np.intp) * image_camera.width + u[seen].astype(np.intp)
    return pixel, z[seen]


def _splat(nearest: np.ndarray, axis: int, pixels: int) -> None:
    """Let each pixel take the nearest of those up to `pixels` - 1 before and after it, in place."""
    source = nearest.copy()
    views = (nearest, source) if axis == 0 else (nearest.T, source.T)
    for shift in range(-((pixels - 1) // 2), pixels // 2 + 1):
        into = slice(max(0, shift), len(views[0]) + min(0, shift))
        out_of = slice(max(0, -shift), len(views[0]) - max(0, shift))
        np.minimum(views[0][into], views[1][out_of], out=views[0][into])
