"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_whole(path: Path, write: Callable[[IO[bytes]], object], durable: bool = True) -> None:
    """Write a file whole or not at all: a full disk or a killed process leaves the older one as it was.

    write: called with the open binary file. durable: wait until the disk has it, so that not even a power cut leaves
    half of it; thousands of small files that can be made again are faster without.
    Raise OSError where it cannot be written, and whatever `write` raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
