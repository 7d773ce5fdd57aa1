"""Where frames go that the viewer Rerun shows: a viewer that is started, one that runs, or a file."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["SPAWN", "ViewerTarget", "read_target"]

SPAWN = "spawn"  # what asks for a viewer on this machine
PORT = 9876  # of Rerun's viewer
_ADDRESS = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):\d+")
_URL = re.compile(r"rerun(?:\+https?)?://\S+")


@dataclass(frozen=True)
class ViewerTarget:
    """Say where frames go: exactly one of `file` and `url` is given.

    Args:
        file: the .rrd file to write.
        url: what Rerun calls the viewer's address.
        spawn: whether a viewer is started on this machine where none answers at `url`.
    """

    file: Path | None = None
    url: str = ""
    spawn: bool = False

    def __str__(self) -> str:
        """Return what users know it by."""
        return str(self.file) if self.file else self.url

    @property
    def host(self) -> str:
        """Host of the viewer."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the viewer."""
        return urlsplit(self.url).port or PORT

    def check(self) -> None:
        """Check what shows without a viewer.

        Raises:
            ValueError: for a file in a folder that is missing, and for a machine that cannot show a viewer.
        """
        if self.file and not self.file.parent.is_dir():
            raise ValueError(f"cannot write {self.file}: there is no folder {self.file.parent}; make it first")
        if self.spawn and sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            raise ValueError(
                "no viewer can start here: this machine has no display (neither DISPLAY nor WAYLAND_DISPLAY is set). "
                "Give a FILE.rrd, or the HOST:PORT of a viewer on another machine"
            )
        if self.spawn and not viewer_program():
            raise ValueError(
                "no viewer can start here: the program `rerun` of rerun-sdk is not found. Put its folder on PATH, "
                "start a viewer yourself and give its HOST:PORT, or give a FILE.rrd"
            )


def viewer_program() -> str:
    """Return the path of Rerun's viewer: on PATH, or beside this Python; "" where there is none."""
    return shutil.which("rerun") or shutil.which("rerun", path=str(Path(sys.executable).parent)) or ""


def read_target(text: str, name: str = "--rerun") -> ViewerTarget:
    """Read where frames go.

    Args:
        text: "spawn", HOST:PORT, a URL as `rerun` prints it, or FILE.rrd.
        name: what the error calls the option.

    Raises:
        ValueError: for another text.

    Example:
        >>> from synseg_model.viewer.target import read_target
        >>> read_target("192.168.1.5:9876").url
        'rerun+http://192.168.1.5:9876/proxy'
    """
    if text == SPAWN:
        return ViewerTarget(url=f"rerun+http://127.0.0.1:{PORT}/proxy", spawn=True)
    if text.lower().endswith(".rrd"):
        return ViewerTarget(file=Path(text).expanduser())
    url = f"rerun+http://{text}/proxy" if _ADDRESS.fullmatch(text) else text
    try:
        if _URL.fullmatch(url) and urlsplit(url).hostname and urlsplit(url).port != 0:
            return ViewerTarget(url=url)
    except ValueError:  # a port that is no number, or over 65535
        pass
    raise ValueError(
        f"{name} {text!r}: expected the HOST:PORT of a viewer, such as 192.168.1.5:{PORT}, its URL, such as "
        f"rerun+http://192.168.1.5:{PORT}/proxy, a FILE.rrd, or {SPAWN!r} to start a viewer"
    )
