"""Sidecars: the labels of a shard, in a file of their own beside it.

A sidecar is a text file of JSON lines, NNNNN.labels.jsonl beside NNNNN.tar. The first line is the header:

    {"synseg_labels": 1, "source": {...}, "settings": {...}, "samples": 3, "kept": 2, ...}

After it comes one line per sample, in the shard's own order:

    {"key": "000000000", "labels": ["brown dog", "sofa"]}
    {"key": "000000001", "labels": [], "dropped": "too few labels"}

A COCO image has several captions and so several lines with its key, told apart by "caption_id". Sidecars are written
whole or not at all, and the same data with the same settings gives the same bytes, whatever ran them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synseg_model.files import write_whole
from training.captions.samples import DAMAGED, printable

SUFFIX = ".labels.jsonl"
FORMAT = 1
NAMED_DAMAGES = 100  # of a shard; more are counted


def sidecar_name(part: int) -> str:
    """Name the sidecar of a part, where one file of captions is split into parts."""
    return f"{part:05d}{SUFFIX}"


@dataclass(frozen=True)
class Record:
    """The labels of a sample, or why it has none."""

    key: str
    labels: tuple[str, ...] = ()
    dropped: str = ""
    caption_id: int | str | None = None

    def line(self) -> str:
        """Write the record as one JSON line."""
        entry: dict[str, object] = {"key": self.key}
        if self.caption_id is not None:
            entry["caption_id"] = self.caption_id
        entry["labels"] = self.labels
        if self.dropped:
            entry["dropped"] = self.dropped
        return json.dumps(entry, ensure_ascii=False) + "\n"


@dataclass
class Header:
    """What a sidecar says of itself.

    Attributes:
        source: the shard's identity.
        settings: what the labels depend on: tagger, stop-list, smallest number of labels.
        samples: lines that follow.
        kept: samples with labels.
        dropped: samples without, by reason.
        damaged: where data was damaged, at most NAMED_DAMAGES entries.
        damages: how many there were.
        unread: why the shard could not be read to its end, if so.
    """

    source: Mapping[str, object]
    settings: Mapping[str, object]
    samples: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    damages: int = 0
    unread: str = ""

    def line(self) -> str:
        """Write the header as one JSON line."""
        entries = {name: value for name, value in vars(self).items() if name != "unread" or value}
        return json.dumps({"synseg_labels": FORMAT, **entries}, ensure_ascii=False) + "\n"


def write_sidecar(
    path: Path,
    records: Sequence[Record],
    source: Mapping[str, object],
    settings: Mapping[str, object],
    damage: str = "",
) -> Header:
    """Write a sidecar atomically and return its header.

    Args:
        damage: why the shard could not be read to its end, if so.
    """
    damaged = [f"{record.key}: {record.dropped}" for record in records if record.dropped in DAMAGED]
    header = Header(
        source,
        settings,
        samples=len(records),
        kept=sum(not record.dropped for record in records),
        dropped=dict(sorted(Counter(record.dropped for record in records if record.dropped).items())),
        damaged=damaged[-NAMED_DAMAGES:],
        damages=len(damaged),
        unread=damage,
    )
    lines = [header.line(), *(record.line() for record in records)]
    write_whole(path, lambda file: file.writelines(printable(line).encode() for line in lines))
    return header


def read_header(path: str | Path) -> Header:
    """Read the first line of a sidecar.

    Raises:
        ValueError: the file is no sidecar of this format.
    """
    with Path(path).open(encoding="utf-8") as file:
        return _header(file.readline(), path)


def read_sidecar(path: str | Path) -> Iterator[Record]:
    """Yield the records of a sidecar, dropped ones included.

    Raises:
        ValueError: the file is no sidecar of this format, or its lines are not those that its header promises.
    """
    with Path(path).open(encoding="utf-8") as file:
        header = _header(file.readline(), path)
        count = 0
        for line in file:
            try:
                entry = json.loads(line)
                yield Record(entry["key"], tuple(entry["labels"]), entry.get("dropped", ""), entry.get("caption_id"))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {count + 2}: no record ({error}). Delete it and prepare it anew."
                ) from error
            count += 1
    if count != header.samples:
        raise ValueError(
            f"{path} has {count} records, its header says {header.samples}. Delete it and prepare it anew."
        )


def _header(line: str, path: str | Path) -> Header:
    try:
        fields = json.loads(line)
        version = fields.pop("synseg_labels")
        if version != FORMAT:
            raise ValueError(f"format {version}, this program reads {FORMAT}")
        return Header(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no label sidecar: {error}. python -m training.prepare writes them.") from error
