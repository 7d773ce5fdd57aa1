"""Warnings of parameters without effect: misspelt ones, and files that are keyed for another node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from rclpy.node import Node

from synseg_ros.parameters.options import nearest

_QOS = "qos_overrides."


def warn_of_unknown(node: Node, qos: bool = False) -> None:
    """Warn of given parameters that the node has not declared, each with the nearest known name.

    Args:
        node: The node.
        qos: True: look at qos_overrides, which are declared when the topics are created. False: look at all others.
    """
    for name in sorted(getattr(node, "_parameter_overrides", {})):  # rclpy has no other way to ask what was given
        if name.startswith(_QOS) == qos and not node.has_parameter(name):
            meant = nearest(name, node._parameters)
            hint = f": did you mean {meant}?" if meant else f"; see ros2 param list {node.get_fully_qualified_name()}"
            node.get_logger().warning(f"parameter {name} is not known and has no effect{hint}")


def warn_of_other_nodes_files(node: Node, arguments: Sequence[str]) -> None:
    """Warn of parameter files without parameters for this node.

    Args:
        node: The node.
        arguments: The command line.
    """
    own = node.get_fully_qualified_name()
    for flag, file in pairwise(arguments):
        if flag != "--params-file":
            continue
        keys = list(_keys(yaml.safe_load(Path(file).read_text(encoding="utf-8"))))
        if keys and not any(_matches(key, own) for key in keys):
            node.get_logger().warning(
                f"{file} has parameters for {', '.join(keys)} and none for this node, {own}: it has no effect. "
                f"Key them {own} or /**"
            )


def _keys(content: Any, path: str = "") -> Iterator[str]:
    """Yield the names of nodes that a parameter file is for; namespaces may be levels of their own."""
    if not isinstance(content, dict):
        return
    for key, inside in content.items():
        if key == "ros__parameters":
            yield path or "/"
        else:
            yield from _keys(inside, f"{path}/{str(key).strip('/')}")


def _matches(key: str, name: str) -> bool:
    """Tell whether a key of a file, with ROS's wildcards, is for the node of this full name."""
    pattern = re.escape(key).replace(r"/\*\*", "(/.*)?").replace(r"\*", "[^/]*")
    return re.fullmatch(pattern, name) is not None
