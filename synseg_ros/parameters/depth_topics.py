"""Which topics a camera's positions come from: those that parameters name, and those that follow from other topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from synseg_ros.parameters.options import check_topic

PARAMETERS = ("depth_topics", "camera_info_topics", "depth_info_topics")
DepthTopicNames = tuple[str, str, str]  # of depth, of camera_info, and of the depth camera's camera_info


def depth_topics(
    cameras: Mapping[str, str],
    depth: Iterable[str],
    info: Iterable[str],
    depth_info: Iterable[str],
    check_names: bool = True,
    names: tuple[str, str, str] = PARAMETERS,
) -> dict[str, DepthTopicNames | None]:
    """Say where each camera's positions come from.

    Args:
        cameras: The cameras' topics by name.
        depth: The parameter depth_topics.
        info: The parameter camera_info_topics.
        depth_info: The parameter depth_info_topics.
        check_names: Whether the parameters may only name these cameras.
        names: What errors call the three parameters.

    Returns:
        The topics by the camera's name; None where it has no depth.

    Raises:
        ValueError: A parameter has no valid topic, or no camera that it belongs to.
    """
    depths, infos, depth_infos = (
        _by_camera(name, values, cameras, check_names)
        for name, values in zip(names, (depth, info, depth_info), strict=True)
    )
    found: dict[str, DepthTopicNames | None] = {}
    for camera, topic in cameras.items():
        measured = depths.get(camera)
        found[camera] = measured and (
            measured,
            infos.get(camera) or info_topic(topic),
            depth_infos.get(camera) or info_topic(measured),
        )
    return found


def info_topic(topic: str) -> str:
    """Return the camera_info that belongs to a topic of images.

    Args:
        topic: Such as "/camera/image_raw/compressed".
    """
    base, slash, _ = topic.removesuffix("/compressed").removesuffix("/compressedDepth").rpartition("/")
    return f"{base}{slash}camera_info"


def _by_camera(parameter: str, values: Iterable[str], cameras: Iterable[str], check_names: bool) -> dict[str, str]:
    """Read TOPIC or CAMERA=TOPIC into topics by camera; raise ValueError for anything else."""
    cameras, topics = list(cameras), {}
    for text in values:
        name, equals, topic = text.rpartition("=")
        check_topic(parameter, topic)
        if not equals and len(cameras) > 1:
            raise ValueError(f"{parameter}: {text!r} does not say which camera it is for: expected CAMERA={text}")
        name = name if equals else cameras[0]
        if check_names and name not in cameras:
            raise ValueError(f"{parameter}: there is no camera {name!r}; cameras: {', '.join(cameras)}")
        if name in topics:
            raise ValueError(f"{parameter}: the camera {name!r} has two topics: give it one")
        topics[name] = topic
    return topics
