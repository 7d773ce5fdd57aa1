"""A recording with depth gives objects where the recorded scene has them."""

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from synseg_model.instances import POINT
from synseg_ros.bags.message_types import IMAGE
from synseg_ros.interfaces.image_encodings import image_fields
from tests.synseg_ros.bags.recordings import FRAMES, START, STEP, header, message, read, record, run
from training.scenes.scenes import SceneVideo

COLOR, DEPTH, INFO = "/camera/image_raw", "/camera/depth/image_raw", "/camera/camera_info"
SIZE = (48, 64)
LATE = 30_000_000  # nanoseconds after its frame at which depth was recorded, with the frame's stamp
VIDEO = SceneVideo(3, size=SIZE, fps=10.0)
SCENES = [VIDEO.frame(index) for index in range(FRAMES)]
OBJECTS = ("--depth", DEPTH, "--write", "detections", "objects", "points", "label_map")


def rgbd(late=LATE, static=True):
    """A camera with depth, which is recorded after its frame, and its place on the robot."""
    if static:
        place = message(
            "geometry_msgs/msg/TransformStamped",
            header=header(START, "base_link"),
            child_frame_id="lens",
            transform=message(
                "geometry_msgs/msg/Transform",
                translation=message("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=1.0),
                rotation=message("geometry_msgs/msg/Quaternion", x=-0.5, y=0.5, z=-0.5, w=0.5),
            ),
        )
        yield "/tf_static", "tf2_msgs/msg/TFMessage", START, message("tf2_msgs/msg/TFMessage", transforms=[place])
    for index, scene in enumerate(SCENES):
        time = START + index * STEP
        head, camera = header(time, "lens"), scene.intrinsics
        yield COLOR, IMAGE, time, message(IMAGE, header=head, **image_fields(scene.image, "rgb8"))
        yield INFO, "sensor_msgs/msg/CameraInfo", time + 1, info(head, camera)
        depth = np.nan_to_num(scene.depth).astype("<f4")
        pixels = {"height": SIZE[0], "width": SIZE[1], "encoding": "32FC1", "is_bigendian": 0, "step": 4 * SIZE[1]}
        data = depth.reshape(-1).view(np.uint8)
        yield DEPTH, IMAGE, time + late, message(IMAGE, header=head, data=data, **pixels)


def info(head, camera):
    k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1], np.float64)
    return message(
        "sensor_msgs/msg/CameraInfo",
        header=head,
        height=SIZE[0],
        width=SIZE[1],
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).reshape(-1),
        p=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=message("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def test_objects_of_a_recording_are_at_the_recorded_depth(engine, tmp_path, capsys):
    source = record(tmp_path / "in", messages=rgbd())
    assert run(source, tmp_path / "out", *OBJECTS) == 0
    found = read(tmp_path / "out")
    assert len(found["/synseg/camera/detections"]) == len(found["/synseg/camera/objects"]) == FRAMES
    checked = 0
    for index, (_, objects) in enumerate(found["/synseg/camera/objects"]):
        detections = {one.id: one for one in found["/synseg/camera/detections"][index][1].detections}
        assert objects.header.frame_id == "lens"
        for one in objects.detections:
            box, z = detections[one.id].bbox, one.results[0].pose.pose.position.z
            x, y = box.center.position.x - box.size_x / 2, box.center.position.y - box.size_y / 2
            inside = SCENES[index].depth[round(y) : round(y + box.size_y), round(x) : round(x + box.size_x)]
            assert np.nanmin(inside) - 1e-3 <= z <= np.nanmax(inside) + 1e-3
            checked += 1
        points = found["/synseg/camera/points"][index][1].data.view(POINT)
        label_map = found["/synseg/camera/label_map"][index][1].data.reshape(SIZE)
        known = np.isfinite(SCENES[index].depth) & (label_map > 0)
        np.testing.assert_allclose(points["z"], SCENES[index].depth[known], rtol=1e-6)
    assert checked
    assert f"{checked} of " in capsys.readouterr().out


def test_objects_of_a_recording_are_in_the_target_frame(engine, tmp_path):
    source = record(tmp_path / "in", messages=rgbd())
    for name, options in (("own", ()), ("robot", ("--target-frame", "base_link"))):
        assert run(source, tmp_path / name, *OBJECTS, *options) == 0
    own, robot = (read(tmp_path / name)["/synseg/camera/objects"] for name in ("own", "robot"))
    for (_, here), (_, there) in zip(own, robot, strict=True):
        assert there.header.frame_id == "base_link"
        for one, other in zip(here.detections, there.detections, strict=True):
            a, b = one.results[0].pose.pose.position, other.results[0].pose.pose.position
            assert (b.x, b.y, b.z) == pytest.approx((a.z, -a.x, 1.0 - a.y), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "changes", "reason"),
    [
        (("--target-frame", "map"), {}, "transform not available: no transform of the frame 'map' has arrived"),
        ((), {"late": 800_000_000}, "no depth image"),
    ],
)
def test_what_is_missing_is_said_and_gives_no_positions(engine, tmp_path, caplog, options, changes, reason):
    source = record(tmp_path / "in", messages=rgbd(**changes))
    run(source, tmp_path / "out", *OBJECTS, *options)
    found = read(tmp_path / "out")
    assert len(found["/synseg/camera/detections"]) == FRAMES
    assert len(found.get("/synseg/camera/objects", ())) < FRAMES
    assert reason in caplog.text


def test_a_camera_that_is_not_there_is_refused(tmp_path, capsys):
    source = record(tmp_path / "in", messages=rgbd())
    assert run(source, tmp_path / "out", "--depth", f"rear={DEPTH}") == 2
    assert capsys.readouterr().err.strip().endswith("--depth: there is no camera 'rear'; cameras: camera")
