"""`synseg live`: a web page that shows a camera with its masks, and takes labels while it runs."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from synseg_model.cli.shared_arguments import add_labels, add_model, load_segmenter, read_labels, read_thresholds

if TYPE_CHECKING:
    from synseg_model.live.feed import Feed
    from synseg_model.live.server import LiveServer

NAME = "live"
HELP = "show a camera in a web page, and type labels there"
DESCRIPTION = """\
Open a web page on this machine that shows a camera with its masks. Type labels into the page: they
take effect from the next frame on. The page has a threshold, a score and a switch for each label.

SOURCE is a camera (0 for /dev/video0, the default), a video, a folder of images, or an image. A video
or a folder starts again at its end. With --ros, SOURCE is the name of a camera of a node that runs.

Ctrl-C ends it.
"""
EXAMPLES = """\
examples:
  synseg live
  synseg live drive.mp4 --labels "road, car, tree"
  synseg live photos/ --fps 1 --port 8080
  synseg live --ros front

exit status: 0 ended by Ctrl-C; 2 it could not start, for the reason given
"""

FEEDS = "synseg.feeds"  # entry points of other packages: functions that take a name and return a Feed
# As in commands.py: what colcon installs has no metadata.
_ROS = EntryPoint(name="ros", value="synseg_ros.live:open_feed", group=FEEDS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, the description and the examples to the command's parser."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="what to show (default: camera 0)")
    parser.add_argument(
        "--ros",
        action="store_true",
        help="show what a running node segments; its model is used, and its labels are changed for all its clients",
    )
    add_labels(parser, required=False)
    parser.add_argument("--fps", type=float, default=0.0, metavar="N", help="frames per second of videos and folders")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of the page (default: any free one)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 lets other machines see the page (default: %(default)s)",
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the page's address")
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve the page as the command line says; returns 0 after Ctrl-C."""
    import asyncio

    from synseg_model.live.server import LiveServer, run_server
    from synseg_model.live.session import RequestError

    if not 0 <= arguments.port <= 65535:
        raise ValueError(f"--port {arguments.port}: expected 0 to 65535")
    if not 0 <= arguments.fps <= 1000:  # nan is in no order
        raise ValueError(f"--fps {arguments.fps}: expected a number from 0 to 1000")
    given = arguments.labels is not None or arguments.labels_file is not None
    labels, thresholds = read_labels(arguments) if given else [], read_thresholds(arguments.thresholds)
    if thresholds and len(thresholds) == 1:
        thresholds = thresholds * len(labels)
    feed = _open_ros_feed(arguments.source or "") if arguments.ros else _open_source_feed(arguments)

    def started(server: LiveServer) -> None:
        print(f"{feed.name}: {server.url} (Ctrl-C ends it)", flush=True)
        if labels:
            try:
                server.session.ask(labels, thresholds)
            except RequestError as error:
                server.session.on_refusal(str(error))
        if not arguments.no_browser:
            _open_browser(server.url)

    asyncio.run(run_server(LiveServer(feed, arguments.host, arguments.port), started))
    return 0


def _open_source_feed(arguments: argparse.Namespace) -> Feed:
    from synseg_model.io.sources import open_source
    from synseg_model.live.source_feed import SourceFeed

    given = arguments.source or "0"
    is_index = given.isdecimal() and len(given) < 4 and not Path(given).exists()
    source = open_source(int(given) if is_index else given)  # before the model: loading one takes seconds
    segmenter = load_segmenter(arguments)
    return SourceFeed(source, segmenter, f"camera {given}" if is_index else given, arguments.fps)


def _open_ros_feed(camera: str) -> Feed:
    entry = next(iter(entry_points(group=FEEDS, name="ros")), _ROS)
    try:
        return entry.load()(camera)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--ros needs ROS 2 and this project's built messages, and {error.name} is missing: source both, or run "
            "scripts/with_env synseg live --ros in the project's folder"
        ) from None


def _open_browser(url: str) -> None:
    """Open the page in the browser where there is a desktop: elsewhere, a text browser might take the terminal."""
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        import webbrowser

        webbrowser.open(url)
