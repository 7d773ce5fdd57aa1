"""`synseg info`: what it says about whole, damaged and unknown models."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synseg_model.cli import main as cli
from tests.synseg_model.cli.running import one_line


def write_model(folder: Path, tensors: dict[str, tuple[int, ...]]) -> Path:
    """Write a model folder of zeros, in the safetensors format, by hand."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    config = {"name": "mini", "encoder": {"model": "ViT-B-16", "pretrained": "openai"}}
    config.update(results={"base": {"miou": 81.5}}, training={"seed": 3})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_info_describes_a_model_without_torch(tmp_path):
    folder = write_model(tmp_path / "mini", {"decoder.film.weight": (64, 512), "decoder.bias": (64,), "x.y": ()})
    code = (
        "import sys; from synseg_model.cli.main import main; status = main(sys.argv[1:]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "info", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("mini", "ViT-B-16 (public, openai)", "0.03 M", "F16", "results.base.miou", "81.5", "352 px"):
        assert words in done.stdout


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"\xff" * 64),
        lambda path: path.write_bytes((20).to_bytes(8, "little") + b'{"a": [1, 2, 3, 4]} '),
    ],
    ids=["missing", "empty", "cut", "noise", "other-json"],
)
def test_info_on_a_damaged_model_is_one_line(tmp_path, capsys, damage):
    folder = write_model(tmp_path / "mini", {"decoder.bias": (64,)})
    damage(folder / "weights.safetensors")
    assert cli.main(["info", str(folder)]) == 2
    assert "weights.safetensors" in one_line(capsys.readouterr().err)


def test_info_on_an_unknown_model_names_what_there_is(capsys):
    assert cli.main(["info", "nothing"]) == 2
    assert "no model folder 'nothing'" in one_line(capsys.readouterr().err)
