"""Sources of images: image files, a folder of them, a video or a camera, as named RGB frames."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from synseg_model.io.image_file import MediaError, read_image
from synseg_model.io.image_kinds import HEAD, IMAGE_LIKE, foreign_kind

__all__ = ["Device", "ImageFiles", "Source", "Video", "natural_order", "open_source"]

logger = logging.getLogger(__name__)

IMAGE_EXTENSIONS = frozenset(
    f".{name}"
    for name in "jpg jpeg jpe jfif pjpeg png bmp dib tif tiff webp ppm pgm pbm pnm jp2 avif gif".split()  # noqa: SIM905
)
_SHOWN = 5  # files that a line names
_DEVICE = re.compile(r"/dev/video(\d+)")


class Source:
    """Give images one after the other, as pairs of a name and a frame (H,W,3) uint8 RGB; each iteration starts anew.

    Attributes:
        kind: "images", "video" or "device".
        length: number of images; None where nobody can know.
        fps: frames per second of a video, else None.
        paths: the image files, else empty.
        skipped: name and reason of every image that the latest iteration could not read.
    """

    kind = "images"
    length: int | None = None
    fps: float | None = None
    paths: tuple[Path, ...] = ()

    def __init__(self) -> None:
        self.skipped: list[tuple[str, str]] = []

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        raise NotImplementedError


def open_source(source: str | Path | int | Sequence[str | Path]) -> Source:
    """Open a source of images.

    A folder gives its images in natural order ("2" before "10"). Images are known by the endings of their names or by
    their first bytes. The log names files that look like images and cannot be read. Subfolders and hidden files are
    left alone. An unreadable image is logged, listed in `skipped` and passed over, unless it is the only one.

    Args:
        source: an image file, several of them, a folder of images, a video, or a camera ("/dev/video0", or 0).

    Raises:
        MediaError: for a source that is missing, empty or no image at all.
    """
    if isinstance(source, bool) or not isinstance(source, (str, Path, int, Sequence)):
        raise MediaError(f"source is {type(source).__name__}: expected a path, several paths or a device number")
    if isinstance(source, int):
        return Device(source)
    if not isinstance(source, (str, Path)):
        return _open_several(source)
    device = _DEVICE.fullmatch(str(source))
    if device:
        return Device(int(device[1]))
    path = _existing(source)
    if path.is_dir():
        return _open_folder(path)
    if _is_image(path):
        return ImageFiles([path])
    kind = foreign_kind(_head(path))
    if kind:  # FFmpeg would read a part of it as a video of one frame
        raise MediaError(f"{path} is {kind}, which is not supported: convert it to JPEG or PNG")
    return Video(path)


class ImageFiles(Source):
    """Give image files in the given order; the name of a frame is the name of its file.

    Args:
        paths: the files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        super().__init__()
        self.paths = tuple(paths)
        self.length = len(self.paths)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        self.skipped = []
        for path in self.paths:
            try:
                yield path.name, read_image(path)
            except MediaError as error:
                if self.length == 1:
                    raise
                self.skipped.append((path.name, str(error)))
                logger.warning("skipped: %s", error)


class Video(Source):
    """Give the frames of a video file, named by their number from 0.

    Args:
        path: the file.

    Raises:
        MediaError: for a file that OpenCV cannot open.
    """

    kind = "video"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        capture = _capture(str(path), f"{path} is neither an image nor a video that OpenCV can read")
        frames, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        self.length = int(frames) if 0 < frames < 2**31 else None
        self.fps = fps if 0 < fps < 1000 else None

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        self.skipped = []
        capture = _capture(str(self.path), f"{self.path} can no longer be opened")
        count = 0
        try:
            for count, frame in enumerate(_frames(capture), start=1):
                yield f"{count - 1:06d}", frame
        finally:
            capture.release()
        if not count:
            raise MediaError(f"cannot decode {self.path}: it has no frame that can be read")
        # Containers often announce a frame or two more than there are; a damaged file stops far earlier.
        if self.length and count < 0.95 * self.length - 1:
            reason = f"{self.path} ended after {count} of {self.length} frames: the rest cannot be decoded"
            self.skipped.append((f"{count:06d}", reason))
            logger.warning("%s", reason)


class Device(Source):
    """Give the frames of a camera device, without end.

    Args:
        index: N of /dev/videoN.

    Raises:
        MediaError: for a device that cannot be opened.
    """

    kind = "device"

    def __init__(self, index: int) -> None:
        super().__init__()
        if index < 0:
            raise MediaError(f"camera device {index}: expected 0 or above")
        self.index = index
        self._open().release()

    def _open(self) -> cv2.VideoCapture:
        return _capture(self.index, f"cannot open camera device {self.index} (/dev/video{self.index})")

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        capture = self._open()
        try:
            for count, frame in enumerate(_frames(capture)):
                yield f"{count:06d}", frame
        finally:
            capture.release()
        raise MediaError(f"camera device {self.index} stopped giving frames")


def _frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        good, bgr = capture.read()
        if not good:
            return
        yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _capture(target: str | int, complaint: str) -> cv2.VideoCapture:
    try:
        capture = cv2.VideoCapture(target)
    except cv2.error:
        raise MediaError(complaint) from None
    if not capture.isOpened():
        raise MediaError(complaint)
    return capture


def _existing(source: str | Path) -> Path:
    path = Path(source).expanduser()
    try:
        path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"cannot open {str(source)!r}: {reason}") from None
    return path


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_EXTENSIONS or (not path.is_dir() and cv2.haveImageReader(str(path)))


def _looks_like_an_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_LIKE or bool(foreign_kind(_head(path)))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:  # reading the file reports the error
        return b""


def _open_folder(folder: Path) -> ImageFiles:
    try:
        # A broken link is listed too: reading it reports the error.
        names = [entry.name for entry in folder.iterdir() if entry.is_file() or entry.is_symlink()]
    except OSError as error:
        raise MediaError(f"cannot list {folder}: {error.strerror or error}") from None
    names = [name for name in names if not name.startswith(".")]
    images = [name for name in names if _is_image(folder / name)]
    others = sorted(set(names) - set(images), key=natural_order)
    unread = [name for name in others if _looks_like_an_image(folder / name)]
    left_out = ", ".join(unread[:_SHOWN]) + (f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else "")
    if not images:
        known = " ".join(sorted(IMAGE_EXTENSIONS))
        instead = f"; convert to JPEG or PNG: {left_out}" if unread else ""
        raise MediaError(f"no images in folder {folder} (subfolders are not searched){instead}; images end in {known}")
    if unread:
        rest = len(others) - len(unread)
        more = f"; also left out: {rest} other file{'s' * (rest != 1)}" if rest else ""
        logger.warning("left out files of %s, convert them to JPEG or PNG: %s%s", folder, left_out, more)
    return ImageFiles(folder / name for name in sorted(images, key=natural_order))


def _open_several(sources: Sequence[str | Path]) -> Source:
    if not sources:
        raise MediaError("no source: expected at least one image file")
    if len(sources) == 1:
        return open_source(sources[0])
    paths = [_existing(source) for source in sources]
    for path in paths:
        if path.is_dir() or not _is_image(path):
            raise MediaError(f"{path} is not an image: several sources at once must all be image files")
    return ImageFiles(paths)


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which "frame2" comes before "frame10"; case counts between equal names only."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts] + [(2, 0, name)]
