"""The results of the demo: a table of numbers and a contact sheet of overlays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from synseg_model.io.drawing import contact_sheet
from synseg_ros.demo.listener import IMAGE_WIDTH, KeptOverlay, Listener, Phase

COLUMNS = 4
TITLES = ("before", "after")


def results_table(listener: Listener, versions: Sequence[int]) -> str:
    """Lay out the measurements before and after the change of the vocabulary, one column each.

    Args:
        listener: What arrived.
        versions: Versions of the vocabulary before and after the change.
    """
    phases = [listener.phases[version] for version in versions]
    columns = [[title, *_column(listener, phase).values()] for title, phase in zip(TITLES, phases, strict=True)]
    names = ["", *_column(listener, phases[0])]
    widths = [max(map(len, cells)) for cells in columns]
    left = max(map(len, names))
    lines = [
        "  ".join([name.ljust(left), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))])
        for name, *cells in zip(names, *columns, strict=True)
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def _column(listener: Listener, phase: Phase) -> Mapping[str, str]:
    first, last = min(phase.stamps), max(phase.stamps)
    sent = sum(first <= stamp <= last for stamp in listener.sent)
    seconds = phase.arrivals[-1] - phase.arrivals[0]
    fast, slow = np.percentile(phase.latencies, (50, 99))
    accuracy = phase.accuracy.mean()
    return {
        "labels": str(len(phase.labels)),
        "frames sent by the camera": str(sent),
        "frames segmented": str(len(phase.stamps)),
        "frames dropped": str(sent - len(phase.stamps)),
        "frames per second": f"{(len(phase.stamps) - 1) / seconds:.1f}" if seconds else "-",
        "latency p50 (ms)": f"{fast:.0f}",
        "latency p99 (ms)": f"{slow:.0f}",
        "mIoU (%)": "-" if accuracy is None else f"{accuracy:.1f}",
        "position error p50 (cm)": f"{100 * np.median(phase.position_errors):.1f}" if phase.position_errors else "-",
    }


def per_label(phase: Phase) -> list[str]:
    """Name the labels of a phase, with the intersection over union in percent where the truth is known.

    Args:
        phase: What arrived for one version of the vocabulary.
    """
    accuracy = phase.accuracy.per_label()
    return [f"{label} {accuracy[label]:.0f} %" if label in accuracy else label for label in phase.labels]


def write_contact_sheet(listener: Listener, versions: Sequence[int], path: Path) -> None:
    """Write overlays from before and after the change as one image, a row for each, with their labels below.

    Args:
        listener: What arrived.
        versions: Versions of the vocabulary before and after the change.
        path: The image file.
    """
    images, captions = [], []
    for title, version in zip(TITLES, versions, strict=True):
        phase = listener.phases[version]
        chosen = [kept.image for kept in choose(phase.images, COLUMNS)]
        accuracy = phase.accuracy.mean()
        heading = title if accuracy is None else f"{title}: mIoU {accuracy:.1f} %"
        images += chosen
        captions += [heading, *map(", ".join, _share(per_label(phase), COLUMNS - 1))] if chosen else []
    if images:
        sheet = contact_sheet(images, columns=COLUMNS, captions=captions, tile=IMAGE_WIDTH)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(path)


def choose(images: Sequence[KeptOverlay], count: int) -> list[KeptOverlay]:
    """Choose overlays that together show as many labels as possible and are far from each other.

    Args:
        images: All overlays, in the order of time.
        count: How many to choose.

    Returns:
        `count` overlays in the order of time, some of them twice where there are fewer. None where there are none.
    """
    if len(images) <= count:
        return [images[index * len(images) // count] for index in range(count)] if images else []
    chosen: list[int] = []
    labels: set[str] = set()
    while len(chosen) < count:
        others = (index for index in range(len(images)) if index not in chosen)
        best = max(others, key=lambda index: (len(images[index].labels - labels), _distance(index, chosen)))
        chosen.append(best)
        labels |= images[best].labels
    return [images[index] for index in sorted(chosen)]


def _distance(index: int, chosen: Sequence[int]) -> int:
    return min((abs(index - other) for other in chosen), default=0)


def _share(names: Sequence[str], cells: int) -> list[Sequence[str]]:
    """Share names out to cells, in order and as evenly as possible, the first cells with more."""
    counts = [len(names) // cells + (cell < len(names) % cells) for cell in range(cells)]
    edges = [0, *accumulate(counts)]
    return [names[start:end] for start, end in pairwise(edges)]
