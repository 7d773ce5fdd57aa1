"""Turn one shard into one sidecar: what every worker of every runner does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from training.captions.clean import clean_caption
from training.captions.extraction import extract_labels
from training.captions.samples import FEW_LABELS, NO_LABEL, CaptionSample, DamageError, Shard, named
from training.captions.sidecars import Header, Record, read_header, read_sidecar, write_sidecar
from training.captions.stop_words import stop_list
from training.captions.taggers import load_tagger


@dataclass(frozen=True)
class Settings:
    """What the labels depend on; a sidecar made with others is made anew.

    Attributes:
        tagger: name of the tagger, as `load_tagger` takes it.
        tagger_version: what it calls itself.
        stop_list: version of the stop-list.
        min_labels: captions with fewer labels are dropped (N = 1 trains neither L_back nor L_sep).
    """

    tagger: str
    tagger_version: str
    stop_list: int
    min_labels: int


@dataclass
class Summary:
    """What a worker reports of a shard.

    Attributes:
        header: that of its sidecar.
        labels: how often each label occurs.
        per_caption: how many captions have how many labels.
        skipped: the sidecar was there already.
        seconds: spent on it.
    """

    name: str
    header: Header
    labels: Counter[str] = field(default_factory=Counter)
    per_caption: Counter[int] = field(default_factory=Counter)
    skipped: bool = False
    seconds: float = 0.0


def process_shard(shard: Shard, settings: Settings) -> Summary:
    """Write the sidecar of a shard unless it is there, and summarise it.

    Damaged data is counted and named in the summary; only what concerns the output is raised.

    Raises:
        OSError: the sidecar cannot be written.
        ValueError: the tagger cannot be loaded.
    """
    started = time.perf_counter()
    try:
        source = shard.identity()
    except OSError as error:
        header = Header({"file": shard.name}, asdict(settings), unread=f"cannot be read: {error}")
        return Summary(shard.name, header)
    finished = _finished(shard.sidecar, source, asdict(settings))
    if finished:
        return _summary(shard.name, *finished, skipped=True, started=started)
    samples: list[CaptionSample] = []
    damage = ""
    try:
        for sample in shard.samples():
            samples.append(named(sample))
    except DamageError as error:
        damage = str(error)
    records = label_samples(samples, settings)
    header = write_sidecar(shard.sidecar, records, source, asdict(settings), damage)
    return _summary(shard.name, header, records, skipped=False, started=started)


def label_samples(samples: Iterable[CaptionSample], settings: Settings) -> list[Record]:
    """Extract the labels of samples; the records come in their order.

    Raises:
        ValueError: the tagger cannot be loaded, or is another here than where the settings were made.
    """
    samples = list(samples)
    captions = [clean_caption(sample.caption) for sample in samples if not sample.problem]
    tagger = load_tagger(settings.tagger)
    if tagger.name != settings.tagger_version:
        raise ValueError(
            f"this worker has the tagger {tagger.name}, the program that called it {settings.tagger_version}; "
            "install the same on every machine."
        )
    tagged = tagger.tag(captions)
    records = []
    for key, _, problem, caption_id in samples:
        labels: tuple[str, ...] = ()
        if not problem:
            labels = tuple(extract_labels(next(tagged), stop_list()))
            if len(labels) < settings.min_labels:
                labels, problem = (), FEW_LABELS if labels else NO_LABEL
        records.append(Record(key, labels, problem, caption_id))
    return records


def _finished(
    path: Path, source: Mapping[str, object], settings: Mapping[str, object]
) -> tuple[Header, list[Record]] | None:
    """Read a sidecar that is there, whole and made of the same data with the same settings."""
    try:
        header = read_header(path)
        if (header.source, header.settings) != (source, settings):
            return None
        return header, list(read_sidecar(path))
    except (OSError, ValueError):
        return None


def _summary(name: str, header: Header, records: Iterable[Record], skipped: bool, started: float) -> Summary:
    labels = [record.labels for record in records if not record.dropped]
    return Summary(
        name,
        header,
        labels=Counter(label for group in labels for label in group),
        per_caption=Counter(map(len, labels)),
        skipped=skipped,
        seconds=time.perf_counter() - started,
    )
