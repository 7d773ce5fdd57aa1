"""What cameras are called, as in synseg/<camera>/...; of the standard library alone, so that launch files may ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def camera_names(topics: Sequence[str], given: Mapping[str, str] | None = None) -> list[str]:
    """Name cameras after the first part of their topics ('camera' where there is one part only).

    given: names by topic, which come first. A topic whose name another camera has too gives all of its parts. The
    topic of compressed frames is called as that of raw ones would be.
    """
    given = given or {}
    raw = [topic.removesuffix("/compressed") for topic in topics]
    named_after = [topic if short in topics else short for topic, short in zip(topics, raw, strict=True)]
    parts = [[part for part in topic.split("/") if part] for topic in named_after]
    first = [part[0] if len(part) > 1 else "camera" for part in parts]
    names = [given.get(topic) or short for topic, short in zip(topics, first, strict=True)]
    counts = Counter(names)
    return [
        name if given.get(topic) or counts[name] == 1 else "_".join(part)
        for topic, name, part in zip(topics, names, parts, strict=True)
    ]
