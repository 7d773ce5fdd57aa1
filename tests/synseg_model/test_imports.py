"""What importing the package may load."""

import shutil
import subprocess
import sys

import pytest

from synseg_model.weights.find import SHIPPED

HEAVY = ("torch", "open_clip", "torchvision", "onnxruntime", "tensorrt")


def modules_after(code: str) -> set[str]:
    """Run code in a fresh interpreter and name the modules that it has loaded."""
    report = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_importing_the_package_loads_no_third_party_module():
    loaded = modules_after("import synseg_model")
    assert "synseg_model" in loaded
    assert not loaded & {*HEAVY, "numpy", "cv2", "PIL"}


@pytest.mark.parametrize("name", ["ModelError", "Result", "Segmenter", "Vocabulary", "VocabularyError"])
def test_public_names_are_reached_without_torch(name):
    loaded = modules_after(f"from synseg_model import {name}")
    assert "numpy" in loaded or name == "ModelError"
    assert not loaded & set(HEAVY)


def test_modules_around_the_segmenter_load_no_torch():
    loaded = modules_after("import synseg_model.io.drawing, synseg_model.io.sources, synseg_model.cli.segment_files")
    assert "synseg_model.cli.segment_files" in loaded
    assert not loaded & set(HEAVY)


def test_building_engines_loads_neither_torch_nor_a_tensorrt_before_it_is_asked_to():
    loaded = modules_after("import synseg_model.cli.build_engine, synseg_model.engines.tensorrt.build")
    assert "synseg_model.engines.tensorrt.build" in loaded
    assert not loaded & {*HEAVY, "tensorrt_rtx", "pycuda"}


@pytest.mark.parametrize("damage", ["unknown", "no-folder", "empty", "no-weights", "cut-weights", "no-config"])
def test_a_missing_or_damaged_model_is_known_before_torch_is_loaded(tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED / "synseg-tiny", folder)
    weights, config = folder / "weights.safetensors", folder / "config.json"
    {
        "unknown": lambda: None,
        "no-folder": lambda: shutil.rmtree(folder),
        "empty": lambda: [path.unlink() for path in folder.iterdir()],
        "no-weights": weights.unlink,
        "cut-weights": lambda: weights.write_bytes(weights.read_bytes()[:-1]),
        "no-config": config.unlink,
    }[damage]()
    model = "synseg-tin" if damage == "unknown" else str(folder)
    code = f"""
from synseg_model import ModelError, Segmenter
try:
    Segmenter.load({model!r})
except ModelError as error:
    assert {model!r} in str(error), error
else:
    raise SystemExit("it was accepted")
"""
    assert not modules_after(code) & set(HEAVY)


def test_the_command_line_explains_itself_without_numpy():
    code = "from synseg_model.cli.main import make_parser\nmake_parser().format_help()"
    loaded = modules_after(code)
    assert "synseg_ros.bags.command" in loaded
    assert not loaded & {*HEAVY, "numpy", "cv2", "tqdm", "rosbags"}


def test_unknown_names_are_attribute_errors():
    import synseg_model

    with pytest.raises(AttributeError, match="no attribute 'segmentor'"):
        _ = synseg_model.segmentor
    assert "Segmenter" in dir(synseg_model)
