"""Message types of recordings: those of ROS, ours, those of vision_msgs, and those that a recording defines itself."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from synseg_ros.interfaces.message_maker import MESSAGES, MessageMaker
from synseg_ros.interfaces.object_messages import ObjectMessageMaker

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
VOCABULARY = "synseg_ros/msg/Vocabulary"

_ROOT = Path(__file__).resolve().parents[1]
_IDL_SEPARATOR = "=" * 80 + "\n"


class MessageTypes:
    """The common message types of ROS and ours: as classes, as bytes (CDR), and as text.

    Attributes:
        maker: Makes messages of these classes from results.
        object_maker: Makes messages of these classes from objects.
    """

    def __init__(self) -> None:
        self._store = get_typestore(Stores.LATEST)
        ours: dict[str, Any] = {}
        for path in sorted(_message_folder().glob("*.msg")):
            ours.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"synseg_ros/msg/{path.stem}"))
        for path in sorted((_ROOT / "interfaces" / "vision_msgs" / "msg").glob("*.msg")):  # rosbags does not know them
            ours.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"vision_msgs/msg/{path.stem}"))
        self._store.register(ours)
        classes = {n: self.type(f"{package}/msg/{n}") for package, names in MESSAGES.items() for n in names}
        self.maker = MessageMaker(classes, sequence=np.asarray)
        self.object_maker = ObjectMessageMaker(self.type, sequence=np.asarray)

    def type(self, name: str) -> type:
        """Return the class of a type, which takes all of its fields as keywords.

        Args:
            name: Such as "std_msgs/msg/Header".
        """
        return self._store.types[name]

    def decode(self, data: bytes, name: str) -> Any:
        """Read a message from bytes.

        Args:
            data: The bytes (CDR).
            name: Type of the message, such as "std_msgs/msg/Header".

        Raises:
            ValueError: The bytes are not a message of that type.
        """
        try:
            return self._store.deserialize_cdr(data, name)
        except Exception as error:  # a parser may meet anything in damaged bytes
            raise ValueError(f"the bytes cannot be read as {name} ({error})") from None

    def encode(self, message: Any) -> memoryview:
        """Write a message as bytes (CDR).

        Args:
            message: A message of one of the known types.
        """
        return self._store.serialize_cdr(message, message.__msgtype__)

    def describe(self, name: str) -> tuple[str, str]:
        """Describe a known type.

        Args:
            name: Such as "std_msgs/msg/Header".

        Returns:
            The definition and the hash (RIHS01).
        """
        return self._store.generate_msgdef(name, ros_version=2)[0], self._store.hash_rihs01(name)

    def describe_recorded(self, connection: Connection) -> tuple[str, str]:
        """Describe a recorded topic's type.

        Args:
            connection: The topic as rosbags reads it.

        Returns:
            The definition and the hash (RIHS01).

        Raises:
            ValueError: The recording has no definition that can be read.
        """
        name, definition = connection.msgtype, connection.msgdef
        if definition.format == MessageDefinitionFormat.NONE:
            if name not in self._store.types:
                raise ValueError(f"the recording has no definition of its type {name}")
            return self.describe(name)
        if connection.digest:
            return definition.data, connection.digest
        try:
            store = get_typestore(Stores.EMPTY)
            store.register(_parse(connection))
            return definition.data, store.hash_rihs01(name)
        except Exception as error:  # definitions come from anywhere, too
            raise ValueError(f"the definition of its type {name} cannot be read ({error!r})") from None


@contextlib.contextmanager
def program_with_messages() -> Iterator[Path]:
    """Give a folder of this package that holds the message definitions, for machines that it is sent to alone."""
    folder = _message_folder()
    if _ROOT in folder.parents:
        yield _ROOT
        return
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / _ROOT.name
        shutil.copytree(_ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(folder, copy / "interfaces" / "msg")
        yield copy


def _message_folder() -> Path:
    """Find msg/: inside an installed package, next to it in the source tree."""
    installed, in_source_tree = _ROOT / "interfaces" / "msg", _ROOT.parent / "msg"
    return installed if installed.is_dir() else in_source_tree


def _parse(connection: Connection) -> dict[str, Any]:
    text = connection.msgdef.data
    if connection.msgdef.format == MessageDefinitionFormat.MSG:
        return get_types_from_msg(text, connection.msgtype)
    parts = [part.partition("\n")[2] for part in text.split(_IDL_SEPARATOR) if part.startswith("IDL: ")]
    types: dict[str, Any] = {}
    for part in parts or [text]:
        types.update(get_types_from_idl(part))
    return types
