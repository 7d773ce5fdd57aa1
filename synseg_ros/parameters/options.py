"""What a parameter is, and how its values are checked, read from text and written for a ROS process.

No library is imported here, so that launch files and tests can read parameters without ROS.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

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
    """Make a dataclass field that is a ROS parameter.

    Args:
        default: Its default, which gives its type, too.
        description: What it does, for users.
        minimum: Smallest number accepted; None for no limits.
        maximum: Largest number accepted.
        choices: The texts accepted; empty for any.
        live: Whether it may be changed while the node runs.
    """
    metadata = {
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "live": live,
    }
    return dataclasses.field(default=default, metadata=metadata)


def check_topic(parameter: str, topic: str) -> None:
    """Check that ROS accepts a parameter's value as a topic.

    Args:
        parameter: Name of the parameter, for the error.
        topic: Its value.

    Raises:
        ValueError: ROS does not accept it.
    """
    if not _TOPIC.fullmatch(topic):
        raise ValueError(
            f"{parameter}: {topic!r} is not a valid topic: expected names of letters, digits and _, no digit first, "
            "joined by /, such as /camera/image_raw, image_raw or ~/image_raw"
        )


def nearest(name: str, known: Iterable[str], alike: float = 0.7) -> str:
    """Find the known name that is most like a misspelt one.

    Args:
        name: The misspelt name.
        known: The known names.
        alike: How alike they must be, 0 to 1.

    Returns:
        The known name, "" where none is alike enough.
    """
    return next(iter(difflib.get_close_matches(name, list(known), 1, alike)), "")


def from_text(field: dataclasses.Field, text: str) -> Any:
    """Read a parameter's value from a command line.

    Args:
        field: The parameter.
        text: Its value. Lists are written as "a, b" or, in ROS's way, as "['a', 'b']".

    Raises:
        ValueError: The value is not accepted.
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
    """Write parameters as command line arguments for a ROS process.

    Args:
        values: Their values by name.
    """
    arguments = ["--ros-args"]
    for name, value in values.items():
        # ROS reads values as YAML, of which JSON is a part: texts keep whatever is in them. [] would have no type.
        written = json.dumps([""] if value == [] else value, ensure_ascii=False)
        arguments += ["-p", f"{name}:={written}"]
    return arguments


def check_value(field: dataclasses.Field, value: Any) -> None:
    """Check a value against a parameter's choices and range.

    Args:
        field: The parameter.
        value: A value of its type.

    Raises:
        ValueError: The value is not accepted.
    """
    choices, minimum, maximum = (field.metadata[key] for key in ("choices", "minimum", "maximum"))
    if choices and value not in choices:
        raise ValueError(f"{field.name} is {value!r}; accepted: {', '.join(choices)}")
    if minimum is not None and not minimum <= value <= maximum:  # nan is in no order
        raise ValueError(f"{field.name} is {value!r}; accepted: {minimum} to {maximum}")


def make_settings(table: type, values: Mapping[str, Any]) -> Any:
    """Make the settings of a table from parameters.

    Lists become tuples without empty texts, because ROS writes an empty list of texts as [''].

    Args:
        table: NodeSettings or PlayerSettings.
        values: The parameters by name; those that are missing have their defaults.

    Raises:
        ValueError: A value is not accepted, or values do not fit together.
    """
    given = {}
    for field in dataclasses.fields(table):
        value = values.get(field.name, field.default)
        value = tuple(filter(None, value)) if isinstance(value, (list, tuple)) else value
        check_value(field, value)
        given[field.name] = value
    return table(**given)
