"""The session that all open pages share: labels, thresholds, what is shown, and the newest frame as drawn."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from synseg_model.folding import fold
from synseg_model.io.drawing import palette
from synseg_model.live.drawn_frame import DrawnFrame, draw
from synseg_model.live.feed import Feed, LiveFrame, LiveLabels

__all__ = ["RequestError", "Session"]

logger = logging.getLogger(__name__)

RATE_SECONDS = 2.0  # over which frames are counted
JOIN_SECONDS = 5.0


class RequestError(ValueError):
    """A request from a page that cannot be carried out; the text is for its user."""


class Session:
    """Keep what pages have asked for, and draw the frames of a feed in a thread of its own.

    Frames are drawn only while there are pages. A frame that is replaced before it is drawn is dropped.

    Args:
        feed: gives the frames. The session starts and closes it.
        on_state: called, from any thread, when `state` has changed.
        on_frame: called, from the drawing thread, with each new DrawnFrame.
    """

    def __init__(self, feed: Feed, on_state: Callable[[], None], on_frame: Callable[[DrawnFrame], None]) -> None:
        self._feed, self._on_state, self._on_frame = feed, on_state, on_frame
        self._lock = threading.Condition(threading.RLock())  # guards all below
        self._labels = LiveLabels()
        self._asked: list[str] | None = None  # labels that wait for an answer
        self._thresholds: dict[str, float] = {}  # chosen by users, by folded label
        self._hidden: set[str] = set()  # folded labels
        self._names = self._paused = False
        self._pages = 0
        self._refusal = ""
        self._troubles: dict[str, str] = {}
        self._frame: LiveFrame | None = None
        self._must_draw = self._ended = False
        self._times: deque[float] = deque()
        self._drawn: DrawnFrame | None = None
        self._thread = threading.Thread(target=self._draw_newest, name="synseg-live-drawing", daemon=True)

    def start(self) -> None:
        """Start the feed and the drawing thread."""
        self._thread.start()
        self._feed.start(self)

    def close(self) -> None:
        """Close the feed and end the drawing thread."""
        self._feed.close()
        with self._lock:
            self._ended = True
            self._lock.notify_all()
        self._thread.join(JOIN_SECONDS)

    # What pages ask for

    def ask(self, labels: Sequence[str], thresholds: Sequence[float] | None = None) -> None:
        """Ask for labels; those whose threshold a user has chosen keep it.

        Args:
            labels: any texts; the feed checks them.
            thresholds: one per label, in [0, 1], as if a user chose them.

        Raises:
            RequestError: for another number of thresholds, and for one outside that range.
        """
        with self._lock:
            if thresholds:
                if len(thresholds) != len(labels):
                    raise RequestError(f"{len(thresholds)} thresholds for {len(labels)} labels: give one per label")
                for label, threshold in zip(labels, thresholds, strict=True):
                    self._thresholds[fold(label)] = _checked(label, threshold)
            self._asked = list(labels)
            self._feed.ask(self._asked, [self._thresholds.get(fold(label)) for label in labels])
        self._on_state()

    def set_threshold(self, label: str, threshold: float) -> None:
        """Change the threshold of one label.

        Args:
            label: one of the labels in use.
            threshold: a number in [0, 1].

        Raises:
            RequestError: for another label or number, and for a label that only other clients of the feed want.
        """
        with self._lock:
            asked, key = self._asked or self._labels.asked, self._known(label)
            if key not in map(fold, asked):
                raise RequestError(f"label {label!r} is wanted by other clients only: ask for it to set its threshold")
            self._thresholds[key] = _checked(label, threshold)
            self.ask(asked)

    def show(self, label: str, shown: bool) -> None:
        """Show or hide the mask of one label. A hidden label is still segmented.

        Args:
            label: one of the labels in use.
            shown: whether it is drawn.

        Raises:
            RequestError: for a label that is not in use.
        """
        with self._lock:
            key = self._known(label)
            (self._hidden.discard if shown else self._hidden.add)(key)
            self._draw_again()
        self._on_state()

    def show_names(self, shown: bool) -> None:
        """Write the names of labels on the image, or leave them out.

        Args:
            shown: whether they are written.
        """
        with self._lock:
            self._names = shown
            self._draw_again()
        self._on_state()

    def pause(self, paused: bool) -> None:
        """Keep the frame at hand, or go on.

        Args:
            paused: whether to keep it.
        """
        with self._lock:
            self._paused = paused
            self._rest()
        self._on_state()

    def count_pages(self, pages: int) -> None:
        """Say how many pages are open; without any, the feed rests.

        Args:
            pages: number of pages.
        """
        with self._lock:
            self._pages = pages
            self._rest()

    def _rest(self) -> None:
        resting = self._paused or not self._pages
        if resting:
            self._times.clear()
        self._feed.rest(resting)

    def _known(self, label: str) -> str:
        if label not in self._labels.labels:
            raise RequestError(f"label {label!r} is not in use any more")
        return fold(label)

    # What pages show

    def state(self) -> dict[str, object]:
        """Describe all but the frame, ready for JSON."""
        with self._lock:
            labels = self._labels
            colors = palette(max(labels.ids, default=0))
            return {
                "type": "state",
                "source": self._feed.name,
                "model": self._feed.model,
                "labels": [
                    {
                        "label": label,
                        "id": number,
                        "color": "#" + bytes(colors[number - 1]).hex(),
                        "threshold": threshold,
                        "shown": fold(label) not in self._hidden,
                        "own": own,
                    }
                    for label, number, threshold, own in zip(*labels, strict=True)
                ],
                "busy": self._asked is not None,
                "paused": self._paused,
                "names": self._names,
                "refusal": self._refusal,
                "troubles": sorted(self._troubles.values()),
            }

    @property
    def drawn(self) -> DrawnFrame | None:
        """The newest frame as drawn; None before the first."""
        return self._drawn

    # What the feed gives

    def on_frame(self, frame: LiveFrame) -> None:
        """Take a new frame of the feed."""
        now = time.monotonic()
        with self._lock:
            if self._frame is None or frame.image is not self._frame.image:  # not the same one with other labels
                self._times.append(now)
            while self._times and self._times[0] < now - RATE_SECONDS:
                self._times.popleft()
            self._frame = frame
            self._draw_again()

    def on_labels(self, labels: LiveLabels) -> None:
        """Take the labels that are in use from now on."""
        with self._lock:
            if self._asked is not None and set(map(fold, self._asked)) == set(map(fold, labels.asked)):
                self._asked, self._refusal = None, ""  # else this answers an earlier request
            self._labels = labels
        self._on_state()

    def on_refusal(self, reason: str) -> None:
        """Take the reason why labels were refused."""
        logger.warning("labels refused: %s", reason)
        with self._lock:
            self._asked, self._refusal = None, reason
        self._on_state()

    def on_trouble(self, part: str, reason: str) -> None:
        """Take what is wrong with a part of the feed; "" where it works again."""
        with self._lock:
            if self._troubles.get(part, "") == reason:
                return
            self._troubles.pop(part, None)
            if reason:
                self._troubles[part] = reason
                logger.warning("%s", reason)
            else:
                logger.warning("the %s works again", part)
        self._on_state()

    # Drawing

    def _draw_again(self) -> None:
        self._must_draw = self._frame is not None
        self._lock.notify_all()

    def _draw_newest(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._must_draw or self._ended)
                if self._ended:
                    return
                self._must_draw = False
                frame, hidden, names = self._frame, set(self._hidden), self._names
                rate, live = self._rate(), not self._paused
            try:
                drawn = draw(frame, hidden, names, rate, live)
            except Exception as error:  # this frame is lost, the next one may be better
                self.on_trouble("drawing", f"a frame cannot be drawn: {type(error).__name__}: {error}")
                continue
            self.on_trouble("drawing", "")
            self._drawn = drawn
            self._on_frame(drawn)

    def _rate(self) -> float:
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-3)


def _checked(label: str, threshold: float) -> float:
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:  # nan is in no order
        raise RequestError(f"threshold {threshold!r} of label {label!r}: expected a number from 0 to 1")
    return float(threshold)
