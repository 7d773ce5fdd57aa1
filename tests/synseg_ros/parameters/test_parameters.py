"""Parameters are declared as the tables say."""

import dataclasses
import re

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from synseg_ros.node.node import SynSegNode
from synseg_ros.parameters.given import warn_of_other_nodes_files
from synseg_ros.parameters.options import from_text, ros_arguments
from synseg_ros.parameters.server import LiveSettings, declare
from synseg_ros.parameters.tables import NodeSettings, PlayerSettings

pytestmark = pytest.mark.ros


@pytest.fixture
def node_with(bench):
    """Make a node that was started with the given parameters."""

    def make(**overrides):
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        node = Node("tested", context=bench.context, parameter_overrides=given)
        bench.closers.append(node.destroy_node)
        return node

    return make


@pytest.mark.parametrize("table", [NodeSettings, PlayerSettings])
def test_without_overrides_every_parameter_has_its_default(node_with, table):
    assert declare(node_with(), table) == table()


def test_overrides_are_taken(node_with):
    settings = declare(node_with(labels=["red ball", "grass"], threshold=0.25, max_labels=7), NodeSettings)
    assert (settings.labels, settings.threshold, settings.max_labels) == (("red ball", "grass"), 0.25, 7)


@pytest.mark.parametrize("table", [NodeSettings, PlayerSettings])
def test_every_parameter_is_described_and_read_only_unless_it_is_live(node_with, table):
    node = node_with()
    declare(node, table)
    for field in dataclasses.fields(table):
        descriptor = node.describe_parameter(field.name)
        assert descriptor.description
        assert descriptor.read_only != field.metadata["live"]


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ({"threshold": 1.5}, InvalidParameterValueException),
        ({"max_labels": 0}, InvalidParameterValueException),
        ({"transport": "pigeon"}, InvalidParameterValueException),
        ({"camera_names": ["a", "b"]}, InvalidParameterValueException),
        ({"model": 3}, InvalidParameterTypeException),
        ({"labels": [1, 2]}, InvalidParameterTypeException),
    ],
)
def test_a_value_of_wrong_range_or_type_is_refused_by_name(node_with, override, error):
    with pytest.raises(error, match=next(iter(override))):
        declare(node_with(**override), NodeSettings)


@pytest.mark.parametrize(
    ("topics", "given", "names"),
    [
        (("/camera/image_raw",), (), ["camera"]),
        (("/front/color/image_raw",), (), ["front"]),
        (("/image",), (), ["camera"]),
        (("/front/image_raw", "/rear/image_raw"), (), ["front", "rear"]),
        (("/cam/left/image", "/cam/right/image", "/rear/image"), (), ["cam_left_image", "cam_right_image", "rear"]),
        (("/front/image_raw", "/rear/image_raw"), ("a", "b"), ["a", "b"]),
    ],
)
def test_a_cameras_name_is_given_or_taken_from_its_topic(topics, given, names):
    cameras = NodeSettings(camera_topics=topics, camera_names=given).cameras()
    assert (list(cameras), list(cameras.values())) == (names, list(topics))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"camera_topics": ("/a/b", "/c/d"), "camera_names": ("x",)}, "1 names for 2 topics"),
        ({"camera_topics": ("/a/b", "/c/d"), "camera_names": ("x", "x")}, "expected distinct topics and names"),
        ({"camera_topics": ("/a/b", "/a/b")}, "expected distinct topics and names"),
        ({"camera_names": ("left eye",)}, "left eye"),
        ({"label_thresholds": ("ball",)}, "'ball' is not LABEL=NUMBER"),
        ({"label_thresholds": ("ball=nan",)}, "ball=nan"),
        ({"label_thresholds": ("ball=0.5", "Ball=0.6")}, "is given twice"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_with_the_reason(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        NodeSettings(**wrong)


def test_of_several_changes_at_once_all_or_none_are_made(node_with):
    heard = []
    node = node_with()
    live = LiveSettings(node, NodeSettings, heard.append)
    wrong = [Parameter("threshold", value=0.25), Parameter("label_thresholds", value=["ball=7"])]
    result = node.set_parameters_atomically(wrong)
    assert not result.successful and "ball=7" in result.reason
    assert (live.value.threshold, heard, node.get_parameter("threshold").value) == (0.0, [], 0.0)
    right = [Parameter("threshold", value=0.25), Parameter("label_thresholds", value=["Ball=0.75"])]
    assert node.set_parameters_atomically(right).successful
    assert (live.value.threshold, live.value.thresholds_by_label()) == (0.25, {"ball": 0.75})
    assert heard == [live.value]


@pytest.mark.parametrize(
    "change", [{"threshold": float("nan")}, {"max_rate": -1.0}, {"model": "other"}, {"threshold": "a"}]
)
def test_a_change_that_is_not_accepted_changes_nothing(node_with, change):
    node = node_with()
    live = LiveSettings(node, NodeSettings, pytest.fail)
    (result,) = node.set_parameters([Parameter(name, value=value) for name, value in change.items()])
    assert not result.successful and result.reason
    assert live.value == NodeSettings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("labels", " person, red ball ,", ["person", "red ball"]),
        ("labels", "no", ["no"]),
        ("model", "2024", "2024"),
        ("labels", "[red ball, 'grass', \"no\"]", ["red ball", "grass", "no"]),
        ("labels", "[a], b", ["[a]", "b"]),
        ("threshold", "0.5", 0.5),
        ("max_labels", "7", 7),
        ("autostart", "False", False),
    ],
)
def test_launch_arguments_are_read_with_the_type_of_their_parameter(name, text, value):
    (field,) = (field for field in dataclasses.fields(NodeSettings) if field.name == name)
    assert from_text(field, text) == value


