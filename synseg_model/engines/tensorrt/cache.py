"""Engines that took minutes to build, kept on disk for the next start."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from synseg_model.files import default_folder, write_whole

logger = logging.getLogger(__name__)

Engine = TypeVar("Engine")


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on.

    graph: SHA-256 of the ONNX file. name: of that file. flavour, version: of TensorRT. gpu: its name, "" without one.
    precision: of the export. profile: the sizes it was built for, as JSON.
    """

    graph: str
    name: str
    flavour: str
    version: str
    gpu: str
    precision: str
    profile: str

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


class EngineCache:
    """Keep engines in folder/engines (folder None: the user's cache folder), one file for each key.

    A file begins with a line of JSON, its key and the digest of what follows. One that is damaged or has another key is
    built again and replaced. Any number of processes may share a folder: one builds, the others wait for it; files
    appear whole or not at all. Where nothing can be written, engines are built at every start, and a warning says so.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        base = Path(folder) if folder else default_folder()
        self._folder = base / "engines" if base else None

    def path(self, key: EngineKey) -> Path | None:
        """Name the file of a key, None where there is no cache folder."""
        if self._folder is None:
            return None
        digest = hashlib.sha256(key.to_json().encode()).hexdigest()
        return self._folder / f"{Path(key.name).stem}-{digest[:32]}.engine"

    def get(
        self, key: EngineKey, build: Callable[[], bytes], load: Callable[[bytes], Engine | None] = lambda plan: plan
    ) -> Engine | None:
        """Load the engine of a key; build it where it is missing, damaged, or not accepted by `load`.

        load: turns a serialised engine into what is wanted, None where it does not accept it; None comes back where it
        does not accept a new one either. Raises what `build` and `load` raise.
        """
        found = self.find(key, load)
        if found is not None:
            return found
        lock = self._lock()
        try:
            # Another process may have built it while this one waited.
            found = self.find(key, load) if lock else None
            if found is None:
                plan = build()
                if lock:
                    self._store(key, plan)
                found = load(plan)
            return found
        finally:
            if lock:
                lock.release()

    def find(self, key: EngineKey, load: Callable[[bytes], Engine | None] = lambda plan: plan) -> Engine | None:
        """Load the engine of a key; None where it is missing, damaged, or not accepted by `load`. Builds nothing.

        One that is not accepted is deleted: a process that builds without loading would take it for good.
        """
        plan = self.read(key)
        if plan is None:
            return None
        found = load(plan)
        if found is None:
            logger.warning("engine cache: %s is not accepted by %s, and is built again", self.path(key), key.flavour)
            with contextlib.suppress(OSError):
                self.path(key).unlink()
        return found

    def read(self, key: EngineKey) -> bytes | None:
        """Read the serialised engine of a key; None where there is none, or none that can be trusted."""
        path = self.path(key)
        try:
            header, _, plan = path.read_bytes().partition(b"\n") if path else (b"", b"", b"")
        except OSError:
            return None
        if not path:
            return None
        if header != _header(key, plan):
            logger.warning("engine cache: %s is damaged or of another key, and is built again", path)
            return None
        return plan

    def _lock(self) -> FileLock | None:
        """Take the folder for this process; None where nothing can be written.

        One lock for all engines, as builds that run at once would disturb each other's timing of kernels.
        """
        if self._folder is None:
            return None
        lock = FileLock(self._folder / "lock")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            self._complain(error)
            return None
        return lock

    def _store(self, key: EngineKey, plan: bytes) -> None:
        try:
            for part in self._folder.glob(".*.part"):  # of a process that was killed: only who has the lock writes
                part.unlink()
            write_whole(self.path(key), lambda file: file.write(_header(key, plan) + b"\n" + plan))
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        logger.warning(
            "engine cache: cannot write to %s (%s): engines are built at every start",
            self._folder,
            error.strerror or error,
        )


def _header(key: EngineKey, plan: bytes) -> bytes:
    return json.dumps({"key": dataclasses.asdict(key), "sha256": hashlib.sha256(plan).hexdigest()}).encode()
