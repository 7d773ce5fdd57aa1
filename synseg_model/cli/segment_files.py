"""What `synseg segment` does once its arguments are read: a source segmented into a folder of results."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from synseg_model.cli.progress import progress_bar
from synseg_model.io.image_file import MediaError, read_image
from synseg_model.io.result_files import ResultFolder, VideoFile, image_names
from synseg_model.io.sources import Source
from synseg_model.segmenter import Segmenter
from synseg_model.viewer.image_view import ImageView

logger = logging.getLogger(__name__)

VIDEO_FPS = 25.0  # of overlay.mp4 where the source names no rate


class FileJob:
    """Segment the images or frames of a source into a result folder: one run of `synseg segment`.

    Args:
        segmenter: a Segmenter with a vocabulary.
        source: where images come from.
        folder: where results go.
        view: shows the images in Rerun, too; None: they are not shown.

    Attributes:
        done: number of images or frames that were segmented.
    """

    def __init__(
        self, segmenter: Segmenter, source: Source, folder: ResultFolder, view: ImageView | None = None
    ) -> None:
        self._segmenter, self._source, self._folder, self._view = segmenter, source, folder, view
        self.done = self._kept = 0
        self._noun = "frame"

    def segment_images(self) -> None:
        """Segment every image file that has no results yet."""
        paths = self._source.paths
        named = [(name, path, describe_file(path)) for name, path in zip(image_names(paths), paths, strict=True)]
        work = [item for item in named if not self._folder.has(item[0], item[2])]
        self._noun, self._kept = "image", len(named) - len(work)
        with self._folder.saving(), progress_bar(work, len(named), self._kept) as bar:
            for name, path, described in bar:
                try:
                    image = read_image(path)
                except MediaError as error:
                    self._folder.fail(name, str(error))
                    logger.warning("%s", error)
                    continue
                self._segment(name, described, image)

    def segment_video(self) -> None:
        """Segment a video from its first frame on, unless its results are complete."""
        target = self._folder.folder / "overlay.mp4"
        wanted = "video" in self._folder.kinds
        if self._folder.complete and (target.is_file() or not wanted):
            self._kept = len(self._folder)
            return
        self._folder.clear()
        with self._folder.saving(), VideoFile(target, self._source.fps or VIDEO_FPS) as video:
            with progress_bar(self._source, self._source.length, 0) as bar:
                for name, image in bar:
                    drawn = self._segment(name, {}, image)
                    if wanted:
                        video.write(drawn)
            for name, reason in self._source.skipped:
                self._folder.fail(name, reason)

    def report(self) -> int:
        """Print what was done.

        Returns:
            The exit status: 0, or 1 where some images could not be read, or a video ended early.
        """
        parts = [f"{self.done} {self._noun}{'s' * (self.done != 1)} segmented"]
        if self._kept:
            parts.append(f"{self._kept} already there")
        if self._folder.failed:
            parts.append(f"{len(self._folder.failed)} could not be read")
        print(f"{', '.join(parts)} → {self._folder.folder}")
        return 1 if self._folder.failed else 0

    def _segment(self, name: str, described: dict[str, Any], image: np.ndarray) -> np.ndarray | None:
        start = time.perf_counter()
        result = self._segmenter.segment(image)
        milliseconds = 1000 * (time.perf_counter() - start)
        self.done += 1
        drawn = self._folder.add(name, described, image, result, milliseconds)
        if self._view:
            self._view.show(name, image, result)
        return drawn


def describe_file(path: Path) -> dict[str, Any]:
    """Describe a file by its path, size and time of change, so that a changed file is noticed."""
    try:
        status = path.stat()
    except OSError:
        return {"path": str(path)}  # reading the file reports the error
    return {"path": str(path), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
