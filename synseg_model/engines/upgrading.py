"""Frames now, on the engine that is there, while a better one is still being built in a process beside."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from synseg_model.config import ModelError
from synseg_model.engine import Engine
from synseg_model.result import DeviceMaps
from synseg_model.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


class UpgradingEngine:
    """Run on one engine until a better one of the same model is ready, then on that, from one call to the next.

    engine: the one to begin with. better: name of the other, for messages. command: builds what that one needs; an
    argument list, run as a process of its own. load: loads it once the command has ended with status 0; called on a
    thread of its own.

    start() begins; stop() ends the process at once. The better engine is tried on the last frames first. One that
    cannot be built, loaded or run, or that is of another model, is not taken: `failure` says why, and the first engine
    stays. Both embed text alike, so text embeddings hold.
    """

    def __init__(self, engine: Engine, better: str, command: Sequence[str], load: Callable[[], Engine]) -> None:
        self.config, self.fingerprint = engine.config, engine.fingerprint
        self.failure = ""
        self._engine = engine
        self._better, self._command, self._load = better, list(command), load
        self._doing, self._began = "building", 0.0
        self._last: tuple[Sequence[np.ndarray], np.ndarray] | None = None  # frames and text of the last call
        self._process: subprocess.Popen | None = None
        self._stopping = False
        self._lock = threading.Lock()  # of the two above
        self._thread = threading.Thread(target=self._upgrade, name="synseg-upgrade", daemon=True)

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def device(self) -> str:
        return self._engine.device

    @property
    def independent_labels(self) -> bool:
        return self._engine.independent_labels

    @property
    def upgrading(self) -> bool:
        """Whether the better engine is on its way."""
        return self._thread.is_alive()

    @property
    def progress(self) -> str:
        """Say what happens beside the frames, for how long, or why it came to nothing; "" where there is no more."""
        if self.failure:
            return f"no {self._better} engine ({self.failure}): running on {self.name}"
        if not self.upgrading:
            return ""
        seconds = time.monotonic() - self._began
        return f"{self._doing} the {self._better} engine, {seconds:.0f} s; running on {self.name} meanwhile"

    def start(self) -> None:
        """Start to build."""
        self._began = time.monotonic()
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """End the build at once; return True when nothing runs beside any more, within timeout seconds.

        False is for an engine that is just being loaded, which is not taken any more.
        """
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.kill()  # what it builds appears whole or not at all
        if self.upgrading:
            self._thread.join(timeout)
        return not self.upgrading

    def count_tokens(self, text: str) -> int:
        return self._engine.count_tokens(text)

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        return self._engine.encode_text(prompts)

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        self._last = (frames, text) if self.upgrading else None
        return self._engine.activations(frames, text)

    def device_maps(
        self, frames: Sequence[np.ndarray], text: np.ndarray, vocabulary: Vocabulary | None = None
    ) -> list[np.ndarray | DeviceMaps]:
        self._last = (frames, text) if self.upgrading else None
        return self._engine.device_maps(frames, text, vocabulary)

    # On the thread

    def _upgrade(self) -> None:
        try:
            self._build()
            if self._stopping:
                return
            self._doing = "loading"
            engine = self._load()
            self._try(engine)
        except Exception as error:
            if not self._stopping:
                self.failure = " ".join(str(error).split()) or type(error).__name__
                logger.warning("%s", self.progress)
            return
        if not self._stopping:
            self._engine = engine
            logger.info("running on %s, after %.0f s", self.name, time.monotonic() - self._began)

    def _build(self) -> None:
        """Run the command; raise ChildProcessError with the last line of its errors where it fails."""
        with self._lock:
            if self._stopping:
                return
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
        lines = [line for line in process.communicate()[1].splitlines() if line.strip()]
        if process.returncode < 0:
            raise ChildProcessError(f"its build was ended by {signal.Signals(-process.returncode).name}")
        if process.returncode:
            raise ChildProcessError(lines[-1] if lines else f"its build ended with status {process.returncode}")

    def _try(self, engine: Engine) -> None:
        """Segment the last frames, as the first call of an engine may take long, or fail."""
        if engine.fingerprint != self.fingerprint:
            raise ModelError("what was built is of another model: was the folder exported again meanwhile?")
        if self._last is not None:
            engine.activations(*self._last)
