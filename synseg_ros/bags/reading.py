"""Read a recording (rosbag2, MCAP or SQLite) as far as it goes, and say what is wrong with it."""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

from synseg_model.io.sources import natural_order
from synseg_ros.bags.foreign import foreign_content, is_whole_without_profile
from synseg_ros.bags.salvage import Message, Salvage, salvage

logger = logging.getLogger(__name__)

STORAGES = (".mcap", ".db3")
_LEFTOVERS = ("-wal", "-journal")  # what SQLite still had to write into the database


class Recording:
    """A rosbag2, read file after file. Close it, or use it in a `with`.

    Args:
        path: A folder, or a single .mcap or .db3 file.

    Attributes:
        connections: Every topic of every file.
        damaged: Number of files that cannot be read whole. Each is logged as a warning when it is noticed, which may be
            while messages are read.

    Raises:
        ValueError: There is no recording, or nothing of it can be read.
        OSError: A file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.damaged = 0
        self._stack = ExitStack()
        try:
            files, complaint = self._files()
            opened = [(file, self._open(file)) for file in files]
        except BaseException:
            self.close()
            raise
        if complaint and not self.damaged:  # else the file that it is about has been named
            self._note(complaint)
        self._readers = [(file, reader) for file, reader in opened if reader is not None]
        if not self._readers:
            raise ValueError(f"nothing in {self.path} can be read")
        self.connections = [connection for _, reader in self._readers for connection in reader.connections]

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Yield the messages of some topics.

        Args:
            topics: Names of the topics.

        Yields:
            The connection (topic), the time of reception in nanoseconds, and the bytes (CDR).
        """
        for file, reader in self._readers:
            wanted = [connection for connection in reader.connections if connection.topic in topics]
            if wanted:
                # Only damage makes times that no recording could be written with again.
                yield from (message for message in self._messages(file, reader, wanted) if 0 <= message[1] < 2**63)

    def first(self, topic: str, kind: str) -> bytes | None:
        """Return the first message of a topic.

        Args:
            topic: Name of the topic.
            kind: Type of the message.

        Returns:
            The bytes (CDR). None where they cannot be read: `messages` logs the reason.
        """
        for _, reader in self._readers:
            wanted = [c for c in reader.connections if (c.topic, c.msgtype) == (topic, kind) and c.msgcount]
            with contextlib.suppress(Exception):  # rosbags does not catch what damaged bytes raise
                return next((bytes(data) for _, _, data in reader.messages(wanted)), None) if wanted else None
        return None

    def _messages(self, file: Path, reader: Reader | Salvage, wanted: list[Connection]) -> Iterator[Message]:
        reached = -1
        try:
            for message in reader.messages(wanted):
                reached = message[1]
                yield message
            return
        except Exception as error:  # rosbags does not catch what damaged bytes raise
            rest = self._salvage(file, _line(error))
        if rest is not None:
            for message in rest.messages(rest.connections):
                if message[1] > reached and any(message[0].topic == connection.topic for connection in wanted):
                    yield message

    def _files(self) -> tuple[list[Path], str]:
        """List the files to read in turn, and say what is wrong with the folder, if anything."""
        if not self.path.is_dir():
            self.path.stat()  # raises where there is nothing
            if self.path.suffix == ".bag":
                raise ValueError(
                    f"{self.path} is not a rosbag2 but a bag of ROS 1. Convert it: "
                    f"rosbags-convert --src {shlex.quote(str(self.path))} --dst OUT"
                )
            if self.path.suffix not in STORAGES:
                raise ValueError(f"{self.path} is not a rosbag2: expected its folder, or a .mcap or .db3 file")
            return [self.path], ""
        complaint = ""
        try:
            with Reader(self.path) as whole:
                if whole.compression_mode in ("file", "message"):
                    return [self.path], ""  # only the folder as a whole says how it is packed
        except FileNotFoundError:
            logger.warning(
                "%s has no metadata.yaml: its recording did not end properly, or is still going on", self.path
            )
        except Exception as error:  # the files, each by itself, may be sound or not
            complaint = f"{self.path} is damaged: {_line(error)}"
        files = [file for file in self.path.iterdir() if file.suffix in STORAGES and file.is_file()]
        if not files:
            raise ValueError(complaint or f"{self.path} is not a rosbag2: there is no .mcap or .db3 file in it")
        return sorted(files, key=lambda file: natural_order(file.name)), complaint

    def _open(self, file: Path) -> Reader | Salvage | None:
        for suffix in _LEFTOVERS:
            leftover = file.with_name(file.name + suffix)
            if leftover.is_file() and leftover.stat().st_size:
                self._note(f"{leftover} holds messages that are not in {file.name} yet: they cannot be read")
        if file.suffix == ".mcap" and file.is_file():
            foreign = foreign_content(file)
            if foreign:
                raise ValueError(f"{file} is not a recording of ROS 2: {foreign}")
        try:
            return self._stack.enter_context(Reader(file))
        except Exception as error:  # rosbags does not catch what damaged bytes raise
            if file.suffix == ".mcap" and is_whole_without_profile(file):
                return salvage(file)  # rosbags reads such files not at all
            return self._salvage(file, _line(error))

    def _salvage(self, file: Path, reason: str) -> Salvage | None:
        try:
            if file.is_dir():
                raise ValueError("a compressed recording is read in one piece")
            found = salvage(file)
        except (OSError, ValueError) as error:
            self._note(f"{file} cannot be read on: {reason}; {_line(error)}")
            return None
        count = sum(connection.msgcount for connection in found.connections)
        self._note(f"{file} is damaged ({reason}): {count} of its messages can be read")
        return found

    def _note(self, text: str) -> None:
        self.damaged += 1
        logger.warning("%s", text)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
