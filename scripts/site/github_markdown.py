"""GitHub's Markdown for Python's Markdown: links and lists; code stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable

_CODE = r"^(?P<indent> *)(?P<fence>```+)[^\n]*\n.*?^(?P=indent)(?P=fence) *$|`[^`\n]+`"
_CODE_OR_LINK = re.compile(rf"{_CODE}|(?P<open>\]\()(?P<target>[^()\s]+)(?P<close>\))", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"^(?P<mark>(?:\d+\.|[*-]) +)\S")
_FENCE = re.compile(r"^ *(```+)")


def change_links(text: str, change: Callable[[str], str]) -> str:
    """Change the target of each link and image, but not inside code.

    Args:
        text: a page.
        change: gives the new target for a target.

    Returns:
        The page with the new targets.
    """

    def replace(match: re.Match[str]) -> str:
        if match["target"] is None:
            return match[0]
        return match["open"] + change(match["target"]) + match["close"]

    return _CODE_OR_LINK.sub(replace, text)


def indent_lists(text: str) -> str:
    """Indent what belongs to an item of a list by four, and put an empty line before a list.

    GitHub takes the width of the item's mark: three for "1. ", two for "* ".

    Args:
        text: a page whose lists begin at the margin.

    Returns:
        The page with the same meaning for Python's Markdown.
    """
    lines: list[str] = []
    width, fence = 0, ""
    for line in text.splitlines():
        opening = _FENCE.match(line)
        item = None if fence else _ITEM.match(line)
        if item:
            if not width and lines and lines[-1].strip():
                lines.append("")
            width = len(item["mark"])
        elif line.strip() and not fence and not line.startswith(" "):
            width = 0
        if opening:
            fence = "" if fence == opening[1] else fence or opening[1]
        inner = width and not item and line.startswith(" " * width)
        lines.append(" " * 4 + line[width:] if inner else line)
    return "\n".join(lines) + "\n"
