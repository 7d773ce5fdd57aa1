"""What the readers of captions have in common: a sample, a shard of samples, and how a reader is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

MAX_CAPTION = 2000  # characters; longer texts describe a page, not an image

# Why a sample gives no labels. Damaged are those that name a fault of the data.
NO_CAPTION, NO_IMAGE, NOT_TEXT, TOO_LONG = "no caption", "no image", "damaged text", "caption too long"
REPEATED_KEY, BAD_LINE, BAD_NAME = "repeated key", "damaged line", "name is not UTF-8"
NO_LABEL, FEW_LABELS = "no label", "too few labels"
DAMAGED = frozenset({NO_IMAGE, NOT_TEXT, REPEATED_KEY, BAD_LINE, BAD_NAME})


class CaptionSample(NamedTuple):
    """A caption with the key of its image, or the reason why there is none."""

    key: str
    caption: str = ""
    problem: str = ""
    caption_id: int | str | None = None  # where an image has several captions


class DamageError(Exception):
    """The rest of a shard cannot be read; what came before it counts."""


class Shard(Protocol):
    """A part of the data that one worker turns into one sidecar. Shards travel between processes.

    Attributes:
        name: how messages and sidecars name it.
        sidecar: the file that its labels go to.
    """

    @property
    def name(self) -> str: ...

    @property
    def sidecar(self) -> Path: ...

    def identity(self) -> dict[str, object]:
        """Tell what must be unchanged for a finished sidecar to stand: name, size, time, rows."""

    def samples(self) -> Iterator[CaptionSample]:
        """Yield the samples in the order of the data; raises DamageError where no more can be read."""


@dataclass(frozen=True)
class ShardFile:
    """The fields that every kind of shard has."""

    path: Path
    sidecar: Path

    @property
    def name(self) -> str:
        """Name the shard by its file."""
        return self.path.name

    def identity(self) -> dict[str, object]:
        """Name the file, its size and time: tar pads to whole blocks, so a changed one can have the old size."""
        status = self.path.stat()
        return {"file": self.path.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def checked(key: str, caption: object, caption_id: int | str | None = None) -> CaptionSample:
    """Make a sample of a caption that was read, with a problem where it is none, or one that no file could hold."""
    if not isinstance(caption, str):
        return CaptionSample(key, problem=NO_CAPTION if caption is None else NOT_TEXT, caption_id=caption_id)
    if not caption.strip():
        return CaptionSample(key, problem=NO_CAPTION, caption_id=caption_id)
    if len(caption) > MAX_CAPTION:
        return CaptionSample(key, problem=TOO_LONG, caption_id=caption_id)
    if not is_text(caption):
        return CaptionSample(key, problem=NOT_TEXT, caption_id=caption_id)
    return CaptionSample(key, caption, caption_id=caption_id)


def named(sample: CaptionSample) -> CaptionSample:
    """Return a sample that a file can hold: one whose key is no UTF-8 is a problem, its key written with escapes."""
    if is_text(sample.key):
        return sample
    return CaptionSample(printable(sample.key), problem=BAD_NAME)


def printable(text: str) -> str:
    """Return a text with escapes where it is no UTF-8, as in names of files; JSON reads them as what was there."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_text(text: str) -> bool:
    """Tell whether a text can be written: bytes that are no UTF-8 are read as lone surrogates, and so is "\\ud800"."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