@pytest.mark.parametrize(("name", "text"), [("threshold", "half"), ("max_labels", "7.5"), ("autostart", "maybe")])
def test_a_launch_argument_of_another_type_is_refused_by_name(name, text):
    (field,) = (field for field in dataclasses.fields(NodeSettings) if field.name == name)
    with pytest.raises(ValueError, match=f"{name}:={text}"):
        from_text(field, text)


@pytest.mark.parametrize(("name", "text"), [("threshold", "1.4"), ("threshold", "nan"), ("max_labels", "0")])
def test_a_launch_argument_out_of_range_is_refused_with_the_range(name, text):
    (field,) = (field for field in dataclasses.fields(NodeSettings) if field.name == name)
    with pytest.raises(ValueError, match=rf"{name} is .*; accepted: \d"):
        from_text(field, text)


@pytest.mark.parametrize("table", [NodeSettings, PlayerSettings])
def test_all_parameters_are_answered_when_they_are_asked_for_at_once(node_with, table):
    node, names = node_with(), [field.name for field in dataclasses.fields(table)]
    declare(node, table)
    answers = node.get_parameters(names)
    assert [answer.name for answer in answers if answer.type_ != Parameter.Type.NOT_SET] == names


def test_texts_on_a_command_line_stay_texts_whatever_yaml_would_make_of_them(bench):
    given = {"labels": ["no", "1e3", "nan", "Été 🍎", 'a "b": {c}'], "model": "1e3", "threshold": 0.5}
    given["camera_names"] = []
    node = Node("tested", context=bench.context, cli_args=ros_arguments(given))
    bench.closers.append(node.destroy_node)
    assert declare(node, NodeSettings) == NodeSettings(labels=tuple(given["labels"]), model="1e3", threshold=0.5)


def test_a_list_of_an_empty_text_is_an_empty_list(node_with):
    settings = declare(node_with(labels=[""], camera_topics=["", "/a"], label_thresholds=[""]), NodeSettings)
    assert (settings.labels, settings.camera_topics, settings.label_thresholds) == ((), ("/a",), ())


def test_only_options_that_are_set_go_to_the_engine():
    assert NodeSettings().engine_options() == {}
    assert NodeSettings(precision="bf16", keep_labels=5).engine_options() == {"precision": "bf16", "keep_labels": 5}
    assert NodeSettings(precision="int8", compile=True).engine_options() == {"precision": "int8", "compile": True}


@pytest.mark.parametrize("name", ["max_rate", "threshold", "stale_seconds", "slow_ms"])
def test_a_whole_number_is_taken_where_a_number_is_asked_for(node_with, name):
    assert getattr(declare(node_with(**{name: 1}), NodeSettings), name) == 1.0
    node = node_with()
    live = LiveSettings(node, NodeSettings, lambda _: None)
    (result,) = node.set_parameters([Parameter(name, value=1)])
    assert result.successful, result.reason
    assert getattr(live.value, name) == node.get_parameter(name).value == 1.0
    assert node.get_parameter(name).type_ == Parameter.Type.DOUBLE


def test_a_whole_number_that_is_out_of_range_is_refused_all_the_same(node_with):
    node = node_with()
    live = LiveSettings(node, NodeSettings, pytest.fail)
    (result,) = node.set_parameters([Parameter("threshold", value=2)])
    assert not result.successful and live.value.threshold == 0.0
    (result,) = node.set_parameters([Parameter("threshold", value=True)])
    assert not result.successful


@pytest.mark.parametrize(
    ("namespace", "topic", "camera"),
    [
        ("", "~/image_raw", "synseg"),
        ("/robot1", "~/image_raw", "synseg"),
        ("", "front/image_raw", "front"),
        ("/robot1", "front/image_raw", "front"),
        ("/robot1", "/robot1/front/image_raw", "front"),
        ("/robot1", "image_raw", "camera"),
        ("/robot1", "/robot10/image_raw", "robot10"),
        ("", "/here/image_raw", "there"),
    ],
)
def test_a_camera_is_named_after_its_topic_as_ros_resolves_it(bench, namespace, topic, camera):
    remap = ["--ros-args", "-r", "/here/image_raw:=/there/image_raw"]
    given = [Parameter("engine", value="null"), Parameter("camera", value=topic)]
    node = SynSegNode(context=bench.context, namespace=namespace, parameter_overrides=given, cli_args=remap)
    bench.closers += [node.destroy_node, node.close]
    assert node.start()
    assert list(node._cameras) == [camera]
    outputs = {publisher.topic_name for publisher in node.publishers}
    assert f"{namespace}/synseg/{camera}/masks" in outputs


