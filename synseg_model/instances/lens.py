"""Lens distortion: where rays of a camera meet its image, and which ray a pixel has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

# camera_info's names of the models, and how many coefficients each may have.
_POLYNOMIAL = {"plumb_bob": (4, 5), "rational_polynomial": (5, 8, 12)}
_FISHEYE = {"equidistant": (4,), "fisheye": (4,)}
MODELS = _POLYNOMIAL | _FISHEYE
_CAMERAS = 16  # whose rays are kept; 2.5 MB each at 640x480
_STEPS = 20  # of Newton's method, at most
_ACCURATE = 1e-6  # of x/z and y/z: some thousandths of a pixel
_DIFFERENCE = 1e-6  # for derivatives
_WIDEST = math.radians(89.5)  # from the optical axis: a ray at 90 degrees has no x/z
_RADII = 4000  # at which a lens is looked at


@dataclass(frozen=True)
class Lens:
    """Hold the distortion of a lens. `problem` says why it cannot be used.

    Args:
        model: plumb_bob, rational_polynomial, equidistant or fisheye (the same as equidistant).
        coefficients: in OpenCV's order, as camera_info has them.

    Source: OpenCV's camera model, https://docs.opencv.org/4.x/d9/d0c/group__calib3d.html; for equidistant Kannala and
    Brandt, "A Generic Camera Model and Calibration Method", PAMI 2006.
    """

    model: str
    coefficients: tuple[float, ...]

    @classmethod
    def from_info(cls, model: str, coefficients: Sequence[float]) -> Lens | None:
        """Read what camera_info says of the lens; None where nothing is distorted, as all coefficients are 0.

        Args:
            model: camera_info's distortion_model.
            coefficients: its d.
        """
        numbers = tuple(float(number) for number in coefficients)
        fisheye = model in _FISHEYE and len(numbers) > 0  # whose zeros mean equal angles, not a pinhole
        return cls(model, numbers) if fisheye or any(number != 0 for number in numbers) else None

    @property
    def problem(self) -> str:
        """Say why nothing can be computed with this lens; empty where all is well."""
        accepted = MODELS.get(self.model)
        if accepted is None:
            return (
                f"the distortion model {self.model!r} of the camera_info is not known: expected one of "
                f"{', '.join(MODELS)}, or rectified images"
            )
        if len(self.coefficients) not in accepted:
            counts = " or ".join(map(str, accepted))
            return f"the camera_info has {len(self.coefficients)} coefficients d of {self.model}: expected {counts}"
        if not all(map(math.isfinite, self.coefficients)):
            return f"the camera_info has the coefficients d = {list(self.coefficients)}: expected finite numbers"
        return ""

    @cached_property
    def reach(self) -> float:
        """The largest x/z, y/z radius up to which rays further out are shown further out: beyond it nothing is real."""
        radius = np.tan(np.linspace(0, _WIDEST, _RADII))
        straight = self.coefficients
        if self.model in _POLYNOMIAL:  # without the parts that are not radial
            straight = (*straight[:2], 0.0, 0.0, *straight[4:8])
        shown, _ = Lens(self.model, straight).distorted(radius, np.zeros_like(radius))
        folds = np.flatnonzero(np.diff(shown) <= 0)
        return float(radius[folds[0] if len(folds) else -1])

    def distorted(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bend rays, as the lens does.

        Args:
            x: x/z of points before the camera, any shape.
            y: y/z of the same points.

        Returns:
            x and y where a pinhole camera would have to see them. Beyond `reach` they mean nothing.
        """
        if self.model in _FISHEYE:
            radius = np.sqrt(x * x + y * y)
            angle = np.arctan(radius)
            square = angle * angle
            k1, k2, k3, k4 = self.coefficients
            bent = angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
            scale = np.where(radius > 0, bent / np.maximum(radius, np.finfo(radius.dtype).tiny), 1)
            return x * scale, y * scale
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (*self.coefficients, *(0.0,) * (12 - len(self.coefficients)))
        square, product = x * x + y * y, x * y
        radial = 1 + square * (k1 + square * (k2 + square * k3))
        if k4 or k5 or k6:
            radial = radial / (1 + square * (k4 + square * (k5 + square * k6)))
        return (
            x * radial + 2 * p1 * product + p2 * (square + 2 * x * x) + square * (s1 + square * s2),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * product + square * (s3 + square * s4),
        )

    def undistorted(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the rays that `distorted` bends to these.

        OpenCV's few iterations come first, and Newton's method goes on where they are not accurate.

        Args:
            x: (N,) float64.
            y: (N,) float64.

        Returns:
            x/z and y/z, each (N,) float64; NaN where there is no such ray.
        """
        points = np.stack((x, y), -1)[:, None]
        undistort = cv2.fisheye.undistortPoints if self.model in _FISHEYE else cv2.undistortPoints
        found = undistort(points, np.eye(3), np.array(self.coefficients)).reshape(-1, 2).T.copy()
        target = np.stack((x, y))
        left = np.arange(len(x))  # those that are not accurate yet
        with np.errstate(all="ignore"):  # what does not converge becomes NaN
            for step in range(_STEPS + 1):
                at = found[:, left]
                bent = np.stack(self.distorted(*at))
                wrong = ~(np.abs(bent - target[:, left]).max(axis=0) < _ACCURATE)
                left, at, bent = left[wrong], at[:, wrong], bent[:, wrong]
                if not len(left) or step == _STEPS:
                    break
                by_x, by_y = (
                    (np.stack(self.distorted(at[0] + dx, at[1] + dy)) - bent) / _DIFFERENCE
                    for dx, dy in ((_DIFFERENCE, 0), (0, _DIFFERENCE))
                )
                error = target[:, left] - bent
                area = by_x[0] * by_y[1] - by_y[0] * by_x[1]
                found[0, left] += (error[0] * by_y[1] - error[1] * by_y[0]) / area
                found[1, left] += (error[1] * by_x[0] - error[0] * by_x[1]) / area
            found[:, np.hypot(*found) > self.reach] = np.nan
        found[:, left] = np.nan
        return found[0], found[1]


@lru_cache(maxsize=_CAMERAS)
def lens_rays(
    lens: Lens, focal: tuple[float, float], center: tuple[float, float], width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return x/z and y/z of every pixel, each (height,width) float32 and read-only; NaN where there is no ray.

    Args:
        lens: without problem.
        focal: fx and fy in pixels.
        center: cx and cy in pixels.
        width: of the image. height: the same.
    """
    x, y = (np.arange(n) - c for n, c in zip((width, height), center, strict=True))
    grid = np.meshgrid(x / focal[0], y / focal[1])
    rays = tuple(
        axis.astype(np.float32).reshape(height, width) for axis in lens.undistorted(*(axis.ravel() for axis in grid))
    )
    for axis in rays:
        axis.flags.writeable = False  # all callers share them
    return rays
