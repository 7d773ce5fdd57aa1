"""The parameters of both nodes: one table each, of which declarations, files, launch arguments and docs are made.

No library is imported here, so that launch files and tests can read the tables without ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from synseg_model.config import DEFAULT_MODEL
from synseg_model.viewer.target import read_target
from synseg_ros.interfaces.camera_names import camera_names
from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS, MONO8
from synseg_ros.parameters.depth_topics import DepthTopicNames, depth_topics
from synseg_ros.parameters.options import NAME, check_topic, option


@dataclass(frozen=True)
class NodeSettings:
    """List the parameters of the segmentation node.

    Raises:
        ValueError: A topic is none, or values do not fit together.
    """

    autostart: bool = option(
        True, "Configure and activate at the start. false: wait for a lifecycle manager or ros2 lifecycle."
    )
    model: str = option(DEFAULT_MODEL, "Name of a shipped model, a model folder, an exported folder, or a CLIPSeg id.")
    engine: str = option(
        "auto",
        "What runs the network: 'auto', 'torch', 'onnxruntime', 'openvino' or 'tensorrt'. 'null' runs no network and "
        "draws stripes; 'null:20' takes 20 ms for that.",
    )
    device: str = option("auto", "Where the network runs: 'auto' (a GPU if there is one), 'cpu' or 'cuda:0'.")
    precision: str = option(
        "auto",
        "Number format of the engines torch and openvino. 'auto': fp16 on a GPU, fp32 on a CPU. 'bf16' is nearly twice "
        "as fast on CPUs that have it (AVX512-BF16, AMX). 'int8': with openvino, for a model that int8 was added to.",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
    )
    compile: bool = option(
        False,
        "Compile the network in the background, which makes frames faster about half a minute later. Only with the "
        "engine torch on a GPU. It needs a C compiler.",
    )
    keep_labels: int = option(
        0,
        "Number of labels per frame that are decoded in full: those that are most active at a coarse resolution. With "
        "many labels this is a few times as fast. 0: all labels. Not with the engine tensorrt.",
        minimum=0,
        maximum=65535,
    )
    expect_domain: str = option(
        "photographs",
        "What the cameras show, such as 'photographs' or 'generated scenes'. The node warns of a model that is for "
        "other images. Empty: no warning.",
    )
    camera: str = option("/camera/image_raw", "Topic of the camera, if there is one only.")
    camera_topics: tuple[str, ...] = option((), "Topics of several cameras; they replace 'camera'.")
    camera_names: tuple[str, ...] = option(
        (),
        "The <camera> in the output topics synseg/<camera>/..., one name per topic. Empty: the first part of each "
        "topic, resolved and without the node's namespace. A topic of one part gives 'camera'. Where two names would "
        "be the same, all parts of the topic are joined.",
    )
    transport: str = option(
        "auto",
        "'raw': sensor_msgs/Image. 'compressed': sensor_msgs/CompressedImage on TOPIC/compressed. 'auto': whichever of "
        "the two is published on the topic, else what is published on TOPIC/compressed.",
        choices=("auto", "raw", "compressed"),
    )
    labels: tuple[str, ...] = option((), "The vocabulary at the start. Empty: wait for one on synseg/vocab.")
    threshold: float = option(
        0.0,
        "Activation from which on a pixel belongs to a label. 0: the model's own threshold. A vocabulary with "
        "thresholds of its own keeps them.",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    label_thresholds: tuple[str, ...] = option(
        (),
        "Thresholds of single labels, as in ['person=0.4', 'red ball=0.7']. They come before 'threshold'.",
        live=True,
    )
    max_labels: int = option(
        1203, "Largest number of labels in a vocabulary, of all clients together.", minimum=1, maximum=65535
    )
    client_labels: int = option(
        64, "Largest number of labels of one client of a service, and of one request.", minimum=1, maximum=65535
    )
    client_requests: float = option(
        10.0,
        "Largest number of requests per second that one client of a service may make. Twice as many may come at once.",
        minimum=0.1,
        maximum=1000.0,
        live=True,
    )
    request_timeout: float = option(
        5.0,
        "Longest time until a service answers, seconds, in addition to the time that the request asks for. A request "
        "for a vocabulary may take 60 s.",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    cache_dir: str = option("", "Folder where text embeddings are kept. Empty: the user's cache folder.")
    max_rate: float = option(
        0.0,
        "Largest number of frames per second that are segmented for each camera. 0: as many as there is time for.",
        minimum=0.0,
        maximum=1000.0,
        live=True,
    )
    mask_encoding: str = option(
        MONO8,
        "How masks are encoded in ClassMask and Instance, always without loss: 'mono8' (a byte per pixel), 'png' (a "
        "file of one bit per pixel) or 'rle' (lengths of runs).",
        choices=MASK_ENCODINGS,
        live=True,
    )
    publish_masks: bool = option(True, "Publish masks while they have a subscriber.", live=True)
    publish_label_map: bool = option(True, "Publish label_map while it has a subscriber.", live=True)
    publish_confidence: bool = option(True, "Publish confidence while it has a subscriber.", live=True)
    publish_overlay: bool = option(
        True, "Publish overlay and overlay/compressed while they have a subscriber.", live=True
    )
    publish_class_topics: bool = option(
        False,
        "Publish the mask of each label as a mono8 image on a topic of its own, classes/<label>, for the first 64 "
        "labels of the vocabulary.",
        live=True,
    )
    publish_detections: bool = option(True, "Publish detections while they have a subscriber.", live=True)
    publish_objects: bool = option(True, "Publish objects while they have a subscriber.", live=True)
    publish_points: bool = option(True, "Publish points while they have a subscriber.", live=True)
    points_background: bool = option(
        False, "Put the points of the background into points, too, with label 0.", live=True
    )
    depth_topics: tuple[str, ...] = option(
        (),
        "Topics of depth images, for positions: TOPIC for the only camera, CAMERA=TOPIC with several. Empty: no depth.",
    )
    camera_info_topics: tuple[str, ...] = option(
        (),
        "Topics of the cameras' camera_info, as TOPIC or CAMERA=TOPIC. By default camera_info in the namespace of the "
        "camera's topic.",
    )
    depth_info_topics: tuple[str, ...] = option(
        (),
        "Topics of the depth cameras' camera_info, as TOPIC or CAMERA=TOPIC. By default camera_info in the namespace "
        "of the depth topic. It is used where depth has another frame_id, or shows another view, than the camera.",
    )
    target_frame: str = option(
        "", "The frame that objects are published in, such as 'base_link'. Empty: the camera's own frame.", live=True
    )
    depth_tolerance: float = option(
        0.03,
        "Seconds that may lie between the stamps of a frame and of its depth image.",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    position_wait: float = option(
        0.05,
        "Seconds for which the node waits for a depth image or a transform that is late. Other cameras wait, too.",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    rerun: str = option(
        "",
        "Where the viewer Rerun shows the frames: the HOST:PORT of a viewer, a FILE.rrd, or 'spawn' to start a viewer "
        "on this machine. Empty: nowhere.",
    )
    stale_seconds: float = option(
        3.0,
        "Seconds without a frame after which the log and the diagnostics warn of a camera.",
        minimum=0.1,
        maximum=3600.0,
        live=True,
    )
    slow_ms: float = option(
        0.0,
        "Latency (p99) in milliseconds above which the diagnostics warn. 0: never.",
        minimum=0.0,
        maximum=60000.0,
        live=True,
    )

    def __post_init__(self) -> None:
        for topic in self.camera_topics or (self.camera,):
            check_topic("camera_topics" if self.camera_topics else "camera", topic)
        if self.rerun:
            read_target(self.rerun, "rerun")
        self.thresholds_by_label()
        self.depths(self.cameras(), check_names=False)  # the names may be others where ROS resolves the topics

    def cameras(self, resolve: Callable[[str], str] | None = None) -> dict[str, str]:
        """Name the cameras.

        Args:
            resolve: Returns the topic that ROS makes of a given one, after which the camera is named. By default the
                topic is resolved as for a node called synseg.

        Returns:
            The topics by the camera's name, in the order given.

        Raises:
            ValueError: Names are not valid, too few or too many, or not distinct.
        """
        topics = self.camera_topics or (self.camera,)
        resolved = [resolve(topic) if resolve else topic.replace("~", "/synseg", 1) for topic in topics]
        names = self.camera_names
        if names and len(names) != len(topics):
            raise ValueError(
                f"camera_names has {len(names)} names for {len(topics)} topics: give one name each, or none"
            )
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"camera_names: {name!r} is not a valid name: expected letters, digits and _, no digit first"
                )
        named = dict(zip(names or camera_names(resolved), topics, strict=True))
        if len(named) < len(topics) or len(set(resolved)) < len(topics):
            raise ValueError(
                f"camera_topics {list(topics)} and names {list(names)}: expected distinct topics and names"
            )
        return named

    def depths(self, cameras: Mapping[str, str], check_names: bool = True) -> dict[str, DepthTopicNames | None]:
        """Say where each camera's positions come from.

        Args:
            cameras: The cameras' topics by name.
            check_names: Whether the parameters may only name these cameras.

        Returns:
            By the camera's name the topics of its depth, of its camera_info and of the depth camera's camera_info; None
            where it has no depth.

        Raises:
            ValueError: A parameter has no valid topic, or no camera that it belongs to.
        """
        return depth_topics(
            cameras, self.depth_topics, self.camera_info_topics, self.depth_info_topics, check_names=check_names
        )

    def engine_options(self) -> dict[str, object]:
        """Return the options of the engine that differ from their defaults."""
        options = {"precision": self.precision, "keep_labels": self.keep_labels, "compile": self.compile}
        return {name: value for name, value in options.items() if value not in ("auto", 0, False)}

    def thresholds_by_label(self) -> dict[str, float]:
        """Return label_thresholds by label, in lower case."""
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
                raise ValueError(f"label_thresholds: {label.strip()!r} is given twice: give each label once")
            thresholds[label.strip().casefold()] = value
        return thresholds


@dataclass(frozen=True)
class PlayerSettings:
    """List the parameters of the player.

    Raises:
        ValueError: A topic is none.
    """

    source: str = option(
        "photographs",
        "'photographs' (a slow move over those that ship with the package), 'scenes' (generated images, only where the "
        "training package is installed), an image, a folder, a video or a device such as /dev/video0. For photographs "
        "and scenes the truth is known.",
    )
    topic: str = option(
        "/camera/image_raw", "Topic of the frames. camera_info and truth/... are in the same namespace."
    )
    frame_id: str = option("camera", "frame_id of the headers.")
    parent_frame: str = option(
        "base_link",
        "For scenes: the frame in which /tf_static says where the camera is, 1 m above it and looking forward. Empty: "
        "no transform.",
    )
    fps: float = option(
        0.0,
        "Frames per second. 0: a video's own rate, else 15. A device sets its own rate.",
        minimum=0.0,
        maximum=1000.0,
    )
    loop: bool = option(True, "Start again at the end. Photographs and scenes never end.")
    wait_for: str = option(
        "",
        "A topic of type synseg_ros/FrameInfo. The player publishes a frame when the frame before is answered there, "
        "so that none is skipped. Empty: publish at the given rate, as a camera does.",
    )
    seed: int = option(0, "Number of the generated scene.", minimum=0, maximum=2**31 - 1)
    width: int = option(640, "Width of photographs and scenes in pixels.", minimum=32, maximum=8192)
    height: int = option(480, "Height of photographs and scenes in pixels.", minimum=32, maximum=8192)

    def __post_init__(self) -> None:
        check_topic("topic", self.topic)
        if self.wait_for:
            check_topic("wait_for", self.wait_for)
