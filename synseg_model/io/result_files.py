"""Results on disk: safe file names, files that appear whole or not at all, and the summary of a run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from synseg_model.files import part_of, write_whole
from synseg_model.io.drawing import overlay
from synseg_model.result import Result

__all__ = ["ResultFolder", "VideoFile", "encode_png", "image_names", "mask_name", "write_file", "write_result"]

KINDS = ("masks", "label_map", "overlay", "video")
SUMMARY = "summary.json"
_FORMAT = 1
_SECONDS_BETWEEN_SAVES = 10.0
_LONGEST_NAME = 80  # bytes of a label in a file name
_LONGEST_STEM = 200  # bytes of an image's name; file systems allow 255 with the extension
_MASK = re.compile(r"\d{3,}_.*\.png")


def mask_name(number: int, label: str) -> str:
    """Name the mask file of a label: its number in the label map, then the safe characters of its text.

    The number makes the name unique. Letters, digits and accents of any script, "-" and "_" stay. So no label can leave
    the folder, hide a file or hit a reserved name.

    Args:
        number: the label's number in the label map.
        label: its text.
    """
    safe = "".join(c if c in "-_" or unicodedata.category(c)[0] in "LNM" else "_" for c in label)
    safe = _cut(re.sub("_+", "_", safe), _LONGEST_NAME).strip("_")
    return f"{number:03d}_{safe or 'label'}.png"


def image_names(paths: Sequence[Path]) -> list[str]:
    """Name the results of each image: by its stem; where stems are equal, by its whole name, then by a number.

    Args:
        paths: the image files.
    """
    stems = [_cut(path.stem, _LONGEST_STEM) for path in paths]
    counts: dict[str, int] = {}
    for stem in stems:
        counts[stem.casefold()] = counts.get(stem.casefold(), 0) + 1
    names, taken = [], set()
    for path, stem in zip(paths, stems, strict=True):
        name = base = stem if counts[stem.casefold()] == 1 else _cut(path.name, _LONGEST_STEM)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def write_file(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all.

    Args:
        path: the file.
        data: its contents.

    Raises:
        OSError: where the file cannot be written; the message names it.
    """
    try:
        write_whole(path, lambda file: file.write(data), durable=False)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image as PNG.

    Args:
        image: (H,W) uint8, uint16 or bool, or (H,W,3) uint8 RGB; True becomes 255.

    Raises:
        ValueError: for another shape or type.
    """
    if image.dtype == bool:
        image = image.view(np.uint8) * 255
    elif image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    good, data = cv2.imencode(".png", image)
    if not good:
        raise ValueError(f"cannot encode an image of shape {image.shape} and {image.dtype} as PNG")
    return data.tobytes()


class VideoFile:
    """Write an MPEG-4 video that appears under its name when it is finished.

    It is a context manager. It keeps what was written when the user interrupts, and nothing when writing fails.

    Args:
        path: the video.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._part = part_of(path, path.suffix)
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0

    def write(self, image: np.ndarray) -> None:
        """Add a frame; the first one opens the video.

        Args:
            image: (H,W,3) uint8 RGB; all frames have one size.

        Raises:
            OSError: where no video can be written.
        """
        height, width = (max(2, side - side % 2) for side in image.shape[:2])  # MPEG-4 wants even sides
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._part), code, self._fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"cannot write {self._path}: OpenCV opens no MPEG-4 writer for {width}x{height} px")
        self._writer.write(cv2.cvtColor(image[:height, :width], cv2.COLOR_RGB2BGR))
        self._frames += 1

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        try:
            if kind is None or issubclass(kind, (KeyboardInterrupt, ValueError)):
                self._check()
                os.replace(self._part, self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def _check(self) -> None:
        """Count the frames in the file: OpenCV does not report a full disk."""
        capture = cv2.VideoCapture(str(self._part))
        arrived = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if arrived < self._frames:
            raise OSError(f"cannot write {self._path}: it has {arrived} of {self._frames} frames; is the disk full?")


class ResultFolder:
    """Write the results of a run into a folder, and list them in its summary.json.

    Args:
        folder: the folder, which need not exist.
        settings: what the results depend on. A folder whose summary has equal settings is continued.
        kinds: kinds of files to write, some of KINDS.
        overwrite: begin anew, whatever the folder holds.

    Raises:
        ValueError: where the folder holds another run.
        OSError: where the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], kinds: Sequence[str], overwrite: bool) -> None:
        self.folder, self.kinds = folder, tuple(kinds)
        self.complete = False
        self.failed: list[dict[str, str]] = []
        self._settings = json.loads(json.dumps(settings))  # as JSON returns them
        self._entries: dict[str, dict[str, Any]] = {}
        if not overwrite:
            self._continue()
        self.save(self.complete)  # a folder that cannot be written is reported before the work

    def _continue(self) -> None:
        path = self.folder / SUMMARY
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
            entries = {entry["name"]: entry for entry in old["images"] if entry["inference_ms"] >= 0}
            before, complete = dict(old["settings"]), old["complete"]
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError, TypeError, KeyError):
            raise ValueError(f"cannot read {path}: choose another folder or --overwrite") from None
        keys = {**before, **self._settings}
        changed = [key for key in keys if before.get(key) != self._settings.get(key)]
        if changed:
            raise ValueError(
                f"{self.folder} holds results with other {' and '.join(changed)}: choose another folder or --overwrite"
            )
        self._entries, self.complete = entries, complete is True

    def __len__(self) -> int:
        return len(self._entries)

    def has(self, name: str, source: dict[str, Any]) -> bool:
        """Tell whether the results of an image are here.

        Args:
            name: the name of its results.
            source: the description of the image file; the results must come from the same.
        """
        entry = self._entries.get(name)
        if entry is None or entry.get("source") != source:
            return False
        return all((self.folder / file).is_file() for file in _files(entry))

    def clear(self) -> None:
        """Forget the results that were found here; the run replaces their files."""
        self._entries.clear()
        self.complete = False

    def add(
        self, name: str, source: dict[str, Any], image: np.ndarray, result: Result, milliseconds: float
    ) -> np.ndarray | None:
        """Write the files of an image and note them.

        Args:
            name: the name of its results.
            source: the description of the image file.
            image: (H,W,3) uint8 RGB.
            result: the image's result.
            milliseconds: time that segmenting took.

        Returns:
            The overlay (H,W,3) uint8 RGB where one was drawn, else None.

        Raises:
            OSError: where a file cannot be written.
        """
        entry, drawn = write_result(self.folder, self.kinds, name, source, image, result, milliseconds)
        self.note(entry)
        return drawn

    def note(self, entry: dict[str, Any]) -> None:
        """Note an image whose files are in the folder.

        Args:
            entry: as `write_result` returns it.

        Raises:
            OSError: where the summary cannot be written.
        """
        self._entries[entry["name"]] = entry
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
            self.save()

    def fail(self, name: str, reason: str) -> None:
        """Note an image that could not be read.

        Args:
            name: the image's name.
            reason: why it could not be read.
        """
        self.failed.append({"name": name, "reason": reason})

    @contextlib.contextmanager
    def saving(self, order: Sequence[str] = ()) -> Iterator[None]:
        """Save the summary at the end, also after an error, as far as the disk allows.

        Args:
            order: names of images, in the order in which the summary lists them; others come before.
        """
        places = {name: place for place, name in enumerate(order)}
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                self.save()
            raise
        self._entries = dict(sorted(self._entries.items(), key=lambda item: places.get(item[0], -1)))
        self.save(complete=True)

    def save(self, complete: bool = False) -> None:
        """Write summary.json.

        Args:
            complete: whether the run came to its end.

        Raises:
            OSError: where the file cannot be written.
        """
        self.complete = complete
        times = [entry["inference_ms"] for entry in self._entries.values()]
        summary = {
            "format": _FORMAT,
            "complete": complete,
            "settings": self._settings,
            "inference_ms_median": round(float(np.median(times)), 2) if times else None,
            "failed": self.failed,
            "images": list(self._entries.values()),
        }
        write_file(self.folder / SUMMARY, _dumps(summary).encode("utf-8", "backslashreplace"))
        self._saved = time.monotonic()


def write_result(
    folder: Path,
    kinds: Sequence[str],
    name: str,
    source: dict[str, Any],
    image: np.ndarray,
    result: Result,
    milliseconds: float,
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Write the files of an image.

    Args:
        folder: the folder of the run.
        kinds: kinds of files to write, some of KINDS.
        name: the name of the image's results.
        source: the description of the image file.
        image: (H,W,3) uint8 RGB.
        result: the image's result.
        milliseconds: time that segmenting took.

    Returns:
        The image's entry in the summary, and the overlay (H,W,3) uint8 RGB where one was drawn, else None.

    Raises:
        OSError: where a file cannot be written.
    """
    files, masks, drawn = {}, {}, None
    if "masks" in kinds:
        masks = _write_masks(folder, name, result)
    if "label_map" in kinds:
        files["label_map"] = f"label_map/{name}.png"
        kind = np.uint8 if len(result.labels) <= 254 else np.uint16
        write_file(folder / files["label_map"], encode_png(result.label_map.astype(kind)))
    if "overlay" in kinds or "video" in kinds:
        drawn = overlay(image, result)
    if "overlay" in kinds:
        files["overlay"] = f"overlay/{name}.png"
        write_file(folder / files["overlay"], encode_png(drawn))
    height, width = result.shape
    entry = {
        "name": name,
        "source": source,
        "width": width,
        "height": height,
        "inference_ms": round(milliseconds, 2),
        "files": files,
        "labels": [_describe(result, index, masks.get(index)) for index in result.present],
    }
    return entry, drawn


def _write_masks(folder: Path, name: str, result: Result) -> dict[int, str]:
    masks = folder / "masks" / name
    for old in masks.glob("*.png"):
        if _MASK.fullmatch(old.name):
            old.unlink(missing_ok=True)
    files = {index: f"masks/{name}/{mask_name(index + 1, result.labels[index])}" for index in result.present}
    for index, file in files.items():
        write_file(folder / file, encode_png(result.mask(index)))
    return files


def _describe(result: Result, index: int, mask: str | None) -> dict[str, Any]:
    described = {
        "id": index + 1,
        "label": result.labels[index],
        "area": result.area(index),
        "score": round(result.score(index), 4),
        "presence": round(float(result.presence[index]), 4),
        "roi": list(result.roi(index)),
    }
    return {**described, "mask": mask} if mask else described


def _files(entry: dict[str, Any]) -> list[str]:
    masks = [label["mask"] for label in entry.get("labels", ()) if "mask" in label]
    return [*entry.get("files", {}).values(), *masks]


def _dumps(summary: dict[str, Any]) -> str:
    """Write JSON with one line per value, and one per element of a list of objects.

    Names of files that are no valid Unicode hold surrogates, which the encoder's "backslashreplace" turns
    into JSON's own escapes.
    """
    lines = []
    for key, value in summary.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in value)
            lines.append(f"{json.dumps(key)}: [\n  {items}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _cut(text: str, most: int) -> str:
    """Cut a text to a number of bytes in UTF-8, between characters."""
    data = text.encode("utf-8", "surrogateescape")
    return text if len(data) <= most else data[:most].decode("utf-8", "ignore")
