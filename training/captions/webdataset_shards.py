"""Captions in webdataset shards, as img2dataset writes them: NNNNN.tar with key.jpg, key.txt and key.json."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from training.captions.samples import (
    NO_CAPTION,
    NO_IMAGE,
    NOT_TEXT,
    REPEATED_KEY,
    TOO_LONG,
    CaptionSample,
    DamageError,
    ShardFile,
    checked,
)

IMAGES = ("jpg", "jpeg", "png", "webp")
_META = re.compile("__.*__")  # webdataset's own, such as __meta__.json
LARGEST_TEXT = 1 << 20  # bytes; a caption's .json has a few thousand


@dataclass(frozen=True)
class TarShard(ShardFile):
    """One tar of samples. A sample's key is its path up to the first dot of the file name, as webdataset has it."""

    def samples(self) -> Iterator[CaptionSample]:
        """Yield one sample per image in the tar's order; the caption is in .txt, else in the .json's "caption"."""
        seen: set[str] = set()
        try:
            with tarfile.open(self.path, "r:") as tar:
                for key, members in _grouped(tar):
                    if key in seen:
                        yield CaptionSample(key, problem=REPEATED_KEY)
                        continue
                    seen.add(key)
                    yield _sample(tar, key, members)
                _require_end(tar)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DamageError(f"the tar ends early or is damaged after {len(seen)} samples: {error}") from error


def _grouped(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Yield key and members by lower-case extension; members of a sample follow each other."""
    key, members = "", {}
    for member in tar:
        if not member.isreg():
            continue
        folder, name = os.path.split(member.name)
        stem, _, extension = name.partition(".")
        if not stem or not extension or _META.fullmatch(stem):
            continue
        next_key = os.path.join(folder, stem)
        if members and next_key != key:
            yield key, members
            members = {}
        key = next_key
        members[extension.lower()] = member
    if members:
        yield key, members


def _require_end(tar: tarfile.TarFile) -> None:
    """Raise where the members stopped at something else than tar's end mark: tarfile ends there without a word."""
    if tar.fileobj is None or tar.fileobj.closed:
        return
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if any(block) or len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end mark is missing" if not block else "a header is damaged")


def _sample(tar: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo]) -> CaptionSample:
    if not any(members[extension].size for extension in IMAGES if extension in members):
        return CaptionSample(key, problem=NO_IMAGE)
    for extension in ("txt", "json"):
        member = members.get(extension)
        if member is None:
            continue
        if member.size > LARGEST_TEXT:
            return CaptionSample(key, problem=TOO_LONG)
        stream = tar.extractfile(member)
        data = stream.read() if stream else b""
        if len(data) < member.size:
            raise EOFError(f"{member.name} has {len(data)} of {member.size} bytes")
        try:
            text = data.decode("utf-8")
            if extension == "txt":
                return checked(key, text)
            content = json.loads(text)
        except ValueError:
            return CaptionSample(key, problem=NOT_TEXT)
        if not isinstance(content, dict):
            return CaptionSample(key, problem=NOT_TEXT)
        return checked(key, content.get("caption"))
    return CaptionSample(key, problem=NO_CAPTION)
