"""Run the demo: python -m synseg_ros.demo [--input PATH] [--labels "person, car"]."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synseg_model.config import DEFAULT_MODEL
from synseg_ros.demo.flow import Demo, DemoError
from synseg_ros.demo.plan import SCENES_MODEL, make_plan
from synseg_ros.demo.processes import ProcessDiedError

DESCRIPTION = "Start the player and the node, change the labels while they run, and show the results."
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
IMAGES = (".png", ".jpg", ".jpeg", ".webp")


def main(argv: list[str] | None = None) -> int:
    """Run the demo.

    Args:
        argv: Command line arguments; None for those of the process.

    Returns:
        0; 1 if it did not work, 2 for wrong arguments, 130 if it was interrupted.
    """
    options = _parser().parse_args(argv)
    if options.output.suffix.lower() not in IMAGES:  # said now, not when the demo is over
        print(f"demo: --output {options.output}: expected a name that ends in {', '.join(IMAGES)}", file=sys.stderr)
        return 2
    try:
        plan = make_plan(options.input, options.labels)
    except ValueError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    model = options.model or plan.model
    shown = "generated scenes" if plan.scenes else plan.source
    print(f"starting the node with {model} and the player with {shown}", flush=True)
    demo = Demo(plan, model, options.output)
    with _interrupted_by_signals(demo):
        return _run(demo)


def _run(demo: Demo) -> int:
    began = time.monotonic()
    try:
        demo.start()
        status = demo.run()
    except DemoError as error:
        print(f"demo: {error}\n{demo.last_words()}", file=sys.stderr)
        return 1
    except ProcessDiedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        demo.close()
    print(f"ended after {time.monotonic() - began:.0f} s")
    return status


@contextmanager
def _interrupted_by_signals(demo: Demo) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and a terminal that closes interrupt the demo, which then ends its processes.

    They only leave word: a KeyboardInterrupt within the making of a message would become another error in rclpy.
    """
    handlers = {number: signal.signal(number, lambda *_: demo.interrupt()) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m synseg_ros.demo", description=DESCRIPTION)
    parser.add_argument(
        "--input",
        metavar="PATH",
        help="image, folder, video, /dev/video0, or scenes (default: the photographs of the package)",
    )
    parser.add_argument("--labels", default="", metavar='"A, B"', help="labels: first half of them, then all")
    parser.add_argument(
        "--model", help=f"a shipped model or a model folder ({DEFAULT_MODEL}; with --input scenes {SCENES_MODEL})"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/demo.png"),
        help="where the contact sheet goes (%(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
