"""Labelled points: every pixel with depth, its color, label and instance."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from synseg_model.instances.depth import FURTHEST, Intrinsics
from synseg_model.instances.find import Instance, check_inside
from synseg_model.instances.positions import depth_problem

# As PointCloud2 reads it with point_step = itemsize: x, y, z in metres, rgb as 0x00RRGGBB (RViz and PCL read its bytes
# as a float32), the label's id (0: background) and the instance's id (0: none).
POINT = np.dtype([(name, np.float32) for name in "xyz"] + [(name, np.uint32) for name in ("rgb", "label", "instance")])
_BLOCK = 16_384  # pixels that are worked on at once, so that they stay in the cache: half the time of a whole frame


class NoCloudError(ValueError):
    """There are no points to make; its text says why."""


def make_cloud(
    depth: np.ndarray | None,
    intrinsics: Intrinsics | None,
    image: np.ndarray,
    label_map: np.ndarray,
    instances: Sequence[Instance] = (),
    ids: Sequence[int] = (),
    background: bool = False,
) -> np.ndarray:
    """Make the labelled points of a frame.

    Args:
        depth: (h,w) float32 in metres of the same view as the image, at any resolution; NaN or 0 where there is none.
        intrinsics: of the camera, at any resolution.
        image: (H,W,3) uint8 RGB.
        label_map: (H,W) uint8 or uint16, 0 on background.
        instances: of the image; where their masks overlap, the smaller is on top.
        ids: per instance its id, from 1, as a Tracker gives it; empty: 1 to N.
        background: whether pixels with label 0 become points, too.

    Returns:
        (N,) POINT in the camera's optical frame (x right, y down, z forward), in the order of depth pixels.

    Raises:
        NoCloudError: without depth or a usable camera, or where they do not fit the image.
        ValueError: for a label map or instances of another size than the image, and for another number of ids than
            instances.
    """
    if label_map.shape != image.shape[:2]:
        raise ValueError(f"label map of shape {label_map.shape} for an image of {image.shape[:2]}")
    numbers = ids if len(ids) else range(1, len(instances) + 1)
    if len(numbers) != len(instances):
        raise ValueError(f"{len(ids)} ids for {len(instances)} instances: expected one each, or none")
    problem = depth_problem(depth, intrinsics, label_map.shape)
    if problem:
        raise NoCloudError(problem)
    check_inside(instances, label_map.shape)
    owner = np.zeros(label_map.shape, np.int32)
    for instance, number in sorted(zip(instances, numbers, strict=True), key=lambda pair: -pair[0].area):
        owner[instance.window][instance.mask] = number
    height, width = depth.shape
    depth = np.ascontiguousarray(depth)
    if depth.shape != label_map.shape:
        image, label_map, owner = (
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            for plane in (image, label_map, owner)
        )
    chosen = (depth > 0) & (depth < FURTHEST)  # NaN is not
    if not background:
        chosen &= label_map > 0
    return _points(chosen, depth, intrinsics.scaled(width, height), image, label_map, owner)


def _points(
    chosen: np.ndarray,
    depth: np.ndarray,
    camera: Intrinsics,
    image: np.ndarray,
    label_map: np.ndarray,
    owner: np.ndarray,
) -> np.ndarray:
    across, down = camera.ray_map()
    if camera.lens:
        chosen &= ~np.isnan(across)
    cloud = np.empty(np.count_nonzero(chosen), POINT)
    numbers = cloud.view(np.float32).reshape(1, -1, len(POINT.names))
    height, done = max(1, _BLOCK // camera.width), 0
    for top in range(0, camera.height, height):
        block = slice(top, top + height)
        at = np.flatnonzero(chosen[block])
        if not len(at):
            continue
        bgra = cv2.cvtColor(np.ascontiguousarray(image[block]), cv2.COLOR_RGB2BGRA)
        packed = bgra.view("<u4") & np.uint32(0xFFFFFF)  # blue is the lowest byte
        z = depth[block]
        x = (across[block] if camera.lens else across) * z
        planes = (x, down[block] * z, z, packed, label_map[block].astype(np.uint32), owner[block])
        fields = [plane.reshape(-1).take(at).view(np.float32)[None] for plane in planes]
        cv2.merge(fields, dst=numbers[:, done : done + len(at)])
        done += len(at)
    return cloud
