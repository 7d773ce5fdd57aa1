"""The steps of the demo: start the processes, ask for labels, change them, and end everything."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from tqdm import tqdm

from synseg_ros.demo.listener import HEARD, Listener
from synseg_ros.demo.plan import Plan, node_arguments, player_arguments
from synseg_ros.demo.processes import Child, private_domain, stop_all
from synseg_ros.demo.report import TITLES, per_label, results_table, write_contact_sheet
from synseg_ros.node.camera_statistics import KINDS

NODE_MODULE, ENGINE = "synseg_ros.node", "auto"
TOPIC, CAMERA = "/camera/image_raw", "camera"
PHASE_SECONDS = 12.0  # a phase of a source without end is over then, or when it has its frames, but has at least:
FEWEST_FRAMES = 5
START_SECONDS = 120.0  # importing torch takes that long where the machine is busy
STALL_SECONDS = 25.0
LATE_SECONDS = 3.0
COMPLETE_SECONDS = 20.0  # for the camera_info of the last frames, where the machine is busy


class DemoError(RuntimeError):
    """The demo does not work; the text says what did not happen."""


class Demo:
    """Run one demo: `start` brings the processes up, `run` gives the exit status, `close` ends everything.

    Args:
        plan: What is shown, and with which labels.
        model: Name or folder of the model.
        sheet: Where the contact sheet goes.
    """

    def __init__(self, plan: Plan, model: str, sheet: Path) -> None:
        self._plan, self._model, self._sheet = plan, model, sheet
        self._children: dict[str, Child] = {}
        self._executor: SingleThreadedExecutor | None = None
        self._interrupted = False

    def start(self) -> None:
        """Start the node, the player and the listener in a ROS domain of their own, on this machine only."""
        os.environ.update(private_domain())
        node = node_arguments(self._plan, self._model, ENGINE, TOPIC, CAMERA)
        self._children["node"] = Child("node", NODE_MODULE, node, os.environ)
        if self._plan.scenes:
            self._start_player()  # its truth is needed to choose labels; others wait for the first vocabulary
        rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self._listener = Listener(TOPIC, CAMERA)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._listener)

    def run(self) -> int:
        """Ask for both vocabularies, print the table, and write the contact sheet.

        Returns:
            0, or 1 if the outputs contradict each other.

        Raises:
            DemoError: Something that should happen did not.
            ProcessDiedError: The node or the player ended.
            KeyboardInterrupt: `interrupt` was called.
        """
        listener = self._listener
        if self._plan.scenes:
            self._wait(lambda: listener.segments is not None, START_SECONDS, "the player published no truth")
        first, second = self._plan.vocabularies(listener.segments)
        versions = [self._ask(first, START_SECONDS)]
        if not self._plan.scenes:
            self._start_player()
        if self._plan.has_truth:  # frames may reach the node before the truth reaches us
            self._wait(lambda: listener.compared, START_SECONDS, "no masks were compared with the truth of their frame")
        self._collect(versions[0], "before the change", last=False)
        versions.append(self._ask(second, STALL_SECONDS))
        self._collect(versions[1], "after the change", last=True)
        counts = self._finish()
        write_contact_sheet(listener, versions, self._sheet)
        print(f"\n{results_table(listener, versions)}\n")
        for title, version in zip(TITLES, versions, strict=True):
            print(f"{title}: {', '.join(per_label(listener.phases[version]))}")
        print(f"frames by the node's own count: {counts}")
        print(f"overlays: {self._sheet}")
        faults = listener.contradictions()
        for fault in faults:
            print(f"inconsistent: {fault}", file=sys.stderr)
        return int(bool(faults))

    def interrupt(self) -> None:
        """Let `run` end soon; a signal handler may call this."""
        self._interrupted = True

    def last_words(self) -> str:
        """Return the last lines of every process's output, under its name."""
        return "\n".join(f"last output of the {name}:\n{child.tail()}" for name, child in self._children.items())

    def close(self) -> dict[str, int]:
        """End all processes and leave ROS; return the exit statuses by name."""
        statuses = stop_all(self._children.values())
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
            self._listener.destroy_node()
            rclpy.try_shutdown()
        return statuses

    def _start_player(self) -> None:
        arguments = player_arguments(self._plan, TOPIC, HEARD)
        self._children["player"] = Child("player", "synseg_ros.player", arguments, os.environ)

    def _ask(self, labels: tuple[str, ...], timeout: float) -> int:
        """Publish labels and wait until they are in use; return their version."""
        listener = self._listener
        before = listener.status.version if listener.status else 0
        listener.ask_for(labels)

        def answered() -> bool:
            status = listener.status
            return status is not None and (status.version > before or not status.accepted)

        self._wait(answered, timeout, "the node did not answer a vocabulary")
        if not listener.status.accepted:
            raise DemoError(f"the node refused the labels {', '.join(labels)}: {listener.status.message}")
        version = listener.status.version
        print(f"vocabulary {version}: {', '.join(labels)}", flush=True)
        return version

    def _collect(self, version: int, title: str, last: bool) -> None:
        """Listen until there are enough masks; in the last phase, until the end of a folder."""
        frames = self._plan.frames
        # Of a source without end, frames of the vocabulary before that are still under way do not count.
        counted = version if frames is None else None
        already = self._count(counted)
        goal = self._plan.phase_frames if frames is None else frames - already if last else frames // 2
        count, begin = 0, time.monotonic()
        progress = begin
        with tqdm(total=goal, desc=title, unit="frame", leave=False, disable=None) as bar:
            while count < goal and not self._content(count, begin, progress):
                self._spin(allow_player_end=last)
                new = self._count(counted) - already - count
                if not count:
                    begin = time.monotonic()  # the player may still be starting
                if new:
                    bar.update(new)
                    count, progress = count + new, time.monotonic()
                if time.monotonic() - progress > STALL_SECONDS:
                    raise DemoError(f"no masks of vocabulary {version} for {STALL_SECONDS:.0f} s")
        if version not in self._listener.phases:
            raise DemoError(f"no frame was left for vocabulary {version}: give more images")
        if self._plan.has_truth:  # the few frames of a busy machine may show none of the labels
            accuracy = self._listener.phases[version].accuracy
            self._wait(
                lambda: accuracy.mean() is not None, STALL_SECONDS, f"no frame showed a label of vocabulary {version}"
            )

    def _count(self, counted: int | None) -> int:
        """Count the frames of one version of the vocabulary; None: of all versions."""
        return sum(len(phase.stamps) for version, phase in self._listener.phases.items() if counted in (None, version))

    def _content(self, count: int, begin: float, progress: float) -> bool:
        """Return True when the phase ends with fewer frames: the time is over, or the player has ended."""
        if self._plan.frames is None:
            return count >= FEWEST_FRAMES and time.monotonic() - begin >= PHASE_SECONDS
        ended = self._children["player"].returncode == 0
        return ended and time.monotonic() - progress > LATE_SECONDS

    def _finish(self) -> str:
        """Take the messages that are still under way, end everything, and return the node's own count of frames."""
        self._listener.closed = True
        deadline = time.monotonic() + COMPLETE_SECONDS
        while not self._listener.complete() and time.monotonic() < deadline:
            self._spin(allow_player_end=True)
        self._children["player"].stop()
        heard, deadline = 0, time.monotonic() + LATE_SECONDS
        while heard < 2 and time.monotonic() < deadline:  # the second report began after the last frame
            before = self._listener.node_counts
            self._spin(allow_player_end=True)
            heard += self._listener.node_counts is not before
        counts = self._listener.node_counts
        summary = ", ".join(f"{counts.get(f'frames {kind}', '?')} {kind}" for kind in KINDS)
        for name, status in self.close().items():
            if status:
                raise self._children[name].died()
        return summary

    def _wait(self, done: Callable[[], bool], seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            self._spin()
            if time.monotonic() > deadline:
                raise DemoError(f"{complaint} within {seconds:.0f} s")

    def _spin(self, allow_player_end: bool = False) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._executor.spin_once(timeout_sec=0.05)
        for name, child in self._children.items():
            ended = child.returncode
            if ended is not None and not (allow_player_end and name == "player" and ended == 0):
                raise child.died()
