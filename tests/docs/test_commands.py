"""Protect the examples of the documentation: each one runs as it is written, or says what a test lacks to run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "training" / "data" / "README.md",
    *sorted(ROOT.glob("synseg_model/models/*/README.md")),
]
# What `<!-- needs: WORD -->` above a block means.
NEEDS = {
    "camera": "a camera, or a driver that publishes its images",
    "data": "data sets, or a model that training makes",
    "docker": "a container engine",
    "gpu": "a GPU",
    "network": "a package registry",
    "recording": "a recorded bag",
    "rerun": "rerun-sdk, which `dev` goes without: they run where it is installed",
    "ros2": "the command line tools of a ROS 2 installation",
    "terminals": "a program that runs until somebody ends it",
    "time": "minutes",
    "training": "the steps before it: `test_training_lesson_runs_from_start_to_end` runs them in their order",
}
BLOCK = re.compile(
    r"^ *(?:<!-- needs: (?P<needs>.+?) -->\n *)?(?P<fence>```+)(?P<language>bash|console|python)\n"
    r"(?P<text>.*?)^ *(?P=fence) *\n(?:\s*```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
INSTALLS = re.compile(r"\b(?:sudo|apt|apt-get|rosdep|docker|make|pip3? (?:install|download))\b")
LENGTH = re.compile(r"(?<=--seconds=)\d+")  # of a benchmark: more of it makes numbers steadier, and runs nothing else
LIMIT_SECONDS = 120  # where the machine is busy; what takes longer has the mark "time"
FOLDERS = ("examples", "synseg_model", "synseg_ros", "training", "launch", "config", "docs")
IMAGE = "import cv2\nimage = cv2.cvtColor(cv2.imread('photo.jpg'), cv2.COLOR_BGR2RGB)\n"


class Example(NamedTuple):
    """A block of a page; `output` is the text block right below it."""

    page: Path
    line: int
    needs: str | None
    language: str
    text: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def examples(page: Path) -> list[Example]:
    """Return all blocks of a page that a reader may run."""
    text = page.read_text("utf-8")
    return [
        Example(page, text.count("\n", 0, m.start("fence")) + 1, m["needs"], m["language"], m["text"], m["output"])
        for m in BLOCK.finditer(text)
    ]


ALL = [example for page in PAGES for example in examples(page)]
RUNNABLE = [example for example in ALL if example.needs is None]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a cache folder for all examples: several ask for words that a model never met, which takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(tmp_path, monkeypatch, cache):
    """Return a folder that looks like the project, with files of the names that examples use for the reader's own."""
    monkeypatch.setenv("SYNSEG_CACHE_DIR", str(cache))
    cv2 = pytest.importorskip("cv2")
    for name in FOLDERS:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "exported").symlink_to(ROOT / "synseg_model" / "models" / "synseg-everyday" / "exported")
    (tmp_path / "scripts").mkdir()
    with_env = tmp_path / "scripts" / "with_env"
    with_env.write_text('#!/bin/sh\nexec "$@"\n')  # the tests run in the environment
    with_env.chmod(0o755)
    image = cv2.imread(str(ROOT / "synseg_ros" / "player" / "photographs" / "coffee.jpg"))
    (tmp_path / "photos").mkdir()
    for place in ("photos/a.jpg", "photos/b.png", "photo.jpg"):
        cv2.imwrite(str(tmp_path / place), cv2.resize(image, (320, 240)))
    return tmp_path


def run(example: Example, folder: Path, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
    """Run a block in a folder, in the environment of the tests."""
    if example.language == "python":
        command = [sys.executable, "-c", IMAGE + example.text]
    else:
        command = ["bash", "-euo", "pipefail", "-c", example.text]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "PATH": path, "PYTHONPATH": python_path}
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=seconds, check=False
    )


def without_numbers(text: str) -> str:
    """Replace numbers with decimals, which differ a little from CPU to CPU."""
    return re.sub(r"\d\.\d+", "#", text.strip())


def test_every_mark_is_a_known_one():
    assert [f"{example}: {example.needs}" for example in ALL if example.needs not in {None, *NEEDS}] == []


def test_nothing_that_installs_goes_without_a_mark():
    assert [str(example) for example in RUNNABLE if INSTALLS.search(example.text)] == []


def test_every_mark_stands_above_an_example():
    marks = sum(page.read_text("utf-8").count("\n<!-- needs: ") for page in PAGES)
    indented = sum(len(re.findall(r"\n +<!-- needs: ", page.read_text("utf-8"))) for page in PAGES)
    assert marks + indented == sum(example.needs is not None for example in ALL)


@pytest.mark.parametrize("example", RUNNABLE, ids=str)
def test_example_runs_and_gives_what_the_page_shows(example, project):
    assert not INSTALLS.search(example.text), "mark it, so that no test installs anything"
    done = run(example._replace(text=LENGTH.sub("2", example.text)), project, LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    if example.output and example.output.startswith("out/"):
        made = sorted(path.relative_to(project).as_posix() for path in (project / "out").rglob("*") if path.is_file())
        assert made == example.output.split()
    elif example.output:
        assert without_numbers(done.stdout) == without_numbers(example.output)


@pytest.mark.parametrize("example", [example for example in ALL if example.needs == "rerun"], ids=str)
def test_example_with_rerun_runs(example, project):
    pytest.importorskip("rerun", reason="needs rerun-sdk: the extra rerun")
    done = run(example, project, LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (project / "seen.rrd").stat().st_size > 0


@pytest.mark.slow
def test_training_lesson_runs_from_start_to_end(project):
    pytest.importorskip("torch")
    steps = [example for example in ALL if example.needs == "training"]
    assert len({step.page for step in steps}) == 1
    for step in steps:
        done = run(step, project)
        assert done.returncode == 0, f"{step}: {done.stderr[-2000:]}"
    assert (project / "out" / "label_map" / "street.png").is_file()


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("```bash\nls\n```\n", [None]),
        ("<!-- needs: gpu -->\n```bash\nls\n```\n", ["gpu"]),
        ("1. Do this:\n\n   <!-- needs: data -->\n   ```bash\n   ls\n   ```\n", ["data"]),
        ("```text\nno example\n```\n\n```python\n1\n```\n", [None]),
    ],
)
def test_examples_and_their_marks_are_found(text, needs, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    assert [example.needs for example in examples(page)] == needs


def test_an_example_that_fails_is_noticed(tmp_path):
    assert run(Example(tmp_path, 1, None, "bash", "false\ntrue\n", None), tmp_path).returncode != 0
