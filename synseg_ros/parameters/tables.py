"""The parameters of both nodes: one table each, from which declarations, files, launch arguments and docs are made.

No library is imported here, so that launch files and tests read the tables without ROS.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from synseg_model.config import DEFAULT_MODEL
from synseg_ros.interfaces.camera_names import camera_names

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)  # what ROS accepts as a part of a topic
_PART = r"(?:[A-Za-z_]|\{\w+\})(?:\w|\{\w+\})*"  # the same with ROS's substitutions, such as {ns}
_TOPIC = re.compile(rf"(?:~?/)?{_PART}(?:/{_PART})*", re.ASCII)


def option(
    default: Any,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """Make a dataclass field that is a ROS parameter: its default, what it does, what it accepts.

    live: it may be changed while the node runs.
    """
    metadata = {
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "live": live,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NodeSettings:
    """List the parameters of the segmentation node. Raises ValueError for values that do not fit together."""

    autostart: bool = option(
        True, "Configure and activate at the start; false: wait for a lifecycle manager or ros2 lifecycle."
    )
    model: str = option(DEFAULT_MODEL, "A shipped model, a model folder, or a CLIPSeg id.")
    engine: str = option(
        "auto",
        "How the network is run: 'auto' or the name of an engine, such as 'torch'; 'null' runs none and draws "
        "stripes, 'null:20' takes 20 ms for that.",
    )
    device: str = option("auto", "Where the network is run: 'auto', 'cpu' or 'cuda:0'.")
    precision: str = option(
        "auto",
        "Numbers that the engines torch and openvino compute with; 'auto': fp16 on a GPU, fp32 on the CPU. 'bf16' is "
        "nearly twice as fast on CPUs that have it (AVX512-BF16, AMX).",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    keep_labels: int = option(
        0,
        "Look in full only for so many labels of each frame, those that a coarse look finds most active: a few times "
        "as fast with many labels; 0: for all. Not with tensorrt.",
        minimum=0,
        maximum=65535,
    )
    expect_domain: str = option(
        "photographs",
        "What the cameras show, such as 'photographs' or 'generated scenes': a model that says that it is for other "
        "images is used with a warning; empty: with none.",
    )
    camera: str = option("/camera/image_raw", "Topic of the camera, if there is only one.")
    camera_topics: tuple[str, ...] = option((), "Topics of several cameras, in the place of 'camera'.")
    camera_names: tuple[str, ...] = option(
        (),
        "The <camera> in the output topics synseg/<camera>/..., one per topic; empty: the first part of each topic, "
        "resolved and without the node's namespace ('camera' where there is one part only), or all of it where two "
        "would be called the same.",
    )
    transport: str = option(
        "auto",
        "'raw': sensor_msgs/Image; 'compressed': sensor_msgs/CompressedImage on TOPIC/compressed; 'auto': whichever of "
        "the two is published on the topic, else what is published on TOPIC/compressed.",
        choices=("auto", "raw", "compressed"),
    )
    labels: tuple[str, ...] = option((), "The vocabulary to start with; empty: wait for one on synseg/vocab.")
    threshold: float = option(
        0.0,
        "Activation from which on a pixel belongs to a label; 0: the model's own. Vocabularies that bring thresholds "
        "keep theirs.",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    label_thresholds: tuple[str, ...] = option(
        (),
        "Thresholds of single labels, which come before 'threshold', as in ['person=0.4', 'red ball=0.7'].",
        live=True,
    )
    max_labels: int = option(
        1203, "Longest vocabulary that is accepted, of all clients together.", minimum=1, maximum=65535
    )
    client_labels: int = option(
        64, "Labels that one client of a service may have, or ask for at once.", minimum=1, maximum=65535
    )
    client_requests: float = option(
        10.0,
        "Requests per second that one client of a service may make; twice as many may come at once.",
        minimum=0.1,
        maximum=1000.0,
        live=True,
    )
    request_timeout: float = option(
        5.0,
        "A service request is answered after so many seconds at the latest, beyond those that it asks for itself; one "
        "for a vocabulary after 60 s.",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    cache_dir: str = option("", "Folder for text embeddings; empty: the user's cache folder.")
    max_rate: float = option(
        0.0,
        "Frames per second and camera that are segmented at most; 0: as many as there is time for.",
        minimum=0.0,
        maximum=1000.0,
        live=True,
    )
    publish_masks: bool = option(True, "Publish masks, if somebody subscribes to them.", live=True)
    publish_label_map: bool = option(True, "Publish label_map, if somebody subscribes to it.", live=True)
    publish_confidence: bool = option(True, "Publish confidence, if somebody subscribes to it.", live=True)
    publish_overlay: bool = option(True, "Publish overlay, if somebody subscribes to it.", live=True)
    publish_class_topics: bool = option(
        False,
        "Offer one mono8 image topic per label, classes/<label>, which come and go with the vocabulary; of the first "
        "64 labels.",
        live=True,
    )
    stale_seconds: float = option(
        3.0,
        "A camera that is silent for so long is named in a warning, in the log and in the diagnostics.",
        minimum=0.1,
        maximum=3600.0,
        live=True,
    )
    slow_ms: float = option(
        0.0,
        "Latency (p99) that is worth a warning in the diagnostics, milliseconds; 0: none.",
        minimum=0.0,
        maximum=60000.0,
        live=True,
    )

    def __post_init__(self) -> None:
        for topic in self.camera_topics or (self.camera,):
            check_topic("camera_topics" if self.camera_topics else "camera", topic)
        self.cameras()
        self.thresholds_by_label()

    def cameras(self, resolve: Callable[[str], str] | None = None) -> dict[str, str]:
        """Return the topics by the camera's name, in the order given.

        resolve: finds the topic that ROS makes of one that was given, after which the camera is named; by default that
        of a node called synseg.
        """
        topics = self.camera_topics or (self.camera,)
        resolved = [resolve(topic) if resolve else topic.replace("~", "/synseg", 1) for topic in topics]
        names = self.camera_names
        if names and len(names) != len(topics):
            raise ValueError(f"camera_names has {len(names)} names for {len(topics)} topics: give one each, or none")
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"camera_names: {name!r} is no name: expected letters, digits and _, no digit first")
        named = dict(zip(names or camera_names(resolved), topics, strict=True))
        if len(named) < len(topics) or len(set(resolved)) < len(topics):
            raise ValueError(f"camera_topics {list(topics)} and names {list(names)}: expected no two alike")
        return named

    def engine_options(self) -> dict[str, object]:
        """Return the engine's options that are set."""
        options = {"precision": self.precision, "keep_labels": self.keep_labels}
        return {name: value for name, value in options.items() if value not in ("auto", 0)}

    def thresholds_by_label(self) -> dict[str, float]:
        """Return label_thresholds by label in small letters."""
        thresholds = {}
        for text in self.label_thresholds:
            label, equals, number = text.rpartition("=")
            try:
                value = float(number)
            except ValueError:
                value = -1.0
            if not (equals and label.strip() and 0 <= value <= 1):
                raise ValueError(f"label_thresholds: {text!r} is not LABEL=NUMBER with a number from 0 to 1")
            if label.strip().casefold() in thresholds:
                raise ValueError(f"label_thresholds: {label.strip()!r} is there twice")
            thresholds[label.strip().casefold()] = value
        return thresholds


