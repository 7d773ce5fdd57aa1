"""Protect the documentation site: it builds without a warning, needs no other site, and shows what the code has."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "scripts" / "site"
OTHER_SITE = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site as `make docs` does, in another folder; returns the folder."""
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture
def module(monkeypatch):
    """Import a module of the site's hooks, which are no package."""
    monkeypatch.syspath_prepend(str(SITE))
    yield importlib.import_module
    for name in ("generated", "github_markdown"):
        sys.modules.pop(name, None)


def test_pages_load_nothing_from_other_sites(site):
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    assert (site / "index.html") in pages
    assert [str(path) for path, text in pages.items() if OTHER_SITE.search(text)] == []


def test_every_message_and_service_has_its_fields_on_the_page(site):
    page = (site / "reference" / "messages.html").read_text("utf-8")
    for path in [*(ROOT / "msg").glob("*.msg"), *(ROOT / "srv").glob("*.srv")]:
        assert f"synseg_ros/{path.parent.name}/{path.stem}" in page
        fields = re.findall(r"(?m)^(?!#)[\w/\[\]<=]+ +(\w+)", path.read_text("utf-8"))
        assert [name for name in fields if f"<code>{name}" not in page] == [], path.name


def test_every_command_and_every_public_name_is_on_its_page(site):
    command_line = (site / "reference" / "command_line.html").read_text("utf-8")
    assert [name for name in ("segment", "bag", "export", "info") if f"usage: synseg {name}" not in command_line] == []
    python = (site / "reference" / "python.html").read_text("utf-8")
    names = ("segmenter.Segmenter.segment", "result.Result.label_map", "losses.MCCLLoss", "synergy.synergy_features")
    assert [name for name in names if f'id="synseg_model.{name}"' not in python] == []
    assert 'id="synseg_ros.client.MaskClient"' in python


def test_formulas_are_shown_without_a_script(site):
    assert (site / "method.html").read_text("utf-8").count("<math ") >= 9


def test_table_of_topics_has_every_output_with_its_type():
    outputs = pytest.importorskip("synseg_ros.interfaces.frame_outputs").FRAME_OUTPUTS
    table = (ROOT / "docs" / "interfaces.md").read_text("utf-8")
    rows = [f"| `synseg/<camera>/{output.name}` | {output.type.replace('/msg/', '/')}" for output in outputs]
    assert [row for row in rows if row not in table] == []


@pytest.mark.parametrize(
    ("github", "python"),
    [
        ("1. one\n\n   more\n2. two\n", "1. one\n\n    more\n2. two\n"),
        ("* one\n  more\n", "* one\n    more\n"),
        ("text:\n* one\n", "text:\n\n* one\n"),
        ("1. one\n\n   ```bash\n   ls\n   ```\n\ntext\n", "1. one\n\n    ```bash\n    ls\n    ```\n\ntext\n"),
        ("```text\n1. no list\n   more\n```\n", "```text\n1. no list\n   more\n```\n"),
        ("1. one\n\ntext\n   no item\n", "1. one\n\ntext\n   no item\n"),
    ],
)
def test_lists_keep_their_meaning(module, github, python):
    assert module("github_markdown").indent_lists(github) == python


def test_links_in_code_stay_as_they_are(module):
    page = "[a](b.md), ![c](d.png), [`e`](f.md)\n`[g](h.md)`\n```text\n[i](j.md)\n```\n"
    changed = module("github_markdown").change_links(page, str.upper)
    assert changed == "[a](B.MD), ![c](D.PNG), [`e`](F.MD)\n`[g](h.md)`\n```text\n[i](j.md)\n```\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("# All of it.\n\n# Meaning of a.\nuint8 a\n", ["| `a` | uint8 | Meaning of a. |"]),
        ("# Both.\nfloat32 x\nfloat32 y\n", ["| `x` | float32 | Both. |", "| `y` | float32 | Both. |"]),
        ("uint8 OFF=0  # not on\n", ["| `OFF=0` | uint8 | not on |"]),
        ("geometry_msgs/Point[] points\n", ["| `points` | geometry_msgs/Point[] |  |"]),
    ],
)
def test_fields_get_the_comment_above_them(module, text, rows):
    assert [row for row in module("generated").describe_fields(text).splitlines() if row.startswith("| `")] == rows
