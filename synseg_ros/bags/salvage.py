"""Read what is left of a damaged storage file: an MCAP without its end, an SQLite database with holes.

rosbags does not open such files, because it needs their index first. Here records are read as they come.
"""

from __future__ import annotations

import sqlite3
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat, Qos
from rosbags.rosbag2.metadata import parse_qos
from rosbags.rosbag2.storage_mcap import Schema, decompress, get_msgdef, get_qos, read_bytes, read_string

MCAP_MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK = 0x03, 0x04, 0x05, 0x06

Message = tuple[Connection, int, bytes]  # the topic, time of reception in ns, CDR


class Salvage:
    """A damaged file, read in the order in which it was written. It has the methods of a reader of rosbags.

    Args:
        path: Path of the file.

    Attributes:
        connections: The topics found, with the number of messages that can be read.

    Raises:
        ValueError: The file is of another kind.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        counts: Counter[int] = Counter()
        found: dict[int, Connection] = {}
        for connection, _, _ in self._read():
            found[connection.id] = connection
            counts[connection.id] += 1
        self.connections = [connection._replace(msgcount=counts[key]) for key, connection in found.items()]

    def messages(self, connections: Collection[Connection]) -> Iterator[Message]:
        """Yield the messages of some of the connections.

        Args:
            connections: Some of the attribute `connections`.

        Yields:
            The connection, the time of reception in nanoseconds, and the bytes (CDR).
        """
        wanted = {connection.id: connection for connection in connections}
        for connection, timestamp, data in self._read():
            if connection.id in wanted:
                yield wanted[connection.id], timestamp, data

    def _read(self) -> Iterator[Message]:
        raise NotImplementedError


def salvage(path: Path) -> Salvage:
    """Read what is left of a file.

    Args:
        path: A .mcap or .db3 file.

    Raises:
        ValueError: The file is of another kind.
        OSError: The file cannot be opened.
    """
    return (_Mcap if path.suffix == ".mcap" else _Sqlite)(path)


class _Mcap(Salvage):
    """Read every whole record; a chunk that cannot be unpacked is left out, and so is a last record that breaks off."""

    def _read(self) -> Iterator[Message]:
        schemas: dict[int, Schema] = {}
        connections: dict[int, Connection] = {}
        with self.path.open("rb") as stream:
            if stream.read(len(MCAP_MAGIC)) != MCAP_MAGIC:
                raise ValueError("it does not begin like an MCAP file")
            for record in records(stream, self.path.stat().st_size):
                try:
                    for code, content in unpack(record):
                        if code == MESSAGE:
                            channel, _, timestamp, _ = struct.unpack_from("<HIQQ", content)
                            if channel in connections:
                                yield connections[channel], timestamp, content[22:]
                        elif code == SCHEMA:
                            schema = _schema(content)
                            schemas[schema.id] = schema
                        else:
                            connection = _channel(content, schemas)
                            connections[connection.id] = connection
                except Exception:  # damaged bytes can raise anything in a parser: on with the next record
                    continue


class _Sqlite(Salvage):
    """Read the table of messages row by row until a page is missing or broken."""

    def _read(self) -> Iterator[Message]:
        self.path.open("rb").close()  # sqlite3 would not say why it cannot
        uri = f"file:{quote(str(self.path.resolve()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            try:
                # Without this, a file that is shorter than its header says is refused as a whole.
                database.execute("PRAGMA writable_schema=ON")
                connections = self._topics(database)
            except sqlite3.Error as error:
                raise ValueError(f"its list of topics cannot be read ({error})") from None
            try:
                for topic, timestamp, data in database.execute("SELECT topic_id, timestamp, data FROM messages"):
                    if topic in connections and isinstance(data, bytes):
                        yield connections[topic], timestamp, data
            except sqlite3.Error:
                return

    def _topics(self, database: sqlite3.Connection) -> dict[int, Connection]:
        database.row_factory = sqlite3.Row
        rows = database.execute("SELECT * FROM topics").fetchall()
        try:
            definitions = {row["topic_type"]: row for row in database.execute("SELECT * FROM message_definitions")}
        except sqlite3.Error:  # recordings had none before ROS 2 Iron
            definitions = {}
        database.row_factory = None
        topics = {}
        for row in rows:
            definition = MessageDefinition(MessageDefinitionFormat.NONE, "")
            if row["type"] in definitions:
                described = definitions[row["type"]]
                kind = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
                definition = MessageDefinition(kind[described["encoding"]], described["encoded_message_definition"])
            qos = _qos(row["offered_qos_profiles"]) if "offered_qos_profiles" in row.keys() else []  # noqa: SIM118
            ext = ConnectionExtRosbag2(row["serialization_format"], qos)
            topics[row["id"]] = Connection(row["id"], row["name"], row["type"], definition, "", 0, ext, self)
        return topics


def records(stream: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the records of an MCAP file that are whole, and stop where one breaks off.

    Args:
        stream: The file, open at a record.
        end: Size of the file in bytes.

    Yields:
        Code and content of each schema, channel, message and chunk.
    """
    while len(head := stream.read(9)) == 9:
        code, size = struct.unpack("<BQ", head)
        if size > end - stream.tell():
            return
        if code in (SCHEMA, CHANNEL, MESSAGE, CHUNK):
            yield code, stream.read(size)
        else:
            stream.seek(size, 1)


def unpack(record: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the records inside a chunk, or the record itself where it is no chunk.

    Args:
        record: Code and content.

    Yields:
        Code and content of each record.
    """
    code, content = record
    if code != CHUNK:
        yield record
        return
    size, checksum = struct.unpack_from("<QI", content, 16)
    stream = BytesIO(content)
    stream.seek(28)
    compression = read_string(stream)
    (packed,) = struct.unpack("<Q", stream.read(8))
    data = decompress(stream.read(packed), compression, size, checksum)
    yield from records(BytesIO(data), len(data))


def _schema(content: bytes) -> Schema:
    stream = BytesIO(content)
    (key,) = struct.unpack("<H", stream.read(2))
    return Schema(key, read_string(stream), read_string(stream), read_string(stream))


def _channel(content: bytes, schemas: dict[int, Schema]) -> Connection:
    stream = BytesIO(content)
    key, schema = struct.unpack("<HH", stream.read(4))
    topic, encoding, metadata = read_string(stream), read_string(stream), read_bytes(stream)
    definition = get_msgdef(schemas.get(schema))
    ext = ConnectionExtRosbag2(encoding, get_qos(metadata))
    return Connection(key, topic, schemas[schema].name, definition, "", 0, ext, None)


def _qos(text: str) -> list[Qos]:
    try:
        return parse_qos(text)
    except Exception:  # a topic without its quality of service is better than none
        return []
