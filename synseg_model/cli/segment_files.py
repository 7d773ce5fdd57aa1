"""What `synseg segment` does once its arguments are read: a source segmented into a folder of results."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synseg_model.cli.progress import progress_bar
from synseg_model.io.image_file import MediaError, read_image
from synseg_model.io.result_files import ResultFolder, VideoFile, image_names
from synseg_model.io.sources import Source
from synseg_model.segmenter import Segmenter

logger = logging.getLogger(__name__)

VIDEO_FPS = 25.0  # of overlay.mp4 where the source names no rate


class FileJob:
    """Segment the images or frames of a source into a result folder: one run of `synseg segment`.

    Args:
        segmenter: a Segmenter with a vocabulary.
        source: where images come from.
        folder: where results go.
    """

    def __init__(self, segmenter: Segmenter, source: Source, folder: ResultFolder) -> None:
        self._segmenter, self._source, self._folder = segmenter, source, folder
        self._done = 0

    def segment_images(self) -> int:
        """Segment every image file that has no results yet.

        Returns:
            The exit status: 0, or 1 where some images could not be read.
        """
        paths = self._source.paths
        named = [(name, path, describe_file(path)) for name, path in zip(image_names(paths), paths, strict=True)]
        work = [item for item in named if not self._folder.has(item[0], item[2])]
        kept = len(named) - len(work)
        with self._saving(), progress_bar(work, len(named), kept) as bar:
            for name, path, described in bar:
                try:
                    image = read_image(path)
                except MediaError as error:
                    self._folder.fail(name, str(error))
                    logger.warning("%s", error)
                    continue
                self._segment(name, described, image)
        return self._report("image", kept)

    def segment_video(self) -> int:
        """Segment a video from its first frame on, unless its results are complete.

        Returns:
            The exit status: 0, or 1 where the video ended early.
        """
        target = self._folder.folder / "overlay.mp4"
        wanted = "video" in self._folder.kinds
        if self._folder.complete and (target.is_file() or not wanted):
            return self._report("frame", len(self._folder))
        self._folder.clear()
        with self._saving(), VideoFile(target, self._source.fps or VIDEO_FPS) as video:
            with progress_bar(self._source, self._source.length, 0) as bar:
                for name, image in bar:
                    drawn = self._segment(name, {}, image)
                    if wanted:
                        video.write(drawn)
            for name, reason in self._source.skipped:
                self._folder.fail(name, reason)
        return self._report("frame", 0)

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Save the summary at the end, also after an error, as far as the disk allows."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                self._folder.save()
            raise
        self._folder.save(complete=True)

    def _segment(self, name: str, described: dict[str, Any], image: np.ndarray) -> np.ndarray | None:
        start = time.perf_counter()
        result = self._segmenter.segment(image)
        milliseconds = 1000 * (time.perf_counter() - start)
        self._done += 1
        return self._folder.add(name, described, image, result, milliseconds)

    def _report(self, noun: str, kept: int) -> int:
        parts = [f"{self._done} {noun}{'s' * (self._done != 1)} segmented"]
        if kept:
            parts.append(f"{kept} already there")
        if self._folder.failed:
            parts.append(f"{len(self._folder.failed)} could not be read")
        print(f"{', '.join(parts)} → {self._folder.folder}")
        return 1 if self._folder.failed else 0


def describe_file(path: Path) -> dict[str, Any]:
    """Describe a file by its path, size and time of change, so that a changed file is noticed."""
    try:
        status = path.stat()
    except OSError:
        return {"path": str(path)}  # reading the file reports the error
    return {"path": str(path), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
