"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_whole(path: Path, write: Callable[[IO[bytes]], object], durable: bool = True) -> None:
    """Write a file whole or not at all: a full disk or a killed process leaves the older one as it was.

    Any number of threads, processes and hosts may write the same file at once: the last whole one stays.

    write: called with the open binary file. durable: wait until the disk has it, so that not even a power cut leaves
    half of it; thousands of small files that can be made again are faster without.
    Raise OSError where it cannot be written, and whatever `write` raises.
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
    """Write JSON for people, whole or not at all; raise OSError where it cannot be written."""
    write_whole(path, lambda file: file.write((json.dumps(value, indent=indent) + "\n").encode()))


def part_of(path: Path, suffix: str = "") -> Path:
    """Name a new file beside `path` to write into, which is then renamed to it; no two calls give the same name.

    The name is random: threads share a process's id, and the hosts of a shared folder have equal ones.
    suffix: how it ends, for libraries that choose the format by it.
    """
    return path.with_name(f".{secrets.token_hex(8)}.part{suffix}")


def default_folder() -> Path | None:
    """Find the cache folder: $SYNSEG_CACHE_DIR, else synseg in the XDG cache folder; None without a home."""
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
