"""Protect the documentation: its links lead somewhere, and its commands and files exist."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "training" / "data" / "README.md",
        *ROOT.glob("synseg_model/models/*/README.md"),
    ]
)
FOLDERS = r"(?:benchmarks|config|docs|examples|launch|msg|scripts|synseg_model|synseg_ros|tests|training)"
FENCE = re.compile(r"^ *(```+)([^\n]*)\n(.*?)^ *\1 *$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
MODULE = re.compile(r"\bpython3? -m ([\w.]+)")
COMMAND = re.compile(r"^ *(?:\$ )?(?:scripts/with_env )?synseg ([a-z][\w-]*)(.*)$", re.MULTILINE)
LAUNCH = re.compile(r"\bros2 launch synseg_ros (\S+)")
TARGET = re.compile(r"^ *(?:\w+=\S+ )*make ([a-z]+)\b", re.MULTILINE)
PATH = re.compile(rf"^{FOLDERS}/[\w./-]*[\w/]$")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and text of each fenced block; a command that goes on in the next line becomes one line."""
    found = FENCE.findall(page.read_text("utf-8"))
    return [(language.strip(), re.sub(r"\\\n\s*", "", text)) for _, language, text in found]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def commands(page: Path) -> str:
    """Return everything on a page that a reader may copy into a shell, one command per line."""
    return "\n".join([*(text for _, text in blocks(page)), *INLINE_CODE.findall(prose(page))])


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        numbered = (f"{slug}-{number}" for number in range(1, 100))
        found.add(slug if slug not in found else next(name for name in numbered if name not in found))
    return found


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links, but those to other sites."""
    for target in LINK.findall(INLINE_CODE.sub("", prose(page))):
        if not re.match(r"[a-z]+:", target):
            yield unquote(target)


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    return broken


def module_exists(name: str) -> bool:
    """Say whether `python -m NAME` finds a program; a module that is not the project's own must be installed."""
    path = ROOT.joinpath(*name.split("."))
    if (ROOT / name.split(".")[0]).is_dir():
        return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    return name in {"pip", "pytest", "venv"}


@every_page
def test_every_relative_link_and_anchor_resolves(page):
    assert broken_links(page) == []


@every_page
def test_every_code_block_is_fenced_and_names_its_language(page):
    text = prose(page)
    indented = re.findall(r"(?:^|\n)\n {4}\S.*", text)
    assert [block[:40] for block in indented if not re.match(r"\s*([-*]|\d+\.) ", block)] == []
    assert [text[:40] for language, text in blocks(page) if not language] == []


@every_page
def test_every_python_module_that_a_command_runs_exists(page):
    assert [name for name in MODULE.findall(commands(page)) if not module_exists(name)] == []


@every_page
def test_every_file_of_the_project_that_a_page_names_exists(page):
    named = [code for code in INLINE_CODE.findall(prose(page)) if PATH.match(code)]
    assert [path for path in named if not (ROOT / path).exists()] == []


@every_page
def test_every_launch_file_and_make_target_exists(page):
    text = commands(page)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert [name for name in LAUNCH.findall(text) if not (ROOT / "launch" / name).is_file()] == []
    assert [name for name in TARGET.findall(text) if name not in targets] == []


def test_every_synseg_command_and_option_exists():
    used: dict[str, set[str]] = {}
    for page in PAGES:
        for command, rest in COMMAND.findall(commands(page)):
            used.setdefault(command, set()).update(re.findall(r"(?<!\S)--[a-z][\w-]*", rest.split(" #")[0]))
    assert "segment" in used
    for command, options in used.items():
        arguments = [sys.executable, "-m", "synseg_model", command, "--help"]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"synseg {command}: {done.stderr}"
        assert [option for option in options if option not in done.stdout] == [], f"synseg {command}"


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[here](#a-heading)\n\n# A heading\n", []),
        ("[here](#a-heading-1)\n\n# A heading\n\n# A heading\n", []),
        ("[here](#a-heading)\n\n```text\n# A heading\n```\n", ["#a-heading"]),
        ("[there](other.md#what-it-is-and-does)\n", []),
        ("[there](other.md#what)\n", ["other.md#what"]),
        ("![image](missing.png) and [site](https://example.org/missing)\n", ["missing.png"]),
        ("`[no](link.md)`\n\n```text\n[no](link.md)\n```\n", []),
    ],
)
def test_broken_links_are_found(tmp_path, text, broken):
    (tmp_path / "other.md").write_text("## What `it` is, and does\n", "utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    assert broken_links(page) == broken


def test_modules_are_told_from_missing_ones():
    assert module_exists("synseg_model")
    assert module_exists("training.train")
    assert not module_exists("training.no_such_program")
    assert not module_exists("training.loop")
