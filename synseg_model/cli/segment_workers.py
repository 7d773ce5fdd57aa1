"""`synseg segment` with several workers: chunks of images, or whole videos."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synseg_model.cli.progress import progress_bar
from synseg_model.cli.segment_files import FileJob, describe_file, logger
from synseg_model.cli.workers.crew import Crew, shared_folder
from synseg_model.cli.workers.host import Outcome
from synseg_model.cli.workers.pools import Pool
from synseg_model.cli.workers.report import REPORT, Report
from synseg_model.io.image_file import read_image
from synseg_model.io.result_files import ResultFolder, image_names, write_result
from synseg_model.io.sources import Source, open_source
from synseg_model.segmenter import Segmenter

__all__ = ["ImageWork", "VideoWork", "segment_images", "segment_videos"]

CHUNK = 16  # images that a worker gets at a time, at most
_CHUNKS_PER_WORKER = 4  # at least, so that no worker is idle at the end for long

Load = Callable[[argparse.Namespace], tuple[Segmenter, dict[str, Any]]]


class _Image(NamedTuple):
    """An image file: the name of its results, what describes it in the summary, and its absolute path."""

    name: str
    described: dict[str, Any]
    path: Path


class _Video(NamedTuple):
    """A video: the name of its folder of results, its path as given, and its absolute path."""

    name: str
    given: str
    path: Path


class _SegmentWork:
    """Hold what a worker segments with.

    Args:
        arguments: the command line.
        load: loads the model; returns the Segmenter, and what the results depend on.
        folder: the output folder.
        kinds: kinds of files to write.
    """

    def __init__(self, arguments: argparse.Namespace, load: Load, folder: Path, kinds: Sequence[str]) -> None:
        self._arguments, self._load, self._folder, self._kinds = arguments, load, folder.absolute(), tuple(kinds)

    def start(self) -> dict[str, Any]:
        """Load the model."""
        self._segmenter, self._settings = self._load(self._arguments)
        return self._settings


class ImageWork(_SegmentWork):
    """Segment image files, and write their results."""

    def do(self, item: _Image) -> Outcome:
        """Segment an image; the outcome's value is its entry in the summary."""
        image = read_image(item.path)
        start = time.perf_counter()
        result = self._segmenter.segment(image)
        milliseconds = 1000 * (time.perf_counter() - start)
        entry, _ = write_result(self._folder, self._kinds, item.name, item.described, image, result, milliseconds)
        return Outcome(entry, 1)


class VideoWork(_SegmentWork):
    """Segment whole videos, each into a folder of its own."""

    def do(self, item: _Video) -> Outcome:
        """Segment a video; the outcome's value is the reasons for which frames are missing."""
        described = describe_file(item.path)
        settings = {**self._settings, "video": {**described, "path": item.given}}
        folder = ResultFolder(self._folder / item.name, settings, self._kinds, self._arguments.overwrite)
        job = FileJob(self._segmenter, open_source(item.path), folder)
        job.segment_video()
        return Outcome([failed["reason"] for failed in folder.failed], job.done)


def segment_images(arguments: argparse.Namespace, load: Load, source: Source, kinds: Sequence[str], pool: Pool) -> int:
    """Segment image files with the workers of a pool.

    Args:
        arguments: the command line.
        load: loads the model; returns the Segmenter, and what the results depend on.
        source: the images.
        kinds: kinds of files to write.
        pool: where workers run.

    Returns:
        The exit status: 0, or 1 where some images could not be segmented.
    """
    target, paths = Path(arguments.output), source.paths
    images = [
        _Image(name, describe_file(path), path.absolute()) for name, path in zip(image_names(paths), paths, strict=True)
    ]
    work = ImageWork(arguments, load, target, kinds)
    with contextlib.ExitStack() as stack:
        crew, report = _crew(stack, pool, work, target, [paths[0].parent])
        folder = ResultFolder(target, crew.settings(len(images)), kinds, arguments.overwrite)
        waiting = [image for image in images if not folder.has(image.name, image.described)]
        kept = len(images) - len(waiting)
        stack.enter_context(folder.saving([image.name for image in images]))
        with progress_bar(None, len(images), kept) as bar:
            for image, outcome in crew.run(_chunks(waiting, pool.size)):
                if outcome.failure:
                    folder.fail(image.name, outcome.failure)
                    report.fail(image.name, outcome.failure)
                    logger.warning("%s", outcome.failure)
                else:
                    folder.note(outcome.value)
                bar.update()
        report.save(complete=True)
    return _tell(report, "image", f"{kept} already there" if kept else "", target)


def segment_videos(arguments: argparse.Namespace, load: Load, kinds: Sequence[str], pool: Pool) -> int:
    """Segment videos with the workers of a pool, each video into DIR/NAME.

    Args:
        arguments: the command line; its inputs are videos.
        load: loads the model; returns the Segmenter, and what the results depend on.
        kinds: kinds of files to write.
        pool: where workers run.

    Returns:
        The exit status: 0, or 1 where some frames or videos could not be segmented.
    """
    target = Path(arguments.output)
    paths = [Path(given).expanduser() for given in arguments.input]
    videos = [
        _Video(name, given, path.absolute())
        for name, given, path in zip(image_names(paths), arguments.input, paths, strict=True)
    ]
    with contextlib.ExitStack() as stack:
        crew, report = _crew(stack, pool, VideoWork(arguments, load, target, kinds), target, paths[:1])
        crew.settings(len(videos))
        with progress_bar(None, len(videos), unit="video") as bar:
            for video, outcome in crew.run([[video] for video in videos]):
                for reason in [outcome.failure] if outcome.failure else outcome.value:
                    report.fail(video.name, reason)
                    logger.warning("%s: %s", video.given, reason)
                bar.update()
                bar.set_postfix_str(f"{report.rate:.1f} img/s")
        report.save(complete=True)
    return _tell(report, "frame", "", target)


def _crew(
    stack: contextlib.ExitStack, pool: Pool, work: ImageWork | VideoWork, target: Path, inputs: Sequence[Path]
) -> tuple[Crew, Report]:
    stack.callback(pool.close)
    shared = stack.enter_context(shared_folder(target, inputs))
    report = Report(target)
    stack.callback(report.save_if_incomplete)
    return stack.enter_context(Crew(pool, work, shared, report)), report


def _chunks(images: Sequence[_Image], workers: int) -> list[Sequence[_Image]]:
    size = max(1, min(CHUNK, len(images) // (_CHUNKS_PER_WORKER * workers)))
    return [images[first : first + size] for first in range(0, len(images), size)]


def _tell(report: Report, noun: str, kept: str, target: Path) -> int:
    parts = [f"{report.images} {noun}{'s' * (report.images != 1)} segmented"]
    parts += [kept] if kept else []
    parts += [f"{len(report.failures)} failed, see {REPORT}"] if report.failures else []
    print(f"{', '.join(parts)} ({report.rate:.1f} images/s) → {target}")
    return 1 if report.failures else 0
