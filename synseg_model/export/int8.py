"""An image encoder in int8 for OpenVINO: `python -m synseg_model.export.int8 EXPORTED --images FOLDER`.

Weights and inputs of products get eight bits, with scales that are found on images of the kind that the model will see.
NNCF (the extra int8) does that; what it writes runs without it. The decoder stays as it is: its maps are the result.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import openvino

from synseg_model.config import ModelError
from synseg_model.engines.openvino import OpenVinoEngine
from synseg_model.export.parity import embed
from synseg_model.weights.exported_folder import EXPORT_FILE, INT8_ENCODER, INT8_WEIGHTS, Export, seal

LEAST_IMAGES = 20
MOST_IMAGES = 200
EXACT = 9  # convolutions that stay in float32: the first ones make most of int8's error, and little of the time
SMALLEST_IOU = 0.9  # of masks with those of float32, on the same images


def add_int8(folder: str | Path, images: Sequence[np.ndarray]) -> float:
    """Add an image encoder in int8 to an exported folder.

    Args:
        folder: an exported folder of a model with a backbone, in fp32.
        images: (H,W,3) uint8 RGB each, LEAST_IMAGES or more of what the model will see; MOST_IMAGES of them are used.

    Returns:
        The IoU of all masks with those of fp32, on the images.

    Raises:
        ModelError: for a folder that has no such model, and where masks have an IoU under SMALLEST_IOU.
        ValueError: for too few images.
        ImportError: without NNCF.
    """
    if len(images) < LEAST_IMAGES:
        raise ValueError(_too_few(images))
    engine = OpenVinoEngine(folder)
    if not engine.config.encoder.backbone:
        raise ModelError(f"the model {engine.config.name!r} has a ViT: int8 is for models with a backbone")
    export = Export.read(engine.folder)
    if export.precision != "fp32":
        raise ModelError(f"{folder} is not exported in fp32: export it again with --precision fp32")
    import nncf  # here: it takes seconds, and what is wrong is said before

    images = images[:: -(-len(images) // MOST_IMAGES)]
    inputs = [engine.encoder_inputs([image]) for image in images]
    model = engine.encoder_model()
    made = nncf.quantize(
        model,
        nncf.Dataset(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=_convolutions(model)[:EXACT]),
    )
    path = engine.folder / INT8_ENCODER
    openvino.save_model(made, path, compress_to_fp16=False)
    _seal(engine.folder, export)
    iou = _mask_iou(engine, OpenVinoEngine(folder, precision="int8"), images)
    if not iou >= SMALLEST_IOU:
        path.unlink()
        (engine.folder / INT8_WEIGHTS).unlink()
        _seal(engine.folder, export)
        raise ModelError(f"masks in int8 have an IoU of {iou:.2f} with those of fp32: {SMALLEST_IOU} is accepted")
    return iou


def _convolutions(model: openvino.Model) -> list[str]:
    """Return the names of a graph's convolutions, from the image on."""
    found = [op for op in model.get_ordered_ops() if op.get_type_name() in ("Convolution", "GroupConvolution")]
    return [op.get_friendly_name() for op in found]


def _too_few(images: Sequence[np.ndarray]) -> str:
    return f"{len(images)} images: expected {LEAST_IMAGES} or more, of what the model will see"


def _seal(folder: Path, export: Export) -> None:
    """Write down which files a folder has now."""
    export = dataclasses.replace(export, files=seal(folder))
    (folder / EXPORT_FILE).write_text(export.to_json(), encoding="utf-8")


def _mask_iou(reference: OpenVinoEngine, engine: OpenVinoEngine, images: Sequence[np.ndarray]) -> float:
    """Compare masks of a few names at the model's threshold; 1 where neither engine has any."""
    text, threshold, both, either = embed(reference), reference.config.threshold, 0, 0
    for image in images:
        a, b = (each.activations([image], text)[0] >= threshold for each in (reference, engine))
        both, either = both + np.count_nonzero(a & b), either + np.count_nonzero(a | b)
    return both / either if either else 1.0


def read_images(folder: str | Path) -> list[np.ndarray]:
    """Read photographs of what the model will see, (H,W,3) uint8 RGB each; MOST_IMAGES at most, spread over the folder.

    Args:
        folder: a folder of JPEG and PNG files.

    Raises:
        ValueError: for something that is no folder, and for too few images.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is no folder: expected one with {LEAST_IMAGES} photographs or more")
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = paths[:: -(-len(paths) // MOST_IMAGES) or 1]
    images = [cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in map(cv2.imread, map(str, paths)) if image is not None]
    if len(images) < LEAST_IMAGES:
        raise ValueError(f"{folder}: {_too_few(images)}")
    return images


def main() -> None:
    """Read the command line and add int8 to a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", metavar="EXPORTED", help="an exported folder, in fp32")
    parser.add_argument("--images", metavar="FOLDER", required=True, help="photographs of what the model will see")
    arguments = parser.parse_args()
    images = read_images(arguments.images)
    iou = add_int8(arguments.folder, images)
    print(f"{arguments.folder}: masks in int8 have an IoU of {iou:.3f} with those of fp32, on {len(images)} images")


if __name__ == "__main__":
    main()
