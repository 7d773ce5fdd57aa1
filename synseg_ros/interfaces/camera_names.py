"""Names of cameras, as in synseg/<camera>/... Only the standard library is imported, for launch files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def camera_names(topics: Sequence[str], given: Mapping[str, str] | None = None) -> list[str]:
    """Name cameras after the first part of their topics, or 'camera' where a topic has one part only.

    Where two cameras would have the same name, all parts of their topics are joined. A topic of compressed frames gives
    the same name as the topic of the raw frames.

    Args:
        topics: Distinct topics.
        given: Names by topic, which replace those above.

    Returns:
        One name per topic. They are distinct unless given names are not.
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
