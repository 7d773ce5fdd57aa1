"""Things that take long to make, made in the background while work goes on without them. Needs no torch."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Key, Made = TypeVar("Key", bound=Hashable), TypeVar("Made")

KEPT = 8  # a camera and a size of vocabulary have one
SEEN = 64  # keys that have come once


class SeenKeys(Generic[Key]):
    """Tell keys that come again from those that come once, such as the sizes of photographs in a folder.

    Only those are worth a recording that come again.
    """

    def __init__(self) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def comes_again(self, key: Key) -> bool:
        """Note a key; return whether it was noted before, among the last SEEN."""
        if key in self._keys:
            return True
        self._keys[key] = None
        if len(self._keys) > SEEN:
            self._keys.popitem(last=False)
        return False

    def forget(self, key: Key) -> None:
        """Take a key for one that has not come yet."""
        del self._keys[key]


def reason_of(error: Exception) -> str:
    """Say in one line why a recording failed: of long messages about CUDA, what CUDA says."""
    text = " ".join(str(error).split()) or type(error).__name__
    said = re.search(r"\b(CUDA|CUDNN|CUBLAS) failure [^;]*[^; ]", text)
    return said[0] if said else text[:300]


class Recordings(Generic[Key, Made]):
    """Make what a key stands for in the background when the key comes a second time; keep those used last.

    make: yields what it makes for a key, each better than the one before; each is taken as soon as it is there. What it
    raises is logged, and what it made before stays.
    most: how many are kept.
    """

    def __init__(self, make: Callable[[Key], Iterator[Made]], most: int = KEPT) -> None:
        self._make, self._most = make, most
        self._made: OrderedDict[Key, Made | None] = OrderedDict()  # None until the first is there; last used last
        self._seen: SeenKeys[Key] = SeenKeys()
        self._waiting: list[Key] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._doing, self._began = "", 0.0
        self.failure = ""

    def get(self, key: Key) -> Made | None:
        """Return the best that has been made for a key; None, and have it made, where there is nothing yet."""
        with self._changed:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
            if self._stopping:
                return None
            if not self._seen.comes_again(key):
                return None
            self._seen.forget(key)
            self._made[key] = None
            if len(self._made) > self._most:
                self._made.popitem(last=False)
            self._waiting.append(key)
            if self._thread is None:  # it ends when nothing waits, so that it holds nothing that is no longer used
                self._thread = threading.Thread(target=self._work, name="synseg-recording", daemon=True)
                self._thread.start()
        return None

    @property
    def progress(self) -> str:
        """Say what is being made and for how long; "" where nothing is."""
        with self._changed:
            return f"{self._doing}, {time.monotonic() - self._began:.0f} s" if self._doing else ""

    def wait(self, timeout: float) -> bool:
        """Wait until nothing is being made; return whether that is so within timeout seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, timeout)

    def stop(self, timeout: float = 10.0) -> bool:
        """Make nothing more; return whether what is being made has ended within timeout seconds."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
        return self.wait(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._doing = ""
                if not self._waiting:
                    self._thread = None
                    self._changed.notify_all()
                    return
                key = self._waiting.pop(0)
                self._doing, self._began = f"recording {key}", time.monotonic()
            self._make_one(key)

    def _make_one(self, key: Key) -> None:
        try:
            for made in self._make(key):
                with self._changed:
                    if self._stopping or key not in self._made:  # others have taken its place meanwhile
                        return
                    self._made[key] = made
        except Exception as error:  # of compilers, of the GPU's memory: the work goes on as it was
            self.failure = reason_of(error)
            logger.warning("cannot record %s (%s): going on without", key, self.failure)
