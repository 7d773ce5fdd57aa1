"""Parity: how far an exported folder is from the same model in torch, and how far it may be."""

from __future__ import annotations

import cv2
import numpy as np

from synseg_model.config import ModelError
from synseg_model.engine import Engine
from synseg_model.vocabulary import prompt

__all__ = ["LARGEST_DIFFERENCE", "check_parity", "draw_image", "largest_difference", "measure_parity"]

LABELS = ("ball", "red ball", "grass", "sky", "car", "person", "the wall of a house")
# fp32 differs only in the order of sums. fp16 has three decimals, so that equal masks are what counts.
LARGEST_DIFFERENCE = {"fp32": 1e-4, "fp16": 0.2}
SMALLEST_IOU = {"fp32": 0.999, "fp16": 0.99}
# A model with steep edges turns the seventh decimal of its features into the fourth of an activation, for torch as for
# every engine. The pixel is chance, the root mean square is not: engines differed by up to 4 times torch's own.
STEEP_DIFFERENCE, STEEP_RATIO = 1e-3, 10


def measure_parity(reference: Engine, engine: Engine) -> dict[str, float]:
    """Compare two engines of one model, on drawn images of three sizes, one of them odd and one small.

    Args:
        reference: the engine that counts as right.
        engine: the engine to compare.

    Returns:
        The largest, the mean and the root mean square difference of activations, in [0, 1]; the IoU of all masks at the
        model's threshold, 1 where both engines find none; the largest difference of text embeddings, relative to the
        largest value.
    """
    texts = [embed(each) for each in (reference, engine)]
    frames = [draw_image(seed, *size) for seed, size in enumerate([(480, 640), (480, 640), (251, 333), (61, 97)])]
    pairs = list(zip(reference.activations(frames, texts[0]), engine.activations(frames, texts[1]), strict=True))
    differences = np.concatenate([np.abs(a - b).ravel() for a, b in pairs])
    threshold = reference.config.threshold
    both = sum(np.count_nonzero((a >= threshold) & (b >= threshold)) for a, b in pairs)
    either = sum(np.count_nonzero((a >= threshold) | (b >= threshold)) for a, b in pairs)
    return {
        "max_difference": float(differences.max()),
        "mean_difference": float(differences.mean()),
        "rms_difference": float(np.sqrt(np.mean(np.square(differences, dtype=np.float64)))),
        "mask_iou": both / either if either else 1.0,
        "text_difference": float(np.abs(texts[0] - texts[1]).max() / np.abs(texts[0]).max()),
    }


def largest_difference(precision: str, rms_difference: float, rounding: float) -> float:
    """Bound the difference of activations.

    fp32 may differ more at single pixels, where all pixels together show that it is rounding.

    Args:
        precision: "fp32" or "fp16".
        rms_difference: root mean square of the differences.
        rounding: root mean square of the differences of float32 and float64, in torch and on the same images.
    """
    if precision == "fp32" and rms_difference <= STEEP_RATIO * rounding:
        return STEEP_DIFFERENCE
    return LARGEST_DIFFERENCE[precision]


def check_parity(parity: dict[str, float], precision: str) -> None:
    """Refuse a parity report that is worse than its precision allows.

    Args:
        parity: what `measure_parity` returned, and "fp32_rounding".
        precision: "fp32" or "fp16".

    Raises:
        ModelError: for such a report; the message names each measure and its bound.
    """
    bounds = {
        "max_difference": largest_difference(precision, parity["rms_difference"], parity["fp32_rounding"]),
        "text_difference": LARGEST_DIFFERENCE["fp32"],
    }
    problems = [
        f"{name.replace('_', ' ')} is {parity[name]:.3g}, at most {bound:g} is accepted"
        for name, bound in bounds.items()
        if not parity[name] <= bound  # nan is in no order
    ]
    if not parity["mask_iou"] >= SMALLEST_IOU[precision]:
        problems.append(f"mask IoU is {parity['mask_iou']:.3g}, at least {SMALLEST_IOU[precision]:g} is accepted")
    if problems:
        advice = "; its values may be too large for fp16: use fp32" if precision == "fp16" else ""
        raise ModelError(f"the exported graphs disagree with torch: {', '.join(problems)}{advice}")


def draw_image(seed: int, height: int, width: int) -> np.ndarray:
    """Draw discs and boxes on a colour gradient with a little noise.

    Args:
        seed: equal seeds give equal images.
        height, width: size in pixels.

    Returns:
        (height,width,3) uint8 RGB.
    """
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.float32)
    image = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    for kind in range(6):
        x, y, size = (int(rng.uniform(0, 1) * side) for side in (width, height, min(height, width) / 3))
        color = rng.uniform(0, 255, 3).tolist()
        if kind % 2:
            cv2.circle(image, (x, y), size, color, -1)
        else:
            cv2.rectangle(image, (x, y), (x + 2 * size, y + size), color, -1)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def embed(engine: Engine) -> np.ndarray:
    text = engine.encode_text([prompt(engine.config.templates[0], label) for label in LABELS])
    return text / np.linalg.norm(text, axis=1, keepdims=True) if engine.config.normalize_text else text
