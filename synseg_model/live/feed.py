"""What a feed gives to the session, and what the session asks of it. A feed is a source of segmented frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import cv2
import numpy as np

__all__ = ["LARGEST_SIDE", "NOTHING", "Feed", "FeedListener", "Found", "LiveFrame", "LiveLabels", "shrink"]

LARGEST_SIDE = 1280  # pixels; the networks read fewer, and a page shows hardly more


class LiveLabels(NamedTuple):
    """Hold the labels that a feed segments for.

    Attributes:
        labels: K distinct texts.
        ids: K ids, as label maps have them, from 1.
        thresholds: K numbers in [0, 1].
        own: K times whether the session asked for the label; False where only other clients of the feed did.
    """

    labels: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    own: tuple[bool, ...] = ()

    @property
    def asked(self) -> list[str]:
        """The labels that the session asked for."""
        return [label for label, own in zip(self.labels, self.own, strict=True) if own]


class Found(NamedTuple):
    """Tell how far a label is in a frame.

    Attributes:
        score: mean activation inside the mask, in [0, 1]; 0 for an empty mask.
        presence: largest activation, in [0, 1]; 0 where the feed does not know it.
        share: part of the frame that the mask covers, in [0, 1].
    """

    score: float
    presence: float
    share: float


NOTHING = Found(0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """Hold one frame and what was found in it.

    Attributes:
        image: (H,W,3) uint8 RGB.
        labels: the labels that it was segmented for; none for a frame that was not segmented.
        label_map: (H,W) unsigned integers: ids of labels, 0 for background; None for a frame that was not segmented.
        found: by id; a label that is not there may be left out.
        captured: when the frame came, by `time.monotonic()`; None where nobody knows.
        engine_ms: milliseconds that the engine took; None where nobody knows.
    """

    image: np.ndarray
    labels: LiveLabels = field(default_factory=LiveLabels)
    label_map: np.ndarray | None = None
    found: dict[int, Found] = field(default_factory=dict)
    captured: float | None = None
    engine_ms: float | None = None


class FeedListener(Protocol):
    """Take what a feed gives. Any thread of the feed may call these."""

    def on_frame(self, frame: LiveFrame) -> None:
        """Take a new frame."""

    def on_labels(self, labels: LiveLabels) -> None:
        """Take the labels that are in use from now on."""

    def on_refusal(self, reason: str) -> None:
        """Take the reason why the last request for labels was refused; the labels before it stay in use."""

    def on_trouble(self, part: str, reason: str) -> None:
        """Take what is wrong with a part of the feed, such as "source"; "" where it works again."""


class Feed(Protocol):
    """Give segmented frames.

    Attributes:
        name: what is shown, for users.
        model: what segments it, for users.
    """

    name: str
    model: str

    def start(self, listener: FeedListener) -> None:
        """Start to call the listener; the feed rests until it is told otherwise."""

    def ask(self, labels: list[str], thresholds: list[float | None]) -> None:
        """Ask for labels, which replace those before; `on_labels` or `on_refusal` is the answer. Returns at once.

        Args:
            labels: any texts; the feed checks them.
            thresholds: one per label, in [0, 1]; None for the model's own.
        """

    def rest(self, resting: bool) -> None:
        """Give no new frames while resting; where a feed can, new labels still change the frame at hand."""

    def close(self) -> None:
        """End the feed; the listener is not called any more."""


def shrink(image: np.ndarray, side: int = LARGEST_SIDE) -> np.ndarray:
    """Return an image whose sides have at most `side` pixels: the image itself where it is small enough.

    Args:
        image: (H,W,3) uint8, or a label map (H,W), whose ids stay as they are.
        side: largest number of pixels.
    """
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST if image.ndim == 2 else cv2.INTER_AREA)
