"""Works for tests of workers, which a worker process imports."""

import os
import signal
from pathlib import Path

from synseg_model.cli.workers.host import Outcome


class Doubling:
    """Double numbers. A worker that meets "deadly" is killed; one that meets "once" is killed the first time only."""

    def __init__(self, folder: Path, settings: dict | None = None, error: str = "") -> None:
        self.folder, self.settings, self.error = folder, settings or {"device": "cpu"}, error

    def start(self):
        if self.error:
            raise ValueError(self.error)
        return self.settings

    def do(self, item):
        if item == "deadly" or (item == "once" and not (self.folder / "killed").exists()):
            (self.folder / ("killed" if item == "once" else "killer")).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "broken":
            raise RuntimeError("the GPU fell off")
        if item == "full":
            raise OSError("cannot write x: No space left on device")
        if not isinstance(item, int):
            return Outcome(item, 1) if item == "once" else _refuse(item)
        return Outcome(2 * item, 1)


def _refuse(item):
    raise ValueError(f"{item} is no number")
