"""Write a recording that appears under its name when it is complete, and not before."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from synseg_ros.bags.message_types import MessageTypes

logger = logging.getLogger(__name__)

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_VERSION = 9  # of metadata.yaml, as ROS 2 Jazzy and later write it
_FOREVER = QosTime(9223372036, 854775807)
_REPLACED = "replaced"  # the bag that was at PATH, until the new one is there
_BAG_FILES = (".mcap", ".db3", ".zstd", ".db3-wal", ".db3-shm", ".db3-journal")


def qos(depth: int, latched: bool = False) -> Qos:
    """Describe a reliable publisher: the QoS that `ros2 bag play` offers when it plays the topic.

    Args:
        depth: Number of messages kept for slow subscribers.
        latched: Whether subscribers that come late get the last messages.
    """
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        avoid_ros_namespace_conventions=False,
    )


class NewBag:
    """A rosbag2 folder in the making, for use in a `with`.

    It is written as PATH.partial/NAME and moved to PATH at the end. If the work ends early, PATH stays as it was. Then
    PATH.partial holds what was written: a closed bag after Ctrl-C, whatever reached the disk after a crash.

    Args:
        path: PATH, the new folder.
        types: The message types.
        storage: One of STORAGES.
        overwrite: Replace a bag at PATH, and the rest of an interrupted run.

    Attributes:
        about: Texts for the bag's custom data; they may be set until the bag is entered.

    Raises:
        ValueError: PATH exists, or is not a valid name for a bag.
        OSError: Nothing can be written.
    """

    def __init__(self, path: Path, types: MessageTypes, storage: str = "mcap", overwrite: bool = False) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self._folder = self.partial / path.name
        self.about: dict[str, str] = {}
        self._types, self._storage = types, storage
        self._useless = False
        self._check(overwrite)

    def _check(self, overwrite: bool) -> None:
        if not self.path.name or not _is_text(self.path.name):
            raise ValueError(f"{str(self.path)!r} is not a valid name for a bag: expected UTF-8")
        if self._storage == "sqlite3" and set("?#%") & set(str(self.path)):
            raise ValueError(
                f"{self.path}: rosbags cannot write a database at a path with ?, # or %: choose another path, or mcap"
            )
        for path in (self.path, self.partial):
            if not _taken(path):
                continue
            if not overwrite:
                rest = " (the rest of an interrupted run)" if path == self.partial else ""
                raise ValueError(f"{path}{rest} exists: choose another output or --overwrite")
            if not (_is_bag(path) if path == self.path else self._is_rest(path)):
                raise ValueError(f"{path} exists and is not a bag: choose another output")

    def _is_rest(self, path: Path) -> bool:
        """Tell whether a folder holds what an interrupted run left, and nothing else."""
        own = (self.path.name, _REPLACED)
        return path.is_dir() and not path.is_symlink() and all(entry.name in own for entry in path.iterdir())

    def __enter__(self) -> NewBag:
        if self.partial.exists():
            shutil.rmtree(self.partial)
        with self._naming_errors():
            self.partial.mkdir(parents=True)
            try:
                self._writer = self._open()
            except BaseException:
                shutil.rmtree(self.partial, ignore_errors=True)
                raise
        return self

    def _open(self) -> Writer:
        writer = Writer(self._folder, version=_VERSION, storage_plugin=STORAGES[self._storage])
        if self._storage == "mcap":  # masks and label maps become a fraction; every reader of MCAP unpacks it
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in self.about.items():
            writer.set_custom_data(key, value)
        writer.open()
        return writer

    def discard(self) -> None:
        """Leave nothing behind if the work ends early from now on, because what was written is of no use."""
        self._useless = True

    def add_topic(self, topic: str, kind: str, profile: Qos) -> Connection:
        """Add a topic of one of the known types.

        Args:
            topic: Name of the topic.
            kind: Its type, such as "std_msgs/msg/Header".
            profile: Its QoS, see `qos`.

        Returns:
            The topic, for `write`.
        """
        return self.add_recorded_topic(topic, kind, *self._types.describe(kind), [profile])

    def add_recorded_topic(
        self, topic: str, kind: str, definition: str, digest: str, profiles: Sequence[Qos]
    ) -> Connection:
        """Add a topic of any type.

        Args:
            topic: Name of the topic.
            kind: Its type.
            definition: Definition of the type.
            digest: Hash of the type (RIHS01).
            profiles: QoS of its publishers.

        Returns:
            The topic, for `write`.
        """
        with self._naming_errors():
            return self._writer.add_connection(
                topic, kind, msgdef=definition, rihs01=digest, offered_qos_profiles=profiles
            )

    def write(self, messages: Iterable[tuple[Connection, Any]], timestamp: int) -> None:
        """Write messages that belong together: all, or none.

        Args:
            messages: Topic and message each; bytes are written as they are.
            timestamp: Time of reception in nanoseconds.
        """
        encoded = [(c, m if isinstance(m, bytes) else self._types.encode(m)) for c, m in messages]
        with _uninterrupted(), self._naming_errors():
            for connection, data in encoded:
                self._writer.write(connection, timestamp, data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with _uninterrupted(), self._naming_errors():
                self._finish()
            return
        with _uninterrupted(), contextlib.suppress(Exception):  # what ended the work is what counts
            if self._useless or not any(self._writer.counts.values()):
                self._writer.abort()
                shutil.rmtree(self.partial)
            elif issubclass(kind, KeyboardInterrupt):
                self._writer.close()
                logger.warning("the frames done so far are in %s", self._folder)
            else:
                self._writer.abort()

    def _finish(self) -> None:
        self._writer.close()
        for file in (*self._folder.iterdir(), self._folder):  # or a power cut could leave the name without the data
            _sync(file)
        if _taken(self.path):
            os.rename(self.path, self.partial / _REPLACED)
        os.rename(self._folder, self.path)
        shutil.rmtree(self.partial)

    @contextlib.contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise OSError(f"cannot write {self._folder}: {reason}") from None


def _taken(path: Path) -> bool:
    """Tell whether something would be lost: an empty folder would not."""
    return path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir())))


def _is_text(name: str) -> bool:
    """Tell whether a file name is valid Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_bag(path: Path) -> bool:
    """Tell whether a folder holds the files of a bag and nothing else."""
    if path.is_symlink() or not path.is_dir():
        return False
    return all(file.name == "metadata.yaml" or file.name.endswith(_BAG_FILES) for file in path.iterdir())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off until the block is done, which must be short: half a record makes a file unreadable."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C reaches the main thread only
        return
    waiting = []
    before = signal.signal(signal.SIGINT, lambda *_: waiting.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting and callable(before):
        before(signal.SIGINT, None)
