"""MCAP files without ROS 2 messages: what they hold, and how it becomes a rosbag2."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2.storage_mcap import read_string

from synseg_ros.bags.salvage import CHANNEL, MCAP_MAGIC, MESSAGE, SCHEMA, records, unpack

_HEADER = 0x01
_LOOKED_AT = 50  # records with messages: all topics come before their first message, most of them at the beginning
_NAMED = 3


def foreign_content(path: Path) -> str:
    """Say what an MCAP file without any ROS 2 message holds, and how to convert it.

    Damage is not looked for.

    Args:
        path: Path of the file.

    Returns:
        A sentence for users, "" for a file with ROS 2 messages.

    Raises:
        OSError: The file cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(len(MCAP_MAGIC)) != MCAP_MAGIC:
                return ""
            code, size = struct.unpack("<BQ", stream.read(9))
            profile = read_string(BytesIO(stream.read(size))) if code == _HEADER else ""
            encodings = _encodings(stream, path.stat().st_size)
    except OSError:
        raise
    except Exception:  # damaged bytes can raise anything in a parser
        return ""
    if any(message == "cdr" for message, _, _ in encodings):
        return ""
    if profile == "ros1" or any(message == "ros1" for message, _, _ in encodings):
        return (
            "it holds ROS 1 messages; accepted: ROS 2 messages. Convert the .bag that it was made of: "
            "rosbags-convert --src IN.bag --dst OUT"
        )
    if not encodings:
        return ""
    kinds = ", ".join(sorted({message or schema for message, schema, _ in encodings}))
    names = sorted({name for _, _, name in encodings if name})
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"it holds {kinds} messages ({', '.join(names[:_NAMED])}{more}); accepted: ROS 2 messages (cdr). Record the "
        "images as sensor_msgs/msg/CompressedImage with ros2 bag, or write them to files for synseg segment"
    )


def is_whole_without_profile(path: Path) -> bool:
    """Tell whether an MCAP file is whole but does not name ROS 2 in its header, as other tools write it.

    Args:
        path: Path of the file.
    """
    try:
        with path.open("rb") as stream:
            magic, (code, size) = stream.read(len(MCAP_MAGIC)), struct.unpack("<BQ", stream.read(9))
            profile = read_string(BytesIO(stream.read(size))) if code == _HEADER else "ros2"
            stream.seek(-len(MCAP_MAGIC), 2)
            return magic == stream.read() == MCAP_MAGIC and profile != "ros2"
    except Exception:  # damaged bytes can raise anything in a parser
        return False


def _encodings(stream: BinaryIO, size: int) -> set[tuple[str, str, str]]:
    """Return encoding, schema's encoding and schema's name of the topics at the beginning of a file."""
    schemas: dict[int, tuple[str, str]] = {}
    found, looked_at = set(), 0
    for record in records(stream, size):
        had_messages = False
        for code, content in unpack(record):
            body = BytesIO(content)
            if code == SCHEMA:
                (key,) = struct.unpack("<H", body.read(2))
                name, encoding = read_string(body), read_string(body)
                schemas[key] = encoding, name
            elif code == CHANNEL:
                _, schema = struct.unpack("<HH", body.read(4))
                read_string(body)  # the topic
                found.add((read_string(body), *schemas.get(schema, ("", ""))))
            elif code == MESSAGE:
                had_messages = True
        looked_at += had_messages
        if looked_at == _LOOKED_AT:
            break
    return found
