"""Where instances are: their positions and boxes in metres, from a depth image that shows the same view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from synseg_model.instances.depth import FURTHEST, Intrinsics, view_problem
from synseg_model.instances.find import Instance, check_inside
from synseg_model.instances.transforms import move_box, move_points

_SAMPLES = 600  # pixels of an instance that are looked at, or half or twice as many
_RIM = 0.06  # part of an instance's side that is left out at its rim, where depth mixes with what is behind
_WIDEST_RIM = 8  # pixels of those looked at
_KERNELS = [np.ones((2 * rim + 1, 2 * rim + 1), np.uint8) for rim in range(_WIDEST_RIM + 1)]
_LEAST = 5  # pixels with depth, of an instance that has as many
_TAIL = 0.02  # share of the points that lie outside the 3-D box at its near and its far end
_EDGE = 0.005  # the same for the other sides: they follow the mask, which is less noisy than depth
_BODY = 3.0  # spreads from the median beyond which a point belongs to something else
_FLAT = 0.01  # share of the distance that counts as flat, as depth is not finer than that


@dataclass(frozen=True)
class Position:
    """Hold where an instance is.

    Args:
        point: x, y, z in metres: the middle of its visible surface; z is the median without the rim. In the camera's
            optical frame x is right, y down and z forward.
        spread: metres, half of the range of distances that the middle 68 % of its surface have: the standard deviation
            for normal noise, more for objects that are deep or at an angle.
        valid: share of its pixels with depth, 0 to 1.
        box_center: x, y, z in metres: the center of the box around the surface that is seen.
        box_size: the sides of that box along x, y and z, in metres.
    """

    point: tuple[float, float, float]
    spread: float
    valid: float
    box_center: tuple[float, float, float]
    box_size: tuple[float, float, float]

    def moved(self, transform: np.ndarray) -> Position:
        """Return the position in another frame; the box is the smallest along that frame's axes around this one.

        Args:
            transform: (4,4), takes points from this frame to the other, as `transform_matrix` makes it.
        """
        center, size = move_box(transform, self.box_center, self.box_size)
        point = move_points(transform, np.array([self.point]))[0]
        return replace(
            self,
            point=tuple(point.tolist()),
            box_center=tuple(center.tolist()),
            box_size=tuple(size.tolist()),
        )


def locate(
    instances: Sequence[Instance],
    depth: np.ndarray | None,
    intrinsics: Intrinsics | None,
    size: tuple[int, int],
    least_valid: float = 0.1,
) -> tuple[Position | str, ...]:
    """Find the positions of instances.

    Args:
        instances: of one image.
        depth: (h,w) float32 in metres of the same view as the image, at any resolution; NaN or 0 where there is none.
            None: there is no depth image.
        intrinsics: of the camera, at any resolution. None: there is no camera_info.
        size: (H,W) of the image.
        least_valid: share of an instance's pixels that must have depth, 0 to 1.

    Returns:
        Per instance its position in the camera's optical frame, or the reason why there is none, for people.

    Raises:
        ValueError: for depth of another type, and for an instance of an image of another size.

    Example:
        >>> import numpy as np
        >>> from synseg_model.instances import Intrinsics, find_instances, locate
        >>> label_map, confidence = np.zeros((60, 80), np.uint8), np.ones((60, 80), np.float32)
        >>> label_map[10:30, 30:50] = 1
        >>> instances = find_instances(label_map, confidence, ["cup"])
        >>> depth = np.full((60, 80), 2.0, np.float32)  # metres
        >>> camera = Intrinsics(fx=100, fy=100, cx=40, cy=30, width=80, height=60)
        >>> (position,) = locate(instances, depth, camera, label_map.shape)
        >>> float(position.point[2])
        2.0
    """
    problem = depth_problem(depth, intrinsics, size)
    if problem:
        return (problem,) * len(instances)
    check_inside(instances, size)
    camera = intrinsics.scaled(depth.shape[1], depth.shape[0])
    rays, pixels = camera.ray_map(), _image_pixels(depth.shape, size)
    if camera.lens:
        depth = np.where(np.isnan(rays[0]), np.float32(np.nan), depth)
    return tuple(_locate(instance, depth, camera, rays, pixels, least_valid) for instance in instances)


def depth_problem(depth: np.ndarray | None, intrinsics: Intrinsics | None, size: tuple[int, int]) -> str:
    """Say why depth, camera and image give no positions; empty where they do.

    Raises:
        ValueError: for depth of another type than (h,w) float32.
    """
    if depth is None:
        return "no depth image"
    if intrinsics is None:
        return "no camera_info"
    if depth.dtype != np.float32:
        raise ValueError(f"depth of type {depth.dtype}: expected float32 in metres, as depth_in_metres gives it")
    height, width = size
    return (
        intrinsics.problem
        or view_problem("depth image", depth.shape, "image", width, height)
        or view_problem("image", size, "camera_info", intrinsics.width, intrinsics.height)
    )


def _locate(
    instance: Instance,
    depth: np.ndarray,
    camera: Intrinsics,
    rays: tuple[np.ndarray, np.ndarray],
    pixels: tuple[np.ndarray, np.ndarray] | None,
    least_valid: float,
) -> Position | str:
    mask, left, top = _at_depth(instance, pixels)
    mask, step = _thinned_out(mask)
    if not mask.size:
        return "no depth here: the object is smaller than a depth pixel"
    rows, columns = (
        slice(start + step // 2, start + step // 2 + step * count, step)
        for start, count in ((top, mask.shape[0]), (left, mask.shape[1]))
    )
    z = depth[rows, columns]
    inner = _without_rim(mask)
    surface = z[inner & (z > 0) & (z < FURTHEST)]  # NaN is not
    surface.sort()
    count, asked = len(surface), max(1, int(np.count_nonzero(inner)))
    share = count / asked
    if count < min(_LEAST, asked) or share < least_valid:
        return f"no depth here: {100 * share:.0f} % of the object's pixels have one"
    low, middle, high = surface[[int(0.16 * count), count // 2, int(0.84 * count)]].tolist()
    spread = (high - low) / 2
    slack = _BODY * spread + _FLAT * middle
    nearest, furthest = np.float32(middle - slack), np.float32(middle + slack)
    # The rim belongs to the object, too, where it does not see what is behind.
    body = mask & (z >= nearest) & (z <= furthest)
    every = slice(None)  # without a lens, x is one row of rays and y is one column
    ray_x = rays[0][rows if camera.lens else every, columns]
    ray_y = rays[1][rows, columns if camera.lens else every]
    x, left_end, right_end = _across((ray_x * z)[body])
    y, top_end, bottom_end = _across((ray_y * z)[body])
    along = surface[surface.searchsorted(nearest) : surface.searchsorted(furthest, side="right")]
    near_end, far_end = _ends(along, _TAIL)
    # Points are the centers of pixels; each stands for `step` pixels in a row.
    box_size = (
        right_end - left_end + step * middle / camera.fx,
        bottom_end - top_end + step * middle / camera.fy,
        far_end - near_end,
    )
    box_center = ((left_end + right_end) / 2, (top_end + bottom_end) / 2, (near_end + far_end) / 2)
    return Position((x, y, middle), spread, share, box_center, box_size)


def _across(values: np.ndarray) -> tuple[float, float, float]:
    """Return the middle and both ends of x or y: the mean of the middle half, as finer than a median on a grid."""
    values.sort()
    quarter = len(values) // 4
    middle = values[quarter : len(values) - quarter]
    return float(middle.sum()) / len(middle), *_ends(values, _EDGE)


def _ends(ordered: np.ndarray, tail: float) -> tuple[float, float]:
    """Return where values in ascending order begin and end, without tails, but as wide as with them if even."""
    cut = int(tail * len(ordered))
    low, high = float(ordered[cut]), float(ordered[-1 - cut])
    wider = (high - low) * cut / max(1, len(ordered) - 2 * cut)
    return low - wider, high + wider


def _image_pixels(shape: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the image's row of each row of depth, and the column of each column; None where they are the same."""
    if shape == tuple(size):
        return None
    return tuple(((np.arange(n) + 0.5) * (pixels / n)).astype(np.intp) for n, pixels in zip(shape, size, strict=True))


