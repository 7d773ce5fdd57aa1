"""Put measured figures into the tables of a page: `python -m benchmarks.tables`.

A table lies between `<!-- table: NAME -->` and `<!-- table end -->`; all between is replaced. Figures come from the
JSON files of `benchmarks/results`, to which cells link; a cell without a measurement says so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jsonargparse

NOTHING = "not measured"
GRAPH, COMPILED = "torch, half, CUDA graph", "torch, half, compiled"
_TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- table end -->)", re.DOTALL)


@dataclass
class TablesConfig:
    """Settings.

    Args:
        results: folder of JSON files.
        page: Markdown page whose tables are filled.
        check: only tell whether the page is as it would be written, by the exit status.
    """

    results: str = "benchmarks/results"
    page: str = "docs/performance.md"
    check: bool = False


@dataclass(frozen=True)
class Measured:
    """A figure and the file that it comes from."""

    value: float
    file: str


class Results:
    """The JSON files of a folder, read when they are asked for.

    page: folder of the page, from which links lead to the files.
    """

    def __init__(self, folder: str | Path, page: str | Path = ".") -> None:
        self._folder, self._page = Path(folder), Path(page)
        self._read: dict[str, dict] = {}

    def of(self, name: str) -> dict:
        """Return a file's content, {} where there is none; raise ValueError for one that is damaged."""
        if name not in self._read:
            path = self._folder / f"{name}.json"
            try:
                self._read[name] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            except ValueError as error:
                raise ValueError(f"{path} is no JSON ({error}): measure again, or delete it") from None
        return self._read[name]

    def milliseconds(self, name: str, contender: str, labels: int, figure: str = "seconds") -> Measured | None:
        """Look a time of `benchmarks.segmenter` up."""
        seconds = self.of(name).get(figure, {}).get(str(labels), {}).get(contender)
        return None if seconds is None else Measured(1000 * seconds, name)

    def best(self, *found: Measured | None) -> Measured | None:
        """Return the smallest of figures that there are."""
        return min((each for each in found if each is not None), key=lambda each: each.value, default=None)

    def link(self, text: str, name: str) -> str:
        """Link a cell to its file."""
        return f"[{text}]({os.path.relpath(self._folder / f'{name}.json', self._page)})"

    def cell(self, measured: Measured | None, unit: str = "") -> str:
        """Write a figure with three digits; NOTHING where there is none."""
        if measured is None:
            return NOTHING
        value = measured.value
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return self.link(text + unit, measured.file)

    def machines(self, prefix: str) -> list[str]:
        """Name what the files with a prefix were measured on."""
        found = {}
        for path in sorted(self._folder.glob(f"{prefix}*.json")):
            machine = self.of(path.stem).get("machine", {})
            if machine:
                found[f"{machine.get('gpu') or machine.get('cpu')}, torch {machine.get('torch')}"] = None
        return list(found)


def gpu_frames(results: Results) -> list[str]:
    """Lay out milliseconds of one frame and of eight on a GPU."""
    columns = [
        ("ViT-B/16, K = 20", "vit_1", 20),
        ("K = 171", "vit_1", 171),
        ("eight, K = 20", "vit_8", 20),
        ("everyday, K = 10", "everyday_1", 10),
        ("K = 20", "everyday_1", 20),
        ("eight, K = 10", "everyday_8", 10),
        ("eight, K = 20", "everyday_8", 20),
    ]
    onnx = [f"onnxruntime{precision}{graph}" for precision in ("", ", fp16") for graph in ("", ", CUDA graph")]
    rows = ["torch, half", GRAPH, COMPILED, *onnx, "CLIPSeg, one encoding"]
    suffixes = {COMPILED: "_compiled", "CLIPSeg, one encoding": "_clipseg"}
    lines = _head(["ms", *(title for title, _, _ in columns)])
    for row in rows:
        names = [f"gpu_{place}{suffixes.get(row, '')}" for _, place, _ in columns]
        found = [results.milliseconds(name, row, labels) for name, (_, _, labels) in zip(names, columns, strict=True)]
        lines.append(_row([row, *map(results.cell, found)]))
    machines = results.machines("gpu_")
    return [*lines, "", f"Measured on: {'; '.join(machines)}." if machines else f"Machine: {NOTHING}."]


