"""Points and boxes in another frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def transform_matrix(quaternion: Sequence[float], translation: Sequence[float]) -> np.ndarray:
    """Make the matrix of a transform.

    Args:
        quaternion: x, y, z, w; its length does not matter.
        translation: x, y, z in metres.

    Returns:
        (4,4) float64; it takes points from the child frame to the parent, as a ROS transform does.

    Raises:
        ValueError: for numbers that are not finite, and for a quaternion of length 0.
    """
    x, y, z, w = _numbers("quaternion", quaternion, 4)
    norm = x * x + y * y + z * z + w * w
    if norm < 1e-12:
        raise ValueError(f"quaternion {[x, y, z, w]} has length 0: expected a rotation, as 0, 0, 0, 1")
    s = 2 / norm
    matrix = np.eye(4)
    matrix[:3, :3] = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    matrix[:3, 3] = _numbers("translation", translation, 3)
    return matrix


def move_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points to another frame.

    Args:
        matrix: (4,4), as `transform_matrix` makes it.
        points: (...,3) in metres.

    Returns:
        (...,3) float64.
    """
    return np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def move_box(matrix: np.ndarray, center: Sequence[float], size: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Move a box to another frame: the smallest box along that frame's axes around it.

    Args:
        matrix: (4,4), as `transform_matrix` makes it.
        center: x, y, z in metres.
        size: the sides along x, y and z, in metres.

    Returns:
        Center (3,) and size (3,), float64.
    """
    return move_points(matrix, np.asarray(center)), np.abs(matrix[:3, :3]) @ np.asarray(size, np.float64)


def _numbers(name: str, values: Sequence[float], count: int) -> list[float]:
    numbers = np.asarray(values, np.float64).reshape(-1)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{name} {numbers.tolist()}: expected {count} finite numbers")
    return numbers.tolist()
