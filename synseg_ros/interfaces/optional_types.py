"""Message types of packages that are not installed everywhere."""

from __future__ import annotations

from importlib import import_module


def optional_type(name: str) -> type | None:
    """Return the class of a message type, or None where its package is not installed.

    Args:
        name: Such as "vision_msgs/msg/LabelInfo".
    """
    package, folder, kind = name.split("/")
    try:
        return getattr(import_module(f"{package}.{folder}"), kind, None)
    except ImportError:
        return None


def required_type(name: str) -> type:
    """Return the class of a message type.

    Args:
        name: Such as "vision_msgs/msg/LabelInfo".

    Raises:
        ImportError: Its package is not installed.
    """
    found = optional_type(name)
    if found is None:
        raise ImportError(f"{name} is not installed: install ros-$ROS_DISTRO-{name.split('/')[0].replace('_', '-')}")
    return found