def gpu_targets(results: Results) -> list[str]:
    """Compare what a GPU reaches with what was aimed at and with what it was before."""

    def frames(place: str, labels: int) -> Measured | None:
        recorded = results.milliseconds(f"gpu_{place}", GRAPH, labels)
        return results.best(recorded, results.milliseconds(f"gpu_{place}_compiled", COMPILED, labels))

    def rate(place: str, labels: int, cameras: int) -> Measured | None:
        found = frames(place, labels)
        return found and Measured(1000 * cameras / found.value, found.file)

    def change() -> Measured | None:
        usual = results.milliseconds("gpu_vit_1", GRAPH, 20)
        after = results.milliseconds("gpu_vit_1", GRAPH, 20, "after_change_seconds")
        return usual and after and Measured(max(0.0, after.value / usual.value - 1), after.file)

    def onnxruntime_ratio() -> Measured | None:
        one, eight = (results.milliseconds(f"gpu_everyday_{n}", "onnxruntime, CUDA graph", 20) for n in (1, 8))
        return one and eight and Measured(eight.value / one.value, eight.file)

    def training() -> Measured | None:
        measured = results.of("gpu_training").get("by_reading_processes", {}).values()
        best = max((each["images_per_second"] for each in measured), default=None)
        return None if best is None else Measured(best, "gpu_training")

    rows = [
        ("ViT-B/16, K = 20, one frame", "5.5 ms", 1.2, " ms", frames("vit_1", 20)),
        ("ViT-B/16, K = 20, eight frames", "14.8 ms", 5.0, " ms", frames("vit_8", 20)),
        ("ViT-B/16, K = 171, one frame", "9.9 ms", 4.0, " ms", frames("vit_1", 171)),
        ("synseg-everyday, K = 20, one frame", "-", 0.8, " ms", frames("everyday_1", 20)),
        ("synseg-everyday, K = 20, eight frames", "-", -3000, " frames/s", rate("everyday_8", 20, 8)),
        ("synseg-everyday, K = 20, onnxruntime: eight frames over one", "12 ×", 8.0, " ×", onnxruntime_ratio()),
        ("a new vocabulary of about the size, beyond a frame's own time", "-", 1.0, " frames", change()),
        ("a training step, ViT-B/16 at 224 px, reading included", "-", -1500, " images/s", training()),
    ]
    what = "target on an H100; frames from the host to the host's label map"
    head = [what, "before", "at most (rates: at least)", "measured", "met"]
    return [*_head(head), *(_target(results, *row) for row in rows)]


def cpu_targets(results: Results) -> list[str]:
    """Compare what two cores reach with what was aimed at."""

    def rate(contender: str) -> Measured | None:
        found = results.milliseconds("segmenter_everyday", contender, 10)
        return found and Measured(1000 / found.value, found.file)

    def encodings() -> Measured | None:
        single = results.milliseconds("segmenter_encoding", "openvino, encoding alone", 20)
        frame = results.milliseconds("segmenter_encoding", "openvino", 20)
        return single and frame and Measured(frame.value / single.value, frame.file)

    rows = [
        ("synseg-everyday, K = 10, OpenVINO, fp32", "-", -30, " frames/s", rate("openvino")),
        ("synseg-everyday, K = 10, onnxruntime, fp32", "-", -20, " frames/s", rate("onnxruntime")),
        ("ViT-B/16, K = 20, fp32: a frame over its encoding", "-", 3.0, " ×", encodings()),
    ]
    head = ["target on two cores", "before", "at most (rates: at least)", "measured", "met"]
    return [*_head(head), *(_target(results, *row) for row in rows)]


