"""What was logged into an .rrd file, read back with Rerun's own reader."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from rerun.chunk import RrdReader


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each entity by frame: lists by the names of components, numbers by those of timelines.

    Times are in nanoseconds.
    """
    found = defaultdict(list)
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        names = [name.rpartition(":")[2] for name in batch.schema.names]
        for row in zip(*map(_values, batch.columns), strict=True):
            found[chunk.entity_path.lstrip("/").replace("\\", "")].append(dict(zip(names, row, strict=True)))
    return {name: sorted(kept, key=lambda row: row.get("frame") or 0) for name, kept in found.items()}


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_temporal(column.type):  # Python's own types have no nanoseconds
        column = column.cast(pa.int64())
    return column.to_pylist()
