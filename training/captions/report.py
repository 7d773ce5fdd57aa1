"""The report of training.prepare: what became of the captions, as numbers and as a plot."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synseg_model.files import write_whole
from training.captions.extraction import head_noun
from training.captions.samples import printable
from training.captions.work import Summary

REPORT_FILE, PLOT_FILE = "labels-report.json", "labels-frequency.png"
LISTED = 200  # most frequent labels in the report
PLOTTED = 40  # in the plot
REMEMBERED = 2_000_000  # labels; CC12M has more different ones, most of them once
NAMED_DAMAGES = 1000


@dataclass
class Totals:
    """The sum of the shards' summaries.

    Attributes:
        captions: all that were read; `fresh` of them in this run, the rest in runs before.
        labels: frequency of every label. Beyond REMEMBERED different ones, those seen once are forgotten.
        forgotten: how many occurrences were.
        damaged: places of damaged samples, at most NAMED_DAMAGES; damages: how many there were.
        unread: shards that could not be read to their end, each with the reason.
    """

    shards: int = 0
    skipped: int = 0
    captions: int = 0
    fresh: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    forgotten: int = 0
    per_caption: Counter[int] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    damages: int = 0
    unread: list[str] = field(default_factory=list)

    def add(self, summary: Summary) -> None:
        """Add the summary of a shard."""
        header = summary.header
        self.shards += 1
        self.skipped += summary.skipped
        self.captions += header.samples
        self.fresh += 0 if summary.skipped else header.samples
        self.kept += header.kept
        self.dropped.update(header.dropped)
        self.per_caption.update(summary.per_caption)
        self.damaged += [f"{summary.name}: {what}" for what in header.damaged][: NAMED_DAMAGES - len(self.damaged)]
        self.damages += header.damages
        if header.unread:
            self.unread.append(f"{summary.name}: {header.unread}")
        self.labels.update(summary.labels)
        if len(self.labels) > REMEMBERED:
            frequent = Counter({label: count for label, count in self.labels.items() if count > 1})
            self.forgotten += len(self.labels) - len(frequent)
            self.labels = frequent

    @property
    def kept_share(self) -> float:
        """Share of the captions that gave labels, 0 where there are none."""
        return self.kept / self.captions if self.captions else 0.0

    def nouns(self) -> Counter[str]:
        """Count the head nouns of the labels."""
        nouns: Counter[str] = Counter()
        for label, count in self.labels.items():
            nouns[head_noun(label)] += count
        return nouns


def write_report(totals: Totals, folder: Path, seconds: float, settings: dict[str, object]) -> Path:
    """Write labels-report.json and labels-frequency.png into `folder`; returns the path of the first."""
    nouns = totals.nouns()
    report = {
        "settings": settings,
        "shards": totals.shards,
        "shards_done_before": totals.skipped,
        "captions": totals.captions,
        "captions_kept": totals.kept,
        "share_kept": round(totals.kept_share, 4),
        "dropped": dict(totals.dropped.most_common()),
        "labels_per_kept_caption": {str(n): count for n, count in sorted(totals.per_caption.items())},
        "different_labels": len(totals.labels),
        "different_nouns": len(nouns),
        "occurrences_forgotten": totals.forgotten,
        "most_frequent_labels": dict(totals.labels.most_common(LISTED)),
        "most_frequent_nouns": dict(nouns.most_common(LISTED)),
        "shards_unread": totals.unread,
        "damages": totals.damages,
        "damaged": totals.damaged,
        "seconds": round(seconds, 2),
        "captions_per_second": round(totals.fresh / seconds, 1) if seconds and totals.fresh else None,
    }
    path = folder / REPORT_FILE
    text = printable(json.dumps(report, indent=2, ensure_ascii=False)) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))
    if totals.labels:
        plot_frequencies(totals, folder / PLOT_FILE)
    return path


def plot_frequencies(totals: Totals, path: Path) -> None:
    """Draw the most frequent labels, and frequency against rank for labels and nouns."""
    from matplotlib.figure import Figure

    nouns = totals.nouns()
    frequent = totals.labels.most_common(PLOTTED)[::-1]
    figure = Figure(figsize=(12, 8), layout="constrained")
    bars, ranks = figure.subplots(1, 2)
    bars.barh([label for label, _ in frequent], [count for _, count in frequent], color="#4477aa")
    bars.tick_params(axis="y", labelsize=8)
    bars.margins(y=0.01)
    bars.set(xlabel="captions", title=f"the {len(frequent)} most frequent of {len(totals.labels):,} labels")
    for name, counts, color in (("labels", totals.labels, "#4477aa"), ("head nouns", nouns, "#ee6677")):
        values = np.sort(np.fromiter(counts.values(), dtype=np.int64))[::-1]
        ranks.loglog(np.arange(1, len(values) + 1), values, color=color, label=f"{len(values):,} {name}")
    ranks.set(xlabel="rank", ylabel="captions", title="frequency by rank")
    ranks.grid(alpha=0.3)
    ranks.legend()
    figure.suptitle(f"{totals.kept:,} of {totals.captions:,} captions kept ({totals.kept_share:.1%})")
    figure.savefig(path, dpi=110)
