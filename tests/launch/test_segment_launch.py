"""What the launch file makes of its arguments; the nodes' own tests are elsewhere."""

import os
import runpy
from pathlib import Path

import pytest

pytest.importorskip("launch_ros.actions", reason="needs ROS 2's launch, which does not come as a wheel")

from launch import LaunchContext
from launch_ros.actions import LoadComposableNodes

FILE = Path(__file__).resolve().parents[2] / "launch" / "segment.launch.py"


@pytest.fixture
def start():
    """Return what is started with some arguments, as `ros2 launch` would have it."""
    launch = runpy.run_path(str(FILE))

    def start_with(**arguments):
        context = LaunchContext()
        for argument in launch["generate_launch_description"]().get_launch_arguments():
            argument.execute(context)
        context.launch_configurations.update(arguments)
        return launch["start_node"](context)

    return start_with


@pytest.fixture
def image_transport(tmp_path, monkeypatch):
    """Have image_transport and its plugin found among the installed packages."""
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for package in ("image_transport", "compressed_image_transport"):
        (index / package).touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}:{os.environ['AMENT_PREFIX_PATH']}")


def test_without_a_container_there_is_one_node(start):
    (node,) = start(camera="/front/image_raw", remap="synseg/vocab:=/ask, synseg/active_vocab:=/told")
    assert not isinstance(node, LoadComposableNodes)


def test_a_container_gets_the_cameras_compressors_before_the_node_starts(start, image_transport):
    compressors, _ = start(camera_topics="/front/image_raw,/rear/image_raw", container="/driver")
    assert isinstance(compressors, LoadComposableNodes)


def test_a_parameter_file_that_is_not_there_is_refused_by_name(start):
    with pytest.raises(ValueError, match="params_file:=/no/such: there is no such file"):
        start(params_file="/no/such")


@pytest.mark.parametrize("remap", ["synseg/vocab", "a:=", ":=b", "a:=b:=c"])
def test_a_remapping_that_cannot_be_read_is_refused(start, remap):
    with pytest.raises(ValueError, match=f"remap: '{remap}' is not FROM:=TO"):
        start(remap=remap)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({}, "give camera or camera_topics"), ({"camera": "/a", "transport": "raw"}, "transport:=raw")],
)
def test_a_container_that_cannot_work_is_refused(start, image_transport, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        start(container="/driver", **arguments)


def test_a_container_without_image_transport_is_refused_by_the_packages_name(start):
    with pytest.raises(ValueError, match="needs image_transport, which is not installed: apt install ros-"):
        start(camera="/front/image_raw", container="/driver")


MISSPELT = [("treshold", "threshold"), ("camera_topic", "camera_topics"), ("name_space", "namespace")]


@pytest.mark.parametrize(("given", "meant"), MISSPELT)
def test_a_misspelt_argument_is_named_with_the_nearest_one(given, meant):
    (warning,) = runpy.run_path(str(FILE))["misspelt"]({given: "0.3", "threshold": "0.3"})
    assert f"{given}:=0.3 is no argument of segment.launch.py" in warning and f"did you mean {meant}?" in warning


def test_arguments_of_a_launch_file_that_includes_this_one_are_not_warned_of():
    assert runpy.run_path(str(FILE))["misspelt"]({"use_lidar": "true", "map": "/maps/home.yaml"}) == []


TOPICS = [("~/image_raw", "synseg", "/synseg/image_raw"), ("front/image/compressed", "front", "/front/image")]


@pytest.mark.parametrize("namespace", ["", "/robot1"])
@pytest.mark.parametrize(("topic", "camera", "raw"), TOPICS)
def test_what_is_compressed_is_the_topic_as_the_node_resolves_it(namespace, topic, camera, raw):
    find = runpy.run_path(str(FILE))["raw_topics"]
    assert find({"camera": topic}, "synseg", namespace) == {camera: namespace + raw}
    absolute = f"{namespace}/rear/image"
    assert find({"camera": absolute}, "synseg", namespace) == {"rear": absolute}
