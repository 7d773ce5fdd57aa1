"""Measure a model: `python -m training.evaluate --model synseg-tiny`, on generated scenes or on a data set.

`--dataset photos --root runs/photos` measures each class of the photographs that `training.prepare_photos` held out.
`--dataset voc21 --root VOCdevkit` and the like follow the protocols that the field compares by.
`training/evaluation/protocols.py` describes the data sets, and `training/evaluation/scenes.py` what scenes measure.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import jsonargparse

from synseg_model.engines.load import load_engine
from synseg_model.engines.torch import choose_device
from synseg_model.files import write_json
from synseg_model.segmenter import Segmenter
from training.evaluation import figures, report
from training.evaluation import images as images
from training.evaluation.measured import mean_of_sets, measure_classes
from training.evaluation.predict import PredictSettings
from training.evaluation.protocols import Protocol, protocol
from training.evaluation.run import Evaluation, Request, evaluate_dataset
from training.evaluation.scenes import evaluate_scenes, image_grid
from training.loop.command_line import INTERRUPTED
from training.scenes.scenes import Scene


@dataclass
class EvaluateConfig:
    """All settings of the evaluation.

    Args:
        model: a shipped name or a model folder.
        dataset: scenes, photos, voc21, voc20, context60, context59, coco-object, coco-stuff, cityscapes, ade20k,
            camvid, nyu40, nyu13 or coco-mini.
        root: folder of the data set, for photos what `training.prepare_photos` wrote; scenes need none.
        split: the part that is reported; empty for the protocol's own.
        images: number of images to measure on, spread over the split; 0 for all.
        mode: slide (windows), whole (one pass at the model's own size), or auto for the data set's usual one.
        short_side: short side of images in slide mode, in pixels. Proportions stay.
        longest: largest other side in slide mode, in pixels.
        window: side of a window in pixels.
        stride: pixels from window to window.
        batch: windows in one pass.
        prompts: single ("a photo of a {}."), imagenet (80 templates) or model (the model's own).
        aliases: ask for every prompt of a class list, and take the largest score of each class.
        pamr: refine the maps by the image's colours (10 iterations, dilations 1, 2, 4, 8, 12, 24).
        refine: none, superpixels (averages maps inside them) or sgc (corrects maps by CLIP's attention). It follows
            PAMR.
        keep_labels: labels of scenes that are looked for in full: those that a coarse look finds most active; 0 for
            all.
        threshold: activation below which a pixel is background, where a data set has background. By default the model's
            own.
        sweep: choose the threshold on images that are not reported.
        tune_split: the part that --sweep looks at; empty for the protocol's own.
        tune_images: number of images for --sweep, spread over that part; 0 for all.
        share: measure on the images that training with this share (and --seed) held out; 0 for all.
        present: ask each image for the classes that are in it, and no others.
        scenes: number of generated images for each run on scenes.
        height: height of generated images in pixels.
        width: width of generated images in pixels.
        seed: seed of generated images, and of the choice by --share.
        device: cpu, cuda, cuda:N, or auto for a GPU where there is one.
        engine: what runs the network on photos: torch, onnxruntime, openvino, tensorrt, or auto as `synseg segment`
            chooses. Other data sets take torch.
        precision: number format of the engine on photos, as `synseg segment --precision` takes it; auto for fp32 with
            torch.
        output: folder for `scenes.json` and `scenes.png`, for `photos.json` and `photos.md`, or for a folder per data
            set with `report.md`, `results.json`, `confusion.csv` and figures. Nothing is written where it is empty.
    """

    model: str = "synseg-tiny"
    dataset: str = "scenes"
    root: str = ""
    split: str = ""
    images: int = 0
    mode: str = "auto"
    short_side: int = 448
    longest: int = 2048
    window: int = 448
    stride: int = 224
    batch: int = 4
    prompts: str = "single"
    aliases: bool = False
    pamr: bool = False
    refine: str = "none"
    keep_labels: int = 0
    threshold: float | None = None
    sweep: bool = False
    tune_split: str = ""
    tune_images: int = 200
    share: float = 0.0
    present: bool = False
    scenes: int = 200
    height: int = 240
    width: int = 320
    seed: int = 0
    device: str = "auto"
    engine: str = "torch"
    precision: str = "auto"
    output: str = "runs/evaluate"


def evaluate(segmenter: Segmenter, config: EvaluateConfig) -> tuple[dict, list[tuple[Scene, float]]]:
    """Measure on scenes; returns results for JSON and the base scenes with their own mean IoU."""
    return evaluate_scenes(segmenter, config.scenes, (config.height, config.width), config.seed)


def main(config: EvaluateConfig) -> dict:
    """Evaluate, print and write the results; returns what the JSON file holds."""
    if config.dataset != "photos" and (config.engine, config.precision) != ("torch", "auto"):
        raise ValueError(
            f"--engine {config.engine} --precision {config.precision} with --dataset {config.dataset}: expected torch "
            "and auto; only photos are measured with other engines"
        )
    measure = {"scenes": _on_scenes, "photos": _on_photographs}.get(config.dataset, _on_dataset)
    return measure(config)


def _on_scenes(config: EvaluateConfig) -> dict:
    options = {"keep_labels": config.keep_labels} if config.keep_labels else {}  # the torch engine's alone
    segmenter = Segmenter.load(config.model, device=config.device, refine=config.refine, **options)
    results, scored = evaluate(segmenter, config)
    print(json.dumps(results, indent=2))
    if config.output:
        folder = Path(config.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scenes.json").write_text(json.dumps(results, indent=2) + "\n")
        cv2.imwrite(str(folder / "scenes.png"), image_grid(segmenter, scored)[:, :, ::-1])
        print(f"wrote {folder / 'scenes.json'} and {folder / 'scenes.png'}")
    return results


def _on_photographs(config: EvaluateConfig) -> dict:
    if not config.root:
        raise ValueError("no --root for photos: expected the folder that training.prepare_photos wrote")
    model = config.model
    if (config.engine, config.precision) != ("torch", "auto"):
        options = {"precision": config.precision} if config.precision != "auto" else {}  # not all engines have it
        model = load_engine(config.model, config.engine, config.device, **options)
    rows = measure_classes(model, choose_device(config.device), config.root, config.images)
    means = mean_of_sets(rows)
    results = {"model": config.model, "command": command(config), "miou": means, "classes": [list(row) for row in rows]}
    table = "\n".join(
        ["| set | class | IoU (%) | photographs |", "|---|---|---|---|"]
        + [f"| {name} | {label} | {iou} | {images} |" for name, label, iou, images in rows]
    )
    print(table)
    print("mIoU (%) over these classes: " + ", ".join(f"{name} {mean}" for name, mean in means.items()))
    if config.output:
        folder = Path(config.output)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "photos.json", results)
        (folder / "photos.md").write_text(table + "\n", encoding="utf-8")
        print(f"wrote {folder / 'photos.json'} and {folder / 'photos.md'}")
    return results


def _on_dataset(config: EvaluateConfig) -> dict:
    chosen = protocol(config.dataset)
    if config.keep_labels:
        raise ValueError(f"--keep_labels is {config.keep_labels}: only for generated scenes, whose vocabulary is long")
    if not config.root:
        raise ValueError(
            f"no --root for {config.dataset}: expected the folder of the data set.\n\n"
            + chosen.tree.expected.format(root="ROOT", split=config.split or chosen.split)
        )
    request = Request(
        root=Path(config.root),
        split=config.split or None,
        images=config.images,
        prompts=config.prompts,
        aliases=config.aliases,
        threshold=config.threshold,
        sweep=config.sweep,
        tune_split=config.tune_split or None,
        tune_images=config.tune_images,
        share=config.share,
        share_seed=config.seed,
        present=config.present,
        predict=PredictSettings(
            mode=chosen.mode if config.mode == "auto" else config.mode,
            short_side=config.short_side,
            longest=config.longest,
            window=config.window,
            stride=config.stride,
            pamr=config.pamr,
            refine=config.refine,
            batch=config.batch,
        ),
    )
    evaluation = evaluate_dataset(chosen, config.model, request, config.device)
    result = evaluation.result | {"command": command(config)}
    if not result["complete"]:
        print(f"interrupted after {result['images']} of {result['images_asked']} images", file=sys.stderr)
    if config.output and result["images"]:
        path = write(Path(config.output) / chosen.name, chosen, evaluation, result)
        print(report.comparison_table([result]))
        print(f"wrote {path}")
    print(f"{chosen.name}: mIoU {result['miou']} % ({result['images']} images)")
    return result


def write(folder: Path, chosen: Protocol, evaluation: Evaluation, result: dict) -> Path:
    """Write numbers, figures and report; returns the report's path."""
    labels, measured = chosen.labels(), evaluation.measured
    folder.mkdir(parents=True, exist_ok=True)
    report.write_results(folder, result, measured.matrix.counts)  # first: drawing takes a while
    counts, title = measured.matrix.counts, f"{chosen.title}\nwhich class the pixels of each class were given"
    drawn = [
        figures.class_bars(labels, measured.matrix.iou(), folder / "classes.png", f"{chosen.title}\nIoU by class"),
        figures.confusion(labels, counts, folder / "confusion.png", title),
    ]
    if evaluation.curve:
        title = f"{chosen.title}\n{result['threshold_from']}"
        drawn.append(figures.threshold_curve(evaluation.curve, evaluation.threshold, folder / "sweep.png", title))
    if measured.complete:  # these run the network again, which nobody wants to wait for after Ctrl-C
        names, shown = chosen.class_list().names, (evaluation.predictor, evaluation.samples, measured)
        drawn.append(images.prediction_grid(*shown, names, evaluation.threshold, folder / "predictions.png"))
        drawn.append(images.threshold_figure(*shown, names, chosen.background, folder / "thresholds.png"))
    return report.write_report(folder, result, drawn)


def command(config: EvaluateConfig) -> str:
    """Write the command that gives these settings, defaults left out."""
    default = EvaluateConfig()
    words = ["python", "-m", "training.evaluate"]
    for item in fields(config):
        value = getattr(config, item.name)
        if value != getattr(default, item.name) and item.name not in ("output", "device"):
            words += [f"--{item.name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)


def run() -> int:
    """Read the command line; returns 0, 2 for what the user can put right, 130 after Ctrl-C or SIGTERM."""
    config = jsonargparse.auto_cli(EvaluateConfig, as_positional=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's polite end keeps what was measured, too
    try:
        return 0 if main(config).get("complete", True) else INTERRUPTED
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was measured yet", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