@pytest.mark.parametrize("topic", ["~image", "/a b", "image/", "/", "", "1cam/image", "a//b", "/cam-era/image", "/a/~"])
@pytest.mark.parametrize(
    ("table", "name"),
    [
        (NodeSettings, "camera"),
        (NodeSettings, "camera_topics"),
        (PlayerSettings, "topic"),
        (PlayerSettings, "wait_for"),
    ],
)
def test_a_topic_that_ros_would_refuse_is_refused_by_its_name(table, name, topic):
    if not topic and name in ("camera_topics", "wait_for"):
        return  # an empty text means none
    with pytest.raises(ValueError, match=rf"{name}: {re.escape(repr(topic))} is not a valid topic"):
        table(**{name: (topic,) if name == "camera_topics" else topic})


def test_a_topic_that_is_too_long_for_ros_is_refused_by_its_name(bench, capfd):
    topic = "/a" * 200
    given = [Parameter("engine", value="null"), Parameter("camera", value=topic)]
    node = SynSegNode(context=bench.context, parameter_overrides=given)
    bench.closers += [node.destroy_node, node.close]
    assert not node.start()
    assert topic in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"treshold": 0.3}, "did you mean threshold?"),
        ({"label": ["ball"]}, "did you mean labels?"),
        ({"max_frame_rate": 5.0}, "did you mean max_rate?"),
        ({"wheels": 4}, "ros2 param list /synseg"),
        (
            {"qos_overrides./camera/image.subscription.reliability": "reliable"},
            "did you mean qos_overrides./camera/image_raw.subscription.reliability?",
        ),
    ],
)
def test_a_misspelt_parameter_is_named_with_the_nearest_one(make_rig, given, meant, capfd):
    make_rig(**given)
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "is not known and has no effect" in line]
    assert f"parameter {next(iter(given))} is" in line and meant in line


def test_parameters_that_are_known_are_not_warned_of(make_rig, capfd):
    name = "qos_overrides./camera/image_raw.subscription.reliability"
    make_rig(**{name: "reliable", "threshold": 0.5, "use_sim_time": False})
    assert "has no effect" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("key", "heard"),
    [
        ("/**", True),
        ("synseg", True),
        ("/synseg", True),
        ("/*", True),
        ("/**/synseg", True),
        ("/segmenter", False),
        ("/robot1/synseg", False),
        ("/robot1/**", False),
    ],
)
def test_a_file_of_another_nodes_parameters_is_named(bench, tmp_path, key, heard, capfd):
    file = tmp_path / "mine.yaml"
    file.write_text(f"{key}:\n  ros__parameters:\n    threshold: 0.25\n")
    arguments = ["--ros-args", "--params-file", str(file)]
    node = Node("synseg", context=bench.context, cli_args=arguments)
    bench.closers.append(node.destroy_node)
    assert (declare(node, NodeSettings).threshold == 0.25) == heard  # ROS itself has it so
    warn_of_other_nodes_files(node, arguments)
    said = capfd.readouterr().err
    assert (f"{file} has parameters for /{key.strip('/')} and none for this node, /synseg" in said) != heard


TWO = {"camera_topics": ("/front/image_raw", "/rear/image_raw/compressed")}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"camera": None}),
        (
            {"depth_topics": ("/camera/depth/image_raw",)},
            {"camera": ("/camera/depth/image_raw", "/camera/camera_info", "/camera/depth/camera_info")},
        ),
        (
            {
                **TWO,
                "depth_topics": ("rear=/rear/depth/image/compressedDepth",),
                "depth_info_topics": ("rear=/d/info",),
            },
            {"front": None, "rear": ("/rear/depth/image/compressedDepth", "/rear/camera_info", "/d/info")},
        ),
        (
            {"depth_topics": ("camera=/d",), "camera_info_topics": ("/info",)},
            {"camera": ("/d", "/info", "/camera_info")},
        ),
    ],
)
def test_depth_belongs_to_a_camera_and_brings_its_camera_info(given, expected):
    settings = NodeSettings(**given)
    assert settings.depths(settings.cameras()) == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({**TWO, "depth_topics": ("/depth",)}, "does not say which camera it is for: expected CAMERA=/depth"),
        ({"depth_topics": ("/a", "camera=/b")}, "the camera 'camera' has two topics"),
        ({"depth_topics": ("camera=a b",)}, "'a b' is not a valid topic"),
        ({"depth_topics": ("side=/d",)}, "there is no camera 'side'; cameras: camera"),
    ],
)
def test_depth_without_a_camera_is_refused(given, reason):
    with pytest.raises(ValueError, match=f"depth_topics.*{reason}"):
        NodeSettings(**given).depths(NodeSettings(**{k: v for k, v in given.items() if k in TWO}).cameras())