def bandwidth(results: Results) -> list[str]:
    """Lay out what each output topic sends."""
    sources = results.of("bandwidth").get("sources", {})
    topics = dict.fromkeys(topic for source in sources.values() for topic in source["bytes_per_frame"])
    titles = {name: f"{source['frames']} {name}, {source['labels']:g} labels" for name, source in sources.items()}
    lines = _head(["topic", *(f"{title}: {unit}" for title in titles.values() for unit in ("kB per frame", "MB/s"))])
    for topic in topics:
        cells = [topic]
        for source in sources.values():
            size, rate = (source[figure].get(topic) for figure in ("bytes_per_frame", "bytes_per_second"))
            cells += ["-"] * 2 if size is None else [_size(size / 1e3), _size(rate / 1e6)]
        lines.append(_row(cells))
    return lines if topics else [*_head(["topic", "kB per frame", "MB/s"]), _row(["all", NOTHING, NOTHING])]


def mask_encodings(results: Results) -> list[str]:
    """Compare the encodings of masks: size over the whole message, and time per frame."""
    sources = results.of("bandwidth").get("sources", {})
    lines = _head(["mask_encoding", "frames", "bytes", "times smaller", "encode, ms", "read, ms"])
    for name, source in sources.items():
        for encoding in ("mono8", *source["times_smaller_than_mono8"]):
            size, times = source["bytes_per_frame"][f"masks, {encoding}"], source["ms_per_frame"]
            smaller = Measured(source["times_smaller_than_mono8"].get(encoding, 1.0), "bandwidth")
            spent = [f"{times[f'{step}, {encoding}']:.2f}" for step in ("encode", "read")]
            lines.append(_row([f"`{encoding}`", name, f"{size:,}", results.cell(smaller, " ×"), *spent]))
    return lines if sources else [*lines, _row(["all", "all", *[NOTHING] * 4])]


TABLES: dict[str, Callable[[Results], list[str]]] = {
    "gpu-frames": gpu_frames,
    "gpu-targets": gpu_targets,
    "cpu-targets": cpu_targets,
    "bandwidth": bandwidth,
    "mask-encodings": mask_encodings,
}


def _target(results: Results, what: str, before: str, bound: float, unit: str, found: Measured | None) -> str:
    """Write a target's row; a bound below 0 is one to be exceeded."""
    met = NOTHING
    if found is not None:
        met = "yes" if (found.value >= -bound if bound < 0 else found.value <= bound) else "no"
    return _row([what, before, f"{abs(bound):,g}{unit}", results.cell(found, unit), met])


def _size(value: float) -> str:
    """Write a size with three digits at most."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), "|" + "---|" * len(cells)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def fill(text: str, results: Results) -> str:
    """Fill all tables of a page.

    Args:
        text: Markdown with markers.
        results: what is known.

    Returns:
        The page with its tables as they are to be.

    Raises:
        ValueError: for a marker that names no table.
    """

    def table(match: re.Match) -> str:
        name = match[2]
        if name not in TABLES:
            raise ValueError(f"the page has a table {name!r}: expected one of {', '.join(TABLES)}")
        return match[1] + "\n".join(TABLES[name](results)) + "\n" + match[3]

    return _TABLE.sub(table, text)


def main(config: TablesConfig) -> int:
    """Fill a page's tables; returns the exit status."""
    page = Path(config.page)
    text = page.read_text(encoding="utf-8")
    filled = fill(text, Results(config.results, page.parent))
    if config.check:
        return int(filled != text)
    page.write_text(filled, encoding="utf-8")
    print(f"{page}: {len(_TABLE.findall(text))} tables, {filled.count(NOTHING)} cells {NOTHING}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(jsonargparse.auto_cli(TablesConfig, as_positional=False)))
