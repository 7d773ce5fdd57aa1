"""What the tests of the command line share: a run of `synseg segment`, and a look at what it wrote."""

import json
from pathlib import Path

import cv2
import numpy as np

from synseg_model.cli.main import main


def save(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image[..., ::-1])


def segment(source, output: Path, *options: str, labels: str = "car, tree") -> int:
    return main(["segment", str(source), "--labels", labels, "--output", str(output), *options])


def summary(output: Path) -> dict:
    return json.loads((output / "summary.json").read_text(encoding="utf-8"))


def all_files(output: Path) -> set[str]:
    return {path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()}


def one_line(text: str) -> str:
    assert text.startswith("synseg: ")
    assert text.count("\n") == 1
    return text
