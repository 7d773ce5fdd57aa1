"""`synseg bag` for one recording, and for several that workers share."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synseg_model.cli.progress import progress_bar
from synseg_model.cli.shared_arguments import engine_options, load_segmenter, read_labels, read_thresholds
from synseg_model.cli.viewing import viewing
from synseg_model.cli.workers.crew import Crew, shared_folder
from synseg_model.cli.workers.host import Outcome
from synseg_model.cli.workers.pools import Pool
from synseg_model.cli.workers.report import REPORT, Report
from synseg_model.files import write_json
from synseg_model.io.result_files import image_names
from synseg_model.segmenter import Segmenter
from synseg_ros.bags.cameras import RecordedCamera, choose_cameras
from synseg_ros.bags.depth import RecordedDepth, RecordedObjectSettings
from synseg_ros.bags.kinds import DEPTH_OPTIONS, IMAGE_KINDS, OBJECT_KINDS
from synseg_ros.bags.message_types import MessageTypes
from synseg_ros.bags.reading import Recording
from synseg_ros.bags.segmenting import OUTPUTS, BagJob
from synseg_ros.bags.writing import NewBag
from synseg_ros.parameters.depth_topics import depth_topics
from synseg_ros.space.depth_view import DepthTopics

__all__ = ["RecordingWork", "segment_recording", "segment_recordings"]

logger = logging.getLogger(__name__)

SUMMARY = "summary.json"


class _Item(NamedTuple):
    """A recording: the name of its new bag, its path as given, and its absolute path."""

    name: str
    given: str
    path: Path


def segment_recording(
    arguments: argparse.Namespace, source: Path, target: Path, load: Callable[[], Segmenter]
) -> BagJob:
    """Segment one recording into a new bag.

    Args:
        arguments: The command line.
        source: The recording.
        target: The new bag.
        load: Returns a Segmenter; called when the recording and the output turn out to be usable.

    Returns:
        The job, which is done.

    Raises:
        ValueError: An argument or the recording cannot be used.
    """
    labels, thresholds = read_labels(arguments), read_thresholds(arguments.thresholds)
    threshold = thresholds[0] if thresholds and len(thresholds) == 1 else None
    _check_apart(source, target)
    types = MessageTypes()
    with Recording(source) as recording:
        cameras = choose_cameras(recording, arguments.topics, types)
        depth = _depth_of(cameras, arguments, types)
        # Refuse a taken output here already: loading a model takes seconds.
        bag = NewBag(target, types, arguments.storage, arguments.overwrite)
        segmenter = load()
        segmenter.set_vocabulary(labels, [threshold] * len(labels) if threshold is not None else thresholds)
        bag.about = {
            "synseg": json.dumps(
                {"recording": str(source), **_engine_of(segmenter), "every": arguments.every}
                | engine_options(arguments)
            )
        }
        with viewing(arguments) as viewer, bag:
            job = BagJob(recording, cameras, segmenter, types, bag, depth, arguments.mask_encoding, viewer)
            kinds = arguments.write or (*IMAGE_KINDS, *(OBJECT_KINDS[:2] if arguments.depth else ()))
            job.add_outputs([kind for kind in OUTPUTS if kind in kinds])
            if arguments.copy:
                job.add_copies()
            job.segment(arguments.every, arguments.follow_vocab, threshold)
    return job


def _depth_of(cameras: Sequence[RecordedCamera], arguments: argparse.Namespace, types: MessageTypes) -> RecordedDepth:
    """Return what knows the depth of the cameras that the command line gives depth topics for."""
    images = {camera.name: camera.topic for camera in cameras}
    depths = depth_topics(
        images,
        arguments.depth,
        arguments.camera_info,
        arguments.depth_info,
        names=DEPTH_OPTIONS,
    )
    topics = {camera: DepthTopics(*names, images[camera]) for camera, names in depths.items() if names}
    return RecordedDepth(topics, types, RecordedObjectSettings(arguments.target_frame))


class RecordingWork:
    """Segment whole recordings, each into a bag of its own.

    Args:
        arguments: The command line.
        folder: The output folder.
    """

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        # What lies there is of this run, which has checked that, perhaps from a worker that was lost.
        self._arguments = argparse.Namespace(**{**vars(arguments), "overwrite": True})
        self._folder = folder.absolute()

    def start(self) -> dict[str, Any]:
        """Load the model."""
        arguments = self._arguments
        self._segmenter = load_segmenter(arguments)
        labels, thresholds = read_labels(arguments), read_thresholds(arguments.thresholds)
        self._segmenter.set_vocabulary(
            labels, thresholds * len(labels) if thresholds and len(thresholds) == 1 else thresholds
        )
        options = {name: getattr(arguments, name) for name in (
            "topics", "write", "every", "copy", "follow_vocab", "depth", "camera_info", "depth_info", "target_frame",
            "mask_encoding",
        )}
        return {
            **_engine_of(self._segmenter),
            "labels": labels,
            "thresholds": arguments.thresholds,
            "storage": arguments.storage,
            **options,
            **engine_options(arguments),
        }

    def do(self, item: _Item) -> Outcome:
        """Segment a recording; the outcome's value says what of it is missing."""
        job = segment_recording(self._arguments, item.path, self._folder / item.name, lambda: self._segmenter)
        return Outcome(job.missing, job.segmented)


