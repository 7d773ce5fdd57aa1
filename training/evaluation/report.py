"""An evaluation for people: Markdown with the published rows beside the measured ones."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.evaluation.classes import DATA

RESULTS_FILE = "results.json"


def published() -> dict:
    """Read the published results of other systems: columns (data set to title) and rows."""
    return json.loads((DATA / "published.json").read_text(encoding="utf-8"))


def comparison_table(results: Sequence[dict]) -> str:
    """Write published rows and ours as one Markdown table; ours are one row per model and settings.

    results: as in `results.json`, at most one per data set for each model and settings (a later one counts).
    """
    known = published()
    columns = dict(known["columns"])
    for result in results:
        columns.setdefault(result["dataset"], result["title"].split(",")[0])
    lines = [
        "| method | " + " | ".join(columns.values()) + " | parameters | latency | source |",
        "|---|" + "---:|" * len(columns) + "---|---|---|",
    ]
    for row in known["rows"]:
        cells = [_number(row["miou"].get(name)) for name in columns]
        method = f"{row['method']} ({row['note']})" if "note" in row else row["method"]
        lines.append(_row([method, *cells, row.get("parameters", ""), row.get("latency", ""), "published"]))
    rows: dict[str, dict[str, dict]] = {}
    for result in results:
        rows.setdefault(_identity(result), {})[result["dataset"]] = result
    for own in rows.values():
        first = next(iter(own.values()))
        cells = [_measured(own[name]) if name in own else "" for name in columns]
        parameters = f"{first['model']['parameters'] / 1e6:.1f} M"
        time = max(other["ms_per_image"] for other in own.values())
        latency = f"{_duration(time)} per image, {first['device']}"
        lines.append(_row([f"**{_describe(first)}**", *cells, parameters, latency, "measured here"]))
    notes = [f"Published latencies are {known['latency']}; an empty cell means that no number was published."]
    if any(_is_part(result) for result in results):
        notes.append("\\* not the whole split of the protocol: not comparable with the numbers above it.")
    return "\n".join([*lines, "", *(f"{note}  " for note in notes)]) + "\n"


def write_results(folder: Path, result: dict, counts: np.ndarray) -> Path:
    """Write `results.json` and `confusion.csv` (rows truth, columns prediction, in pixels) into a folder."""
    path = folder / RESULTS_FILE
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with open(folder / "confusion.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = list(result["per_class"])
        writer.writerow(["truth \\ predicted", *names, "none of them"])
        writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    return path


def write_report(folder: Path, result: dict, figures: Sequence[Path]) -> Path:
    """Write `report.md` into a folder, with figures that lie in it; returns the report's path.

    The table also shows what earlier runs left in the folders beside this one, under the same model and settings.
    """
    path = folder / "report.md"
    path.write_text(_report(result, [*_siblings(folder, result), result], figures), encoding="utf-8")
    return path


def _siblings(folder: Path, result: dict) -> list[dict]:
    """Read the results of other data sets for the same model and settings."""
    found = []
    for path in sorted(folder.parent.glob(f"*/{RESULTS_FILE}")):
        try:
            other = json.loads(path.read_text(encoding="utf-8"))
            if (
                path.parent != folder
                and other["dataset"] != result["dataset"]
                and _identity(other) == _identity(result)
            ):
                found.append(other)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
            continue  # not ours
    return found


def _report(result: dict, table: Sequence[dict], figures: Sequence[Path]) -> str:
    part = ""
    if not result["complete"]:
        part = f"**Interrupted** after {result['images']} of {result['images_asked']} images: a partial result.\n\n"
    elif _is_part(result):
        whole = f"{result['protocol_images'] or 'all'} images of split `{result['protocol_split']}`"
        part = (
            f"**A sample**: {result['images']} images where the protocol takes {whole}. "
            "The path is the same, the number is not comparable.\n\n"
        )
    settings = "\n".join(f"| {key.replace('_', ' ')} | {_plain(value)} |" for key, value in _shown_settings(result))
    classes = "\n".join(
        f"| {name} | {_number(values['iou'])} | {values['share']:.2f} |" for name, values in result["per_class"].items()
    )
    images = "\n\n".join(f"![{figure.stem.replace('_', ' ')}]({figure.name})" for figure in figures)
    return f"""\
# {result["title"]}: mIoU {_number(result["miou"])}

{part}mIoU {_number(result["miou"])} % over the {result["classes_counted"]} classes that occur in truth or prediction;
{_number(result["miou_present"])} % over the {result["classes_present"]} that occur in the truth.
Pixel accuracy {_number(result["pixel_accuracy"])} %. {result["images"]} images, split `{result["split"]}`.
Intersection and union are summed over all images before dividing; label 255 counts nowhere.

    {result["command"]}

## Beside published results

{comparison_table(table)}
## Settings

| setting | value |
|---|---|
{settings}

## Figures

{images}

## Classes

| class | IoU, % | share of pixels, % |
|---|---:|---:|
{classes}
"""


def _shown_settings(result: dict) -> list[tuple[str, object]]:
    model = result["model"]
    return [
        ("model", f"{model['name']} ({model['parameters'] / 1e6:.1f} M, {model['fingerprint'][:12]})"),
        *result["settings"].items(),
        ("background threshold", result["threshold"]),
        ("threshold from", result["threshold_from"]),
        ("device", result["device"]),
        ("time per image", _duration(result["ms_per_image"])),
    ]


def _identity(result: dict) -> str:
    """Tell rows apart: the model and everything but the data set, its input mode included."""
    return json.dumps([result["model"]["fingerprint"], result["settings"]], sort_keys=True)


def _describe(result: dict) -> str:
    settings = result["settings"]
    parts = [settings["mode"], f"{settings['prompts']} prompts"]
    parts += ["aliases"] * settings["aliases"] + ["present names"] * settings.get("present", False)
    parts += ["PAMR"] * settings["pamr"]
    refine = settings.get("refine", "none")  # older results have no such setting
    parts += [refine] * (refine != "none")
    return f"{result['model']['name']} ({', '.join(parts)})"


def _is_part(result: dict) -> bool:
    return not (result["complete"] and result["whole_split"])


def _measured(result: dict) -> str:
    return _number(result["miou"]) + ("\\*" if _is_part(result) else "")


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.1f}"


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.0f} s"


def _plain(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
