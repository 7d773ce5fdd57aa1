"""Write the parameter table into config/synseg.yaml and docs/interfaces.md: `python -m synseg_ros.parameters.files`.

Run it after a change to the table; tests compare what it would write with what is there.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from synseg_ros.parameters.tables import NodeSettings

ROOT = Path(__file__).resolve().parents[2]
CONFIG, DOCS = ROOT / "config" / "synseg.yaml", ROOT / "docs" / "interfaces.md"
BEGIN, END = "<!-- parameters: begin -->", "<!-- parameters: end -->"
HEAD = """\
# Parameters of the segmentation node, at their defaults. Copy this file, change it, and give it to the launch file:
#   ros2 launch synseg_ros segment.launch.py params_file:=/path/to/mine.yaml
# Those marked "live" can be changed while the node runs: ros2 param set /synseg NAME VALUE
/**:
  ros__parameters:
"""


def yaml_text() -> str:
    """Write the parameter file, a comment above every parameter."""
    return HEAD + "\n".join(_entry(field) for field in dataclasses.fields(NodeSettings))


def markdown_table() -> str:
    """Write the table for the documentation."""
    rows = ["| parameter | default | live | |", "|---|---|---|---|"]
    for field in dataclasses.fields(NodeSettings):
        default = json.dumps(list(field.default) if isinstance(field.default, tuple) else field.default)
        live = "yes" if field.metadata["live"] else ""
        rows.append(f"| `{field.name}` | `{default}` | {live} | {' '.join(_sentences(field)).replace('<', '&lt;')} |")
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """Put the table into the documentation.

    Args:
        text: The documentation, with the marks BEGIN and END.

    Returns:
        The documentation with the present table between the marks.
    """
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{markdown_table()}{END}{after}"


def _entry(field: dataclasses.Field) -> str:
    comment = " ".join(_sentences(field)) + (" (live)" if field.metadata["live"] else "")
    lines = [f"    # {line}" for line in textwrap.wrap(comment, 112)]
    default = [""] if field.default == () else field.default  # ROS could not tell the type of []
    return "\n".join([*lines, f"    {field.name}: {json.dumps(default)}", ""])


def _sentences(field: dataclasses.Field) -> Iterator[str]:
    yield field.metadata["description"]
    if field.metadata["minimum"] is not None:
        yield f"{field.metadata['minimum']:g} to {field.metadata['maximum']:g}."
    if field.metadata["choices"]:
        yield f"One of: {', '.join(field.metadata['choices'])}."


def main() -> None:
    """Write both files."""
    CONFIG.write_text(yaml_text())
    DOCS.write_text(with_table(DOCS.read_text()))


if __name__ == "__main__":
    main()