class _Finished:
    """Know which recordings are finished, in OUT/summary.json.

    Args:
        folder: The output folder.
        settings: What the results depend on.
        items: The recordings of this run.
        overwrite: Forget what the folder holds.

    Raises:
        ValueError: The folder holds results of another run, or bags that no run has made.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], items: list[_Item], overwrite: bool) -> None:
        self._path, self._settings = folder / SUMMARY, json.loads(json.dumps(settings))
        self._done: dict[str, dict[str, str]] = {}
        known: set[str] = set()
        if not overwrite:
            known = self._continue()
            for item in items:
                if item.name not in known and (folder / item.name).exists():
                    raise ValueError(f"{folder / item.name} exists: choose another output or --overwrite")
        self._known = known | {item.name for item in items}
        self.save(complete=False)

    def _continue(self) -> set[str]:
        try:
            old = json.loads(self._path.read_text(encoding="utf-8"))
            before, known, done = dict(old["settings"]), set(old["begun"]), dict(old["finished"])
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, TypeError, KeyError):
            raise ValueError(f"cannot read {self._path}: choose another output or --overwrite") from None
        changed = [key for key in {**before, **self._settings} if before.get(key) != self._settings.get(key)]
        if changed:
            raise ValueError(
                f"{self._path.parent} holds results with other {' and '.join(changed)}: choose another output or "
                "--overwrite"
            )
        self._done = done
        return known

    def has(self, item: _Item) -> bool:
        """Tell whether the bag of a recording is finished."""
        done = self._done.get(item.name)
        return done is not None and done["recording"] == str(item.path) and (self._path.parent / item.name).is_dir()

    def add(self, item: _Item, missing: str) -> None:
        """Note a bag that is finished."""
        self._done[item.name] = {"recording": str(item.path), "missing": missing}
        self.save(complete=False)

    def missing(self, item: _Item) -> str:
        """Say what of a finished recording is missing; "" where nothing is."""
        return self._done[item.name]["missing"]

    def save(self, complete: bool) -> None:
        """Write the summary."""
        begun = sorted(self._known)
        write_json(
            self._path, {"complete": complete, "settings": self._settings, "begun": begun, "finished": self._done}
        )


def segment_recordings(arguments: argparse.Namespace, pool: Pool) -> int:
    """Segment recordings with the workers of a pool, each into OUT/NAME.

    Args:
        arguments: The command line.
        pool: Where workers run.

    Returns:
        0, or 1 if some of the recordings could not be read.

    Raises:
        ValueError: An argument cannot be used, or the output folder holds another run.
    """
    target = Path(arguments.output).expanduser()
    paths = [Path(given).expanduser() for given in arguments.input]
    names = image_names(paths)
    items = [_Item(*three) for three in zip(names, arguments.input, (path.absolute() for path in paths), strict=True)]
    with contextlib.ExitStack() as stack:
        stack.callback(pool.close)
        for item in items:
            _check_apart(item.path, target / item.name)
        report = Report(target)
        shared = stack.enter_context(shared_folder(target, [path for path in paths if path.exists()]))
        stack.callback(report.save_if_incomplete)
        crew = stack.enter_context(Crew(pool, RecordingWork(arguments, target), shared, report))
        finished = _Finished(target, crew.settings(len(items)), items, arguments.overwrite)
        waiting = [item for item in items if not finished.has(item)]
        for item in items:
            if item not in waiting and finished.missing(item):
                report.fail(item.name, finished.missing(item))
        with progress_bar(None, len(items), len(items) - len(waiting), unit="bag") as bar:
            for item, outcome in crew.run([[item] for item in waiting]):
                if outcome.failure:
                    report.fail(item.name, outcome.failure)
                    logger.warning("%s: %s", item.given, outcome.failure)
                else:
                    finished.add(item, outcome.value)
                    if outcome.value:
                        report.fail(item.name, outcome.value)
                        logger.warning("%s: %s", item.given, outcome.value)
                bar.update()
                bar.set_postfix_str(f"{report.rate:.1f} frames/s")
        finished.save(complete=not report.failures)
        report.save(complete=True)
    kept = len(items) - len(waiting)
    parts = [f"{report.images} frame{'s' * (report.images != 1)} of {len(waiting)} recordings segmented"]
    parts += [f"{kept} already there"] if kept else []
    parts += [f"{len(report.failures)} incomplete, see {REPORT}"] if report.failures else []
    print(f"{', '.join(parts)} ({report.rate:.1f} frames/s) → {target}")
    return 1 if report.failures else 0


def _engine_of(segmenter: Segmenter) -> dict[str, str]:
    engine = segmenter.engine
    return {
        "model": engine.config.name,
        "fingerprint": engine.fingerprint,
        "engine": engine.name,
        "device": engine.device,
    }


def _check_apart(source: Path, target: Path) -> None:
    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise ValueError(f"the output {target} would replace the recording itself: choose another")
