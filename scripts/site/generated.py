"""Reference pages that are made from the code: messages and services, the command line, the Python interface."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

# What users call, page by page: the heading, and the names that mkdocstrings documents below it.
PYTHON = {
    "Segment images": (
        "synseg_model.segmenter.Segmenter",
        "synseg_model.result.Result",
        "synseg_model.vocabulary.Vocabulary",
        "synseg_model.vocabulary.VocabularyError",
        "synseg_model.config.ModelError",
        "synseg_model.refinement",
    ),
    "Find single objects": ("synseg_model.instances",),
    "Use masks in a ROS 2 node": ("synseg_ros.client",),
    "Write an engine": ("synseg_model.engine.Engine",),
    "Compute the paper's objective": ("synseg_model.synergy", "synseg_model.losses"),
}
# The settings of a program are dataclasses; their docstrings explain each one.
SETTINGS = {
    "training.prepare": ("training.prepare.PrepareConfig",),
    "training.train": (
        "training.train.TrainConfig",
        "training.datasets.sources.DataConfig",
        "training.datasets.augmentation.BatchConfig",
        "training.objective.objective.ObjectiveConfig",
        "training.datasets.caption_masks.CaptionMaskConfig",
        "training.loop.config.TrainerConfig",
    ),
}
FIELD = re.compile(
    r"^(?P<type>[\w/]+(?:<=\d+)?(?:\[[<=\d]*\])?)\s+(?P<name>\w+)\s*(?P<value>=?[^#]*)(?:#\s*(?P<note>.*))?$"
)


def pages(root: Path) -> dict[str, str]:
    """Make all pages.

    Args:
        root: folder of the project.

    Returns:
        The text of each page by its name in the site.
    """
    return {
        "reference/messages.md": messages_page(root),
        "reference/command_line.md": command_line_page(root),
        "reference/python.md": python_page(),
        "reference/training_settings.md": settings_page(),
    }


def messages_page(root: Path) -> str:
    """Describe all messages and services by the comments in their files.

    Args:
        root: folder of the project, with msg/ and srv/.
    """
    parts = ["# Messages and services\n\nThis page is made from the files in `msg/` and `srv/`.\n"]
    for path in [*sorted((root / "msg").glob("*.msg")), *sorted((root / "srv").glob("*.srv"))]:
        parts.append(f"## synseg_ros/{path.parent.name}/{path.stem}\n")
        halves = re.split(r"(?m)^---\s*$", path.read_text("utf-8"))
        for title, half in zip(("Request", "Response") if len(halves) == 2 else ("",), halves, strict=True):
            parts += [f"**{title}**\n"] if title else []
            parts.append(describe_fields(half))
    return "\n".join(parts)


def describe_fields(text: str) -> str:
    """Write one part of a message file as its comment at the top, and a table of its fields.

    A comment stands above its field. It holds for further fields that follow without an empty line.

    Args:
        text: lines of comments and fields.
    """
    head, rows, comments, last = [], [], [], ""
    for line in text.splitlines():
        line, field = line.strip(), FIELD.match(line.strip())
        if line.startswith("#"):
            comments.append(line.lstrip("# "))
        elif field:
            last = field["note"] or " ".join(comments) or last
            value = field["value"].strip()
            rows.append(f"| `{field['name']}{value}` | {field['type']} | {_cell(last)} |")
            comments = []
        else:
            if not rows:
                head += comments
                comments = []
            last = ""
    text = " ".join(head).replace("<", "&lt;") + "\n"
    if not rows:
        return text + "\nNo fields.\n"
    return "\n".join([text, "| field | type | meaning |", "|---|---|---|", *rows, ""])


def command_line_page(root: Path) -> str:
    """Write the help of each command of `synseg`.

    Args:
        root: folder of the project; the parser is that of its code.
    """
    os.environ["COLUMNS"] = "88"  # for argparse
    sys.path.insert(0, str(root))
    try:
        from synseg_model.cli.main import make_parser

        parser = make_parser()
    finally:
        sys.path.remove(str(root))
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parts = ["# Command line\n\nThis page is made from the parser. `python -m synseg_model` is the same program.\n"]
    for title, each in [("synseg", parser), *((f"synseg {name}", inner) for name, inner in commands.choices.items())]:
        parts.append(f"## {title}\n\n```text\n{each.format_help().rstrip()}\n```\n")
    parts.append(
        "## Programs of the training package\n\n"
        "Each program explains its settings with `--help`. [Settings of training](training_settings.md) has those of "
        "the main programs.\n"
    )
    return "\n".join(parts)


def python_page() -> str:
    """List the names of the Python interface for mkdocstrings."""
    parts = ["# Python interface\n\nThis page is made from the docstrings.\n"]
    for heading, names in PYTHON.items():
        parts += [f"## {heading}\n", *(f"::: {name}\n" for name in names)]
    return "\n".join(parts)


def settings_page() -> str:
    """List the settings of the training programs for mkdocstrings."""
    parts = [
        "# Settings of training\n\nThis page is made from the docstrings. `--data.NAME` sets a field of `DataConfig`, "
        "`--batches.NAME` one of `BatchConfig`, and so on. [Train and measure a model](../training.md) has tasks. "
        "`--help` explains the settings of all other programs.\n"
    ]
    for heading, names in SETTINGS.items():
        parts += [f"## {heading}\n", *(f"::: {name}\n" for name in names)]
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
