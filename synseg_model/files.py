"""Files that appear whole or not at all, and the folder of caches."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO

__all__ = ["default_folder", "part_of", "write_json", "write_whole"]


def write_whole(path: Path, write: Callable[[IO[bytes]], object], durable: bool = True) -> None:
    """Write a file whole or not at all: after a full disk or a killed process, the older file is as it was.

    Any number of threads, processes and hosts may write one file at once: the last whole one stays.

    Args:
        path: the file; its folder is made where it is missing.
        write: called with the open binary file.
        durable: wait until the disk has the file, so that not even a power cut leaves half of it. Thousands of small
            files that can be made again are faster without.

    Raises:
        OSError: where the file cannot be written. An exception of `write` passes through.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        with open(part, "xb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: object, indent: int = 2) -> None:
    """Write a value as indented JSON, whole or not at all.

    Args:
        path: the file.
        value: anything that JSON can hold.
        indent: spaces for each level.

    Raises:
        OSError: where the file cannot be written.
    """
    write_whole(path, lambda file: file.write((json.dumps(value, indent=indent) + "\n").encode()))


def part_of(path: Path, suffix: str = "") -> Path:
    """Name a new file in the folder of another one, to write into and then rename; no two calls give the same name.

    The name is random: threads share the id of their process, and hosts of a shared folder have equal ids.

    Args:
        path: the file that the new one becomes.
        suffix: how the name ends, for libraries that choose the format by it.
    """
    return path.with_name(f".{secrets.token_hex(8)}.part{suffix}")


def default_folder() -> Path | None:
    """Find the folder of caches: $SYNSEG_CACHE_DIR, else synseg in the XDG cache folder; None without a home folder."""
    chosen = os.environ.get("SYNSEG_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the XDG standard ignores a relative one
        return base / "synseg"
    try:
        return Path.home() / ".cache" / "synseg"
    except RuntimeError:
        return None
