"""The example writes an animation in which labels are typed and the masks follow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CAT = ROOT / "synseg_ros" / "player" / "photographs" / "cat.jpg"


def animate(*arguments):
    command = [sys.executable, ROOT / "examples" / "animate.py", *arguments]
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)


def test_labels_are_typed_and_then_the_masks_show(tmp_path):
    output = tmp_path / "cat.webp"
    done = animate(output, "--images", CAT, "--labels", "cat", "--size", 240, 160)
    assert done.returncode == 0, done.stderr
    animation = Image.open(output)
    images = []
    for number in range(animation.n_frames):
        animation.seek(number)
        images.append(np.asarray(animation.convert("RGB"), np.int16))
    assert len(images) == 2, "c, then cat with its mask"
    change = np.abs(images[-1] - images[0]).max(axis=2)
    assert (change[:160] > 40).mean() > 0.3, "the cat is coloured"


def test_what_cannot_be_made_is_said(tmp_path):
    done = animate(tmp_path / "cat.mp4")
    assert done.returncode == 2 and "expected a name that ends with .webp, .gif or .png" in done.stderr
    done = animate(tmp_path / "cat.gif", "--images", CAT)
    assert done.returncode == 2 and "--images and --labels belong together" in done.stderr
    done = animate(tmp_path / "cat.gif", "--images", tmp_path / "missing", "--labels", "cat")
    assert done.returncode == 2 and "missing" in done.stderr and "Traceback" not in done.stderr