def _at_depth(instance: Instance, pixels: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, int, int]:
    """Return the mask at the depth image's resolution, and the column and row of its upper left pixel."""
    x, y, width, height = instance.box
    if pixels is None:
        return instance.mask, x, y
    (top, bottom), (left, right) = pixels[0].searchsorted((y, y + height)), pixels[1].searchsorted((x, x + width))
    mask = instance.mask.take(pixels[0][top:bottom] - y, 0).take(pixels[1][left:right] - x, 1)
    return mask, int(left), int(top)


def _thinned_out(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return every so many-th row and column of a mask, about _SAMPLES pixels inside, and how many-th."""
    step = max(1, round((np.count_nonzero(mask) / _SAMPLES) ** 0.5))
    thin = np.ascontiguousarray(mask[step // 2 :: step, step // 2 :: step])
    if step > 1 and np.count_nonzero(thin) < _SAMPLES / 4:  # lines that the grid misses
        return mask, 1
    return thin, step


def _without_rim(mask: np.ndarray) -> np.ndarray:
    """Return a mask without the pixels at its rim; thin masks stay as they are."""
    area = np.count_nonzero(mask)
    kernel = _KERNELS[min(_WIDEST_RIM, max(1, round(_RIM * area**0.5)))]
    inner = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0).view(bool)
    return inner if np.count_nonzero(inner) >= area / 4 else mask
