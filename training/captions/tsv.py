"""Captions in a TSV file: url and caption as CC12M and CC3M are published, or id and caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.captions.samples import BAD_LINE, NOT_TEXT, CaptionSample, DamageError, ShardFile, checked
from training.captions.sidecars import sidecar_name

KEY_COLUMNS = ("key", "id", "image_id", "url")
LONGEST_LINE = 1 << 20  # bytes; a line without end is damage, not a caption


@dataclass(frozen=True)
class TsvShard(ShardFile):
    """A run of lines of a TSV file.

    Attributes:
        first_line: number of its first line, from 1.
        offset: where that line begins, bytes.
        lines: number of lines.
        columns: places of key and caption.
    """

    first_line: int
    offset: int
    lines: int
    columns: tuple[int, int]

    @property
    def name(self) -> str:
        """Name the file and its lines."""
        return f"{self.path.name}, lines {self.first_line}-{self.first_line + self.lines - 1}"

    def identity(self) -> dict[str, object]:
        """Name the file and the lines."""
        return {**super().identity(), "first_line": self.first_line, "lines": self.lines}

    def samples(self) -> Iterator[CaptionSample]:
        """Yield one sample per line; a damaged line comes as a problem under its number."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                for number in range(self.first_line, self.first_line + self.lines):
                    yield _sample(file.readline(), number, self.columns)
        except OSError as error:
            raise DamageError(f"the file cannot be read on: {error}") from error


def tsv_shards(path: Path, folder: Path, shard_size: int) -> list[TsvShard]:
    """Split a TSV file into shards of `shard_size` lines.

    A first line that names a column "caption" is a header; without one the caption is the column that is no address, or
    the second.

    Raises:
        ValueError: the first line has not two columns.
    """
    with path.open("rb") as file:
        first = file.readline(LONGEST_LINE).decode("utf-8", errors="replace").rstrip("\r\n").split("\t")
        columns, has_header = _columns(first, path)
        if not has_header:
            file.seek(0)
        line, offset = (2 if has_header else 1), file.tell()
        starts: list[tuple[int, int]] = []
        count = 0
        for row in file:
            if count % shard_size == 0:
                starts.append((line + count, offset))
            count += 1
            offset += len(row)
    return [
        TsvShard(
            path,
            folder / sidecar_name(i),
            first_line=number,
            offset=start,
            lines=min(shard_size, count - i * shard_size),
            columns=columns,
        )
        for i, (number, start) in enumerate(starts)
    ]


def _columns(first: Sequence[str], path: Path) -> tuple[tuple[int, int], bool]:
    """Find the places of key and caption, and whether the first line is a header."""
    if len(first) < 2:
        raise ValueError(
            f"{path}: its first line has no tab. Expected url and caption, or id and caption, tab-separated."
        )
    names = [name.strip().lower() for name in first]
    if "caption" in names:
        caption = names.index("caption")
        keys = [names.index(name) for name in KEY_COLUMNS if name in names]
        return (keys[0] if keys else (0 if caption else 1), caption), True
    addresses = [column.startswith(("http://", "https://")) for column in first]
    return ((1, 0) if addresses[1] and not addresses[0] else (0, 1)), False


def _sample(line: bytes, number: int, columns: tuple[int, int]) -> CaptionSample:
    try:
        fields = line.decode("utf-8").rstrip("\r\n").split("\t")
    except UnicodeDecodeError:
        return CaptionSample(f"line {number}", problem=NOT_TEXT)
    key, caption = columns
    if len(fields) <= max(columns) or not fields[key].strip():
        return CaptionSample(f"line {number}", problem=BAD_LINE)
    return checked(fields[key].strip(), fields[caption])
