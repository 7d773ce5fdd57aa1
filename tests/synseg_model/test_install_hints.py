"""Hints on what to install work where they are given: in a clone, and in a copy without its sources."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from synseg_model.install_hints import EXTRAS, install_command, missing_module

ROOT = Path(__file__).parents[2]


def absent(module):
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize(
    ("module", "extra", "user"),
    [
        ("torch", "torch", "the torch engine"),
        ("open_clip", "torch", "the torch engine"),
        ("pycuda", "tensorrt", "the tensorrt engine"),
        ("pycuda.driver", "tensorrt", "the tensorrt engine"),
        ("openvino", "openvino", "the openvino engine"),
        ("onnxruntime", "onnx", "the onnxruntime engine"),
        ("onnxscript", "export", "exporting"),
        ("rosbags.rosbag2", "bag", "recordings"),
        ("skimage", "refine", "--refine"),
        ("ray", "ray", "--runner ray"),
        ("spacy", "train", "the training package"),
    ],
)
def test_a_missing_library_is_called_by_its_name_with_what_needs_it(module, extra, user):
    said = missing_module(absent(module))
    assert said.startswith(f"{module} is not installed; {user} needs: " if user != "recordings" else f"{module} is not")
    assert said.endswith(install_command(extra))


def test_a_library_that_no_extra_brings_gets_no_wrong_hint():
    assert missing_module(absent("colour")) == "colour is not installed"


def test_without_any_engine_the_hint_says_which_extra_brings_one(monkeypatch):
    for module in ("torch", "openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    said = missing_module(absent("torch"))
    assert said.startswith("no engine is installed")
    assert install_command("openvino") in said
    assert install_command("torch") in said


def test_a_package_of_the_same_name_as_ours_is_named_with_its_folder(tmp_path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").touch()
    code = (
        "from synseg_model.install_hints import missing_module\n"
        "try:\n    import training.only_ours\nexcept ModuleNotFoundError as error:\n    print(missing_module(error))"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT)))}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert f"training.only_ours is not in {tmp_path / 'training'}: this package training is another" in done.stdout


@pytest.mark.parametrize(("owner", "warned"), [("other_project", True), ("synseg", False)])
def test_files_of_another_package_training_in_the_same_folder_are_noticed(tmp_path, owner, warned):
    (tmp_path / "training").mkdir()
    shutil.copy(ROOT / "training" / "__init__.py", tmp_path / "training")
    information = tmp_path / f"{owner}-1.0.dist-info"
    information.mkdir()
    (information / "RECORD").write_text("other.py,,\ntraining/__init__.py,sha256=abc,123\n")
    command = [sys.executable, "-c", "import training"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ("other_project has installed a package `training`, too" in done.stderr) == warned


def test_in_a_clone_the_hint_installs_the_clone(tmp_path):
    assert shlex.split(install_command("bag")) == ["pip", "install", f"{ROOT}[bag]"]
    clone = tmp_path / "my clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    assert shlex.split(install_command("onnx", clone)) == ["pip", "install", f"{clone}[onnx]"]


def test_in_a_copy_without_its_sources_the_hint_installs_the_packages_themselves(tmp_path):
    command = shlex.split(install_command("onnx", tmp_path))
    assert command == ["pip", "install", "onnxruntime>=1.18", "tokenizers>=0.19", "ftfy>=6.1"]


def test_the_packages_are_those_of_the_extras():
    tomllib = pytest.importorskip("tomllib", reason="the standard library reads TOML from Python 3.11 on")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def packages(extra):
        for requirement in project["optional-dependencies"][extra] if extra else project["dependencies"]:
            nested = re.fullmatch(r"synseg\[(.*)\]", requirement)
            if nested:
                for name in nested[1].split(","):
                    yield from packages(name)
            elif "python_version >=" not in requirement:
                yield requirement.partition(";")[0]

    for extra, described in EXTRAS.items():
        assert set(described.packages) == set(packages(extra)), extra


def test_nowhere_is_the_project_called_a_package_of_a_registry():
    tracked = [path for folder in ("synseg_model", "synseg_ros", "training", "launch", "docs") for path in
               (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".txt")]  # fmt: skip
    wrong = re.compile(r"install ['\"]?synseg")
    assert [str(path) for path in (*tracked, ROOT / "README.md") if wrong.search(path.read_text("utf-8"))] == []


def test_a_hint_needs_no_library():
    code = "import sys, synseg_model.install_hints; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
