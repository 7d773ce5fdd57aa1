"""`synseg segment`: images in, files of masks, label maps, overlays and a summary out."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from synseg_model.io.media import MediaError, Source, open_source, read_image
from synseg_model.io.result_files import ResultFolder, VideoFile, image_names
from synseg_model.segmenter import Segmenter
from synseg_model.weights.find import domain_warning

logger = logging.getLogger(__name__)

IMAGE_KINDS, VIDEO_KINDS = ("masks", "label_map", "overlay"), ("label_map", "video")
VIDEO_FPS = 25.0  # of overlay.mp4 where the source names no rate


def run(arguments: argparse.Namespace) -> int:
    """Segment files as the command line says; returns 0, or 1 where some images could not be read."""
    labels, thresholds = read_labels(arguments), read_thresholds(arguments.thresholds)
    if thresholds is not None and len(thresholds) == 1:
        thresholds = thresholds * len(labels)
    source = open_source(arguments.input)
    video = source.kind != "images"
    kinds = tuple(arguments.write or (VIDEO_KINDS if video else IMAGE_KINDS))
    if "video" in kinds and not video:
        raise ValueError("--write video: the input is not a video")
    options = read_engine_options(arguments)
    segmenter = Segmenter.load(
        arguments.model, arguments.engine, arguments.device, arguments.max_labels, refine=arguments.refine, **options
    )
    warn_of_domain(segmenter)
    vocabulary = segmenter.set_vocabulary(labels, thresholds)
    settings = {
        "model": segmenter.engine.config.name,
        "fingerprint": segmenter.engine.fingerprint,
        "engine": segmenter.engine.name,
        "device": segmenter.engine.device,
        "labels": list(vocabulary.labels),
        "thresholds": [round(float(threshold), 6) for threshold in vocabulary.thresholds],
        "write": list(kinds),
        **options,
    }
    if arguments.refine != "none":
        settings["refine"] = arguments.refine
    if video:
        path = Path(arguments.input[0])
        settings["video"] = _describe(path) if source.kind == "video" else {"path": str(path)}
    folder = ResultFolder(Path(arguments.output), settings, kinds, arguments.overwrite)
    job = _Job(segmenter, source, folder)
    return job.segment_video() if video else job.segment_images()


def read_engine_options(arguments: argparse.Namespace) -> dict[str, object]:
    """Collect the engine's options that the command line gives."""
    options = {"precision": arguments.precision, "keep_labels": arguments.keep_labels}
    return {name: value for name, value in options.items() if value is not None}


def warn_of_domain(segmenter: Segmenter) -> None:
    """Warn where the model was made for other images than photographs, which a command's input is taken for."""
    warning = domain_warning(segmenter.engine.config)
    if warning:
        logger.warning("%s", warning)


def read_labels(arguments: argparse.Namespace) -> list[str]:
    """Take labels from --labels or --labels-file, as they stand; the Segmenter checks them."""
    labels = arguments.labels.split(",") if arguments.labels is not None else _read_lines(arguments.labels_file)
    if not any(label.strip() for label in labels):
        raise ValueError("no labels: expected at least one")  # here already: loading a model takes seconds
    return labels


def _read_lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"cannot read the labels file {path}: {reason}") from None
    return [line for line in text.splitlines() if line.strip()]


def read_thresholds(text: str | None) -> list[float] | None:
    """Read "0.5" or "0.5,0.4,..."; raise ValueError for what is no number."""
    if text is None:
        return None
    values = []
    for part in text.split(","):
        try:
            values.append(float(part))
        except ValueError:
            raise ValueError(f"threshold {part.strip()!r}: expected a number from 0 to 1") from None
    return values


class _Job:
    """One run of the command: what is segmented, and where the results go."""

    def __init__(self, segmenter: Segmenter, source: Source, folder: ResultFolder) -> None:
        self._segmenter, self._source, self._folder = segmenter, source, folder
        self._done = 0

    def segment_images(self) -> int:
        """Segment every image file that has no results yet."""
        paths = self._source.paths
        named = [(name, path, _describe(path)) for name, path in zip(image_names(paths), paths, strict=True)]
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
        """Segment a video from its first frame, unless its results are complete."""
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
        """Save the summary at the end; what was done is kept whatever ends it, as far as the disk allows."""
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


def _describe(path: Path) -> dict[str, Any]:
    """Describe a file so that a changed one is noticed."""
    try:
        status = path.stat()
    except OSError:
        return {"path": str(path)}  # reading it will say what is wrong
    return {"path": str(path), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def progress_bar(work: Any, total: int | None, kept: int = 0, unit: str = "img") -> tqdm:
    """Show progress with speed and time left on stderr, often on a terminal and seldom in a log; none for one thing."""
    interactive = sys.stderr.isatty()
    return tqdm(
        work,
        total=total,
        initial=kept,
        unit=unit,
        disable=total == 1 or total == kept,
        mininterval=0.1 if interactive else 10.0,
        dynamic_ncols=interactive,
    )