@dataclass(frozen=True)
class PlayerSettings:
    """List the parameters of the player. Raises ValueError for a name that is no topic."""

    source: str = option(
        "photographs",
        "'photographs' (a slow move over those that ship with the package), 'scenes' (generated images, only where the "
        "training package is installed), an image, a folder, a video or a device such as /dev/video0. For photographs "
        "and scenes the truth is known.",
    )
    topic: str = option("/camera/image_raw", "Topic of the frames; camera_info and truth are beside it.")
    frame_id: str = option("camera", "frame_id of every header.")
    fps: float = option(
        0.0,
        "Frames per second; 0: a video's own, else 15. A device sets its own pace.",
        minimum=0.0,
        maximum=1000.0,
    )
    loop: bool = option(True, "Start again at the end; photographs and scenes never end.")
    wait_for: str = option(
        "",
        "A synseg_ros/FrameInfo topic: publish a frame only when the one before was answered there, so that "
        "none is skipped; empty: publish at the given rate, as a camera does.",
    )
    seed: int = option(0, "Which generated scene is shown.", minimum=0, maximum=2**31 - 1)
    width: int = option(640, "Width of photographs and scenes, pixels.", minimum=32, maximum=8192)
    height: int = option(480, "Height of photographs and scenes, pixels.", minimum=32, maximum=8192)

    def __post_init__(self) -> None:
        check_topic("topic", self.topic)
        if self.wait_for:
            check_topic("wait_for", self.wait_for)


