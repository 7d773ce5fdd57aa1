"""Lens distortion: points that a lens projects are found where they are."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from synseg_model.instances import Intrinsics, Lens, locate, make_cloud, register, transform_matrix
from tests.synseg_model.instances.drawn import box_instance

SIZE = (480, 640)
PINHOLE = Intrinsics(400, 410, 310, 245, 640, 480)
K = np.array([[400, 0, 310], [0, 410, 245], [0, 0, 1]], np.float64)
LENSES = [
    Lens("plumb_bob", (-0.28, 0.09, 0.001, -0.0005, -0.01)),
    Lens("plumb_bob", (0.1, -0.05, 0.0, 0.002)),
    Lens("rational_polynomial", (0.6, -0.4, 0.0005, -0.0002, 0.1, 0.9, -0.3, 0.02)),
    Lens("rational_polynomial", (-0.1, 0.02, 0.001, 0.001, 0.0, 0.1, 0.0, 0.0, 0.002, -0.001, 0.001, 0.0005)),
    Lens("equidistant", (0.02, -0.01, 0.003, -0.0005)),
    Lens("fisheye", (0.0, 0.0, 0.0, 0.0)),
]
SAME_PLACE = transform_matrix((0, 0, 0, 1), (0, 0, 0))


def by_name(value):
    return f"{value.model}{len(value.coefficients)}" if isinstance(value, Lens) else None


every_lens = pytest.mark.parametrize("lens", LENSES, ids=by_name)


def project(lens, points):
    """Project points (N,3) with OpenCV, into pixels (N,2)."""
    nowhere, numbers = np.zeros(3), np.array(lens.coefficients)
    if lens.model in ("equidistant", "fisheye"):
        return cv2.fisheye.projectPoints(points[:, None], nowhere, nowhere, K, numbers)[0].reshape(-1, 2)
    return cv2.projectPoints(points, nowhere, nowhere, K, numbers)[0].reshape(-1, 2)


@every_lens
def test_the_ray_of_a_pixel_leads_to_the_point_that_is_projected_there(lens):
    x, y = replace(PINHOLE, lens=lens).ray_map()
    assert x.shape == y.shape == SIZE and np.isfinite(x).all()
    rows, columns = (axis.ravel() for axis in np.mgrid[0:480:37, 0:640:41])
    points = np.stack((x[rows, columns], y[rows, columns], np.ones(len(rows))), -1) * 2.5
    assert np.abs(project(lens, points) - np.stack((columns, rows), -1)).max() < 0.01


@every_lens
def test_a_board_at_the_corner_is_where_it_is(lens):
    camera = replace(PINHOLE, lens=lens)
    x, y = camera.ray_map()
    depth = np.full(SIZE, 2.0, np.float32)
    middle = np.array([[2.0 * x[60, 80], 2.0 * y[60, 80], 2.0]], np.float64)
    u, v = project(lens, middle)[0]
    board = box_instance(round(u) - 20, round(v) - 15, 41, 31)
    (found,), (without,) = (locate([board], depth, one, SIZE) for one in (camera, PINHOLE))
    assert found.point == pytest.approx(middle[0], abs=0.006)
    assert np.linalg.norm(np.subtract(without.point, middle[0])) > 0.02


@every_lens
def test_half_the_resolution_has_the_same_rays(lens):
    camera = replace(PINHOLE, lens=lens)
    half = camera.scaled(320, 240)
    for whole, axis in zip(camera.ray_map(), half.ray_map(), strict=True):
        corners = whole.reshape(240, 2, 320, 2).mean(axis=(1, 3))
        assert np.abs(axis - corners).max() < 2e-4


@every_lens
def test_points_are_on_the_rays_of_their_pixels(lens):
    camera = replace(PINHOLE, lens=lens)
    depth = np.full(SIZE, 3.0, np.float32)
    cloud = make_cloud(depth, camera, np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE, np.uint8))
    x, y = camera.ray_map()
    assert len(cloud) == depth.size
    np.testing.assert_array_equal(cloud["x"], (x * 3).ravel())
    np.testing.assert_array_equal(cloud["y"], (y * 3).ravel())


@every_lens
def test_registered_depth_lies_where_the_lens_shows_it(lens):
    """A board at 1.2 m before a wall at 3 m, seen by a pinhole depth camera, in the view of a lens beside it."""
    origin = np.array((0.05, -0.02, 0.0))
    wide = Intrinsics(200, 200, 400, 300, 801, 601)

    def see(camera, at):
        x, y = np.broadcast_arrays(*(axis.astype(np.float64) for axis in camera.ray_map()))
        board = (np.abs(at[0] + 1.2 * x) < 0.3) & (np.abs(at[1] + 1.2 * y) < 0.2)
        return np.where(board, 1.2, 3.0).astype(np.float32)

    camera = replace(PINHOLE, lens=lens)
    found, expected = (
        register(see(wide, (0, 0, 0)), wide, camera, transform_matrix((0, 0, 0, 1), -origin)),
        see(camera, origin),
    )
    seen = ~np.isnan(found)
    assert seen.mean() > 0.9
    assert (np.abs(found - expected) < 0.02)[seen].mean() > 0.97


@every_lens
def test_depth_with_distortion_is_registered_to_a_pinhole_camera(lens):
    camera = replace(PINHOLE, lens=lens)
    depth = np.full(SIZE, 4.0, np.float32)
    x, y = camera.ray_map()
    depth[60:90, 70:100] = 1.5
    found = register(depth, camera, PINHOLE.scaled(160, 120), SAME_PLACE)
    small = PINHOLE.scaled(160, 120)
    u, v = (round(f * float(axis[75, 85]) + c) for f, axis, c in ((small.fx, x, small.cx), (small.fy, y, small.cy)))
    if 0 <= u < 160 and 0 <= v < 120:
        assert found[v, u] == 1.5
    assert np.nanmax(found) == 4.0


def test_pixels_that_no_ray_reaches_have_no_position_and_no_point():
    strong = replace(PINHOLE, lens=Lens("plumb_bob", (-0.6, 0.0, 0.0, 0.0, 0.0)))  # folds inside of the image
    x, _ = strong.ray_map()
    assert np.isnan(x[0, 0]) and np.isfinite(x[245, 310])
    depth = np.full(SIZE, 2.0, np.float32)
    corner, middle = locate([box_instance(0, 0, 20, 20), box_instance(300, 230, 20, 20)], depth, strong, SIZE)
    assert corner == "no depth here: 0 % of the object's pixels have one"
    assert middle.point[2] == 2
    cloud = make_cloud(depth, strong, np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE, np.uint8))
    assert len(cloud) == np.isfinite(x).sum() and np.isfinite(cloud["x"]).all()


@pytest.mark.parametrize(
    ("lens", "reason"),
    [
        (Lens("division", (0.1,)), "the distortion model 'division' of the camera_info is not known: expected one of"),
        (Lens("plumb_bob", (0.1,) * 8), "8 coefficients d of plumb_bob: expected 4 or 5"),
        (Lens("equidistant", (0.1,) * 5), "5 coefficients d of equidistant: expected 4"),
        (Lens("plumb_bob", (np.nan,) * 5), "expected finite numbers"),
    ],
)
def test_a_lens_that_is_not_known_gives_a_reason_and_no_position(lens, reason):
    camera = replace(PINHOLE, lens=lens)
    assert reason in camera.problem
    (found,) = locate([box_instance(300, 230, 20, 20)], np.full(SIZE, 2.0, np.float32), camera, SIZE)
    assert found == camera.problem


def test_the_rays_of_a_camera_are_computed_once():
    one, other = (Intrinsics(400, 410, 310, 245, 64, 48, Lens("plumb_bob", (0.1, 0, 0, 0))) for _ in range(2))
    assert one.ray_map()[0] is other.ray_map()[0]
    assert not one.ray_map()[0].flags.writeable
