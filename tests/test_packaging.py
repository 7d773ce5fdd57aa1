"""What is shipped is complete, and the files that name the same thing agree."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest

import synseg_model
from synseg_model.config import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("synseg_model", "synseg_ros", "training")
NAMES = {"rerun": "rerun-sdk"}  # of libraries that may be absent, where the module is called otherwise


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, as `pip install .` does; returns the opened archive."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in (*PACKAGES, "msg", "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "."]
    subprocess.run(command, cwd=folder, check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } | {f"synseg_ros/interfaces/msg/{path.name}" for path in (ROOT / "msg").iterdir()}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_wheel_carries_the_model_that_is_used_by_default(wheel):
    shipped = f"synseg_model/models/{DEFAULT_MODEL}"
    assert {f"{shipped}/config.json", f"{shipped}/weights.safetensors"} <= set(wheel.namelist())


def test_wheel_installs_the_command_synseg_and_names_what_synseg_ros_adds(wheel):
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    lines = wheel.read(entry_points).decode().splitlines()
    assert "synseg = synseg_model.cli.main:main" in lines
    assert lines[lines.index("[synseg.commands]") + 1] == "bag = synseg_ros.bags.command"
    assert lines[lines.index("[synseg.feeds]") + 1] == "ros = synseg_ros.live:open_feed"


def imported_modules(package):
    """Return the top-level names that a package's files import, without our own and the standard library's."""
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - set(PACKAGES)


def test_every_library_that_is_imported_is_declared():
    declared = {
        re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
        for requirement in metadata.requires("synseg")
        if "extra == 'dev'" not in requirement.replace('"', "'")
    }
    distributions = metadata.packages_distributions()
    missing = {
        module
        for package in ("synseg_model", "training")
        for module in imported_modules(package)
        # A library that is not installed, as pycuda where no CUDA is, is called what its module is called.
        for names in [distributions.get(module, (NAMES.get(module, module),))]
        if not declared & {name.lower().replace("_", "-") for name in names}
    }
    assert missing == set()


def test_every_ros_package_that_is_imported_is_declared_for_rosdep():
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in root if element.tag.endswith("depend")}
    libraries = {"cv2", "numpy", "tqdm", "PIL", "yaml", "rosbags"}
    assert imported_modules("synseg_ros") - libraries <= declared


def test_every_dependency_of_the_ros_package_is_known_to_rosdep():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in package if element.tag.endswith("depend")}
    known = set((ROOT / "tests" / "data" / "rosdep_keys.txt").read_text().split("\n"))
    assert declared and declared - known == set()


def test_container_files_name_targets_and_extras_that_exist():
    dockerfile = (ROOT / "Dockerfile").read_text()
    targets = re.findall(r"(?m)^FROM \S+ AS (\w+)$", dockerfile)
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["build"]["target"] in targets
    assert set(re.findall(r"--target (\w+)", (ROOT / "docs" / "install.md").read_text())) <= set(targets)
    asked = re.findall(r"EXTRAS=([\w,]+)", dockerfile + container["postCreateCommand"])
    extras = set(re.findall(r"(?m)^(\w+) = \[", (ROOT / "pyproject.toml").read_text()))
    assert asked and {extra for list_ in asked for extra in list_.split(",")} <= extras


def test_versions_agree():
    declared = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text()).group(1)
    ros = ElementTree.parse(ROOT / "package.xml").findtext("version")
    assert declared == ros == synseg_model.__version__


def test_every_message_is_generated():
    listed = re.findall(r'"msg/(\w+\.msg)"', (ROOT / "CMakeLists.txt").read_text())
    assert listed == sorted(path.name for path in (ROOT / "msg").glob("*.msg"))


def test_every_service_is_generated():
    listed = re.findall(r'"srv/(\w+\.srv)"', (ROOT / "CMakeLists.txt").read_text())
    assert listed == sorted(path.name for path in (ROOT / "srv").glob("*.srv"))


def test_every_package_whose_messages_ours_hold_is_found_by_cmake():
    fields = "\n".join(path.read_text() for folder in ("msg", "srv") for path in (ROOT / folder).iterdir())
    held = set(re.findall(r"(?m)^(\w+)/\w+", fields))
    dependencies = re.search(r"DEPENDENCIES ([\w ]+)", (ROOT / "CMakeLists.txt").read_text()).group(1).split()
    assert held and held <= set(dependencies)


def test_what_cmake_finds_is_declared_for_rosdep():
    found = set(re.findall(r"find_package\((\w+)", (ROOT / "CMakeLists.txt").read_text()))
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in package if element.tag.endswith("depend")}
    assert found and found <= declared


def test_installed_executables_can_be_executed():
    executables = [ROOT / ".ci" / "run", ROOT / "scripts" / "with_env", *(ROOT / "scripts" / "ros").iterdir()]
    assert [path.name for path in executables if not os.access(path, os.X_OK)] == []


def test_parameter_file_and_documentation_are_those_of_the_parameter_table():
    files = pytest.importorskip("synseg_ros.parameters.files")
    assert files.CONFIG.read_text() == files.yaml_text(), "run python -m synseg_ros.parameters.files"
    documentation = files.DOCS.read_text()
    assert files.with_table(documentation) == documentation, "run python -m synseg_ros.parameters.files"


def test_parameter_file_holds_the_defaults_of_the_node():
    yaml = pytest.importorskip("yaml")
    parameters = pytest.importorskip("synseg_ros.parameters.tables")
    written = yaml.safe_load((ROOT / "config" / "synseg.yaml").read_text())["/**"]["ros__parameters"]
    defaults = vars(parameters.NodeSettings())
    assert written == {name: [""] if value == () else value for name, value in defaults.items()}


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    "text",
    ["person, car", "it's", 'a "red" ball', "$HOME $(shell echo made) ${PATH}", "`id`; exit 3 #", "a\\b *", "球 мяч"],
)
def test_make_demo_passes_input_and_labels_as_they_are(text, tmp_path):
    received = tmp_path / "received.json"
    stand_in = tmp_path / "with_env"
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(received)!r}, 'w'))\n"
    )
    stand_in.chmod(0o755)
    command = ["make", "demo", "BOOTSTRAP=true", f"WITH_ENV={stand_in}", f"INPUT={text}", f"LABELS={text}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    expected = ["python", "-m", "synseg_ros.demo", "--input", text, "--labels", text]
    assert json.loads(received.read_text()) == expected


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_demo_without_input_and_labels_passes_none(tmp_path):
    command = ["make", "--no-print-directory", "demo", "BOOTSTRAP=true", "WITH_ENV=echo"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "python -m synseg_ros.demo\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["env"], ""),
        (["test"], "test"),
        (["docs"], "docs"),
        (["demo"], ""),
        (["demo", "INPUT=scenes"], "torch"),
        (["demo", "INPUT=my scenes"], ""),
    ],
)
def test_make_asks_for_the_libraries_that_a_target_needs(arguments, needed, tmp_path):
    stand_in = tmp_path / "bootstrap"
    stand_in.write_text('#!/bin/sh\necho "extras=$SYNSEG_EXTRAS needs=$SYNSEG_NEEDS"\n')
    stand_in.chmod(0o755)
    variables = {key: value for key, value in os.environ.items() if key not in ("SYNSEG_EXTRAS", "SYNSEG_NEEDS")}
    command = ["make", "--no-print-directory", *arguments, f"BOOTSTRAP={stand_in}", "WITH_ENV=true", "EXTRAS=a,b"]
    done = subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == f"extras=a,b needs={needed}"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("given", "arguments"),
    [([], ""), (["INPUT=a b.mp4", "LABELS=person, car"], " --labels=person, car -- a b.mp4"), (["INPUT=1"], " -- 1")],
)
def test_make_live_passes_input_and_labels(given, arguments):
    command = ["make", "--no-print-directory", "live", "BOOTSTRAP=true", "WITH_ENV=echo", *given]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == f"synseg live{arguments}\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("status", [1, 5])  # a test failed; no test ran
def test_ci_fails_when_tests_fail_or_none_ran(status, tmp_path):
    stand_in = tmp_path / "with_env"
    stand_in.write_text(f'#!/bin/sh\n[ "$1" = ruff ] || exit {status}\n')
    stand_in.chmod(0o755)
    variables = {**os.environ, "MAKEFLAGS": f"BOOTSTRAP=true WITH_ENV={stand_in}"}
    done = subprocess.run([ROOT / ".ci" / "run"], cwd=tmp_path, env=variables, capture_output=True)
    assert done.returncode != 0


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_ci_passes_from_any_folder_when_lint_and_tests_pass(tmp_path):
    variables = {**os.environ, "MAKEFLAGS": "BOOTSTRAP=true WITH_ENV=true"}
    done = subprocess.run([ROOT / ".ci" / "run"], cwd=tmp_path, env=variables, capture_output=True)
    assert done.returncode == 0