def check_topic(parameter: str, topic: str) -> None:
    """Raise ValueError for a parameter's value that ROS accepts as no topic."""
    if not _TOPIC.fullmatch(topic):
        raise ValueError(
            f"{parameter}: {topic!r} is no topic: expected names of letters, digits and _, no digit first, with / "
            "between, such as /camera/image_raw, image_raw or ~/image_raw"
        )


def nearest(name: str, known: Iterable[str], alike: float = 0.7) -> str:
    """Return the known name that a misspelt one is most like, '' where it is less alike than that, from 0 to 1."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, alike)), "")


def from_text(field: dataclasses.Field, text: str) -> Any:
    """Read a parameter's value as it stands on a command line; raise ValueError for one that is not accepted.

    Lists are separated by commas; [..] around them, and quotes around their parts then, are ROS's way to write them.
    """
    if isinstance(field.default, tuple):
        bracketed = text.startswith("[") and text.endswith("]")
        parts = (part.strip() for part in (text[1:-1] if bracketed else text).split(","))
        return [part.strip("'\"") if bracketed else part for part in parts if part]
    if isinstance(field.default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{field.name}:={text}: expected true or false")
        return text.lower() == "true"
    try:
        value = type(field.default)(text)
    except ValueError:
        raise ValueError(f"{field.name}:={text}: expected a number, such as {field.name}:={field.default}") from None
    check_value(field, value)
    return value


def ros_arguments(values: Mapping[str, Any]) -> list[str]:
    """Write values by name as command line arguments for a ROS process."""
    arguments = ["--ros-args"]
    for name, value in values.items():
        # ROS reads values as YAML, of which JSON is a part: texts keep whatever is in them. [] would have no type.
        written = json.dumps([""] if value == [] else value, ensure_ascii=False)
        arguments += ["-p", f"{name}:={written}"]
    return arguments


def check_value(field: dataclasses.Field, value: Any) -> None:
    """Raise ValueError for a value that is not among a field's choices or not in its range."""
    choices, minimum, maximum = (field.metadata[key] for key in ("choices", "minimum", "maximum"))
    if choices and value not in choices:
        raise ValueError(f"{field.name} is {value!r}; accepted: {', '.join(choices)}")
    if minimum is not None and not minimum <= value <= maximum:  # nan is in no order
        raise ValueError(f"{field.name} is {value!r}; accepted: {minimum} to {maximum}")


def make_settings(table: type, values: Mapping[str, Any]) -> Any:
    """Make the settings of a table; raise ValueError for a value that is not accepted.

    Lists become tuples without empty texts: [''] is how ROS writes a list of texts that is empty.
    """
    given = {}
    for field in dataclasses.fields(table):
        value = values.get(field.name, field.default)
        value = tuple(filter(None, value)) if isinstance(value, (list, tuple)) else value
        check_value(field, value)
        given[field.name] = value
    return table(**given)
