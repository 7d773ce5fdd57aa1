"""A feed plays its source, segments the newest frame, and goes on after whatever happens to either."""

import shutil
import threading

import cv2
import numpy as np
import pytest

from synseg_model.io.image_file import MediaError
from synseg_model.io.sources import Source, open_source
from synseg_model.live.feed import LARGEST_SIDE, shrink
from synseg_model.live.source_feed import SourceFeed


@pytest.fixture
def start(segmenter, notes):
    """Start a feed of a source, not resting."""
    feeds = []

    def start(source, **options):
        feed = SourceFeed(source, segmenter, "the source", **options)
        feeds.append(feed)
        feed.start(notes)
        feed.rest(False)
        return feed

    yield start
    for feed in feeds:
        feed.close()


class Camera(Source):
    """A camera that gives one image, then what `then` says."""

    kind = "device"

    def __init__(self, image):
        super().__init__()
        self.image, self.plugged = image, threading.Event()

    def __iter__(self):
        if not self.plugged.is_set():
            raise MediaError("cannot open camera device 7 (/dev/video7)")
        yield "000000", self.image
        self.plugged.wait()


class Numbered(Source):
    """A camera that gives frame 0 until it may go on, and then frames 1 to LAST at once."""

    kind = "device"
    LAST = 50

    def __init__(self):
        super().__init__()
        self.go_on, self.done, self.end = threading.Event(), threading.Event(), threading.Event()

    def __iter__(self):
        while not self.go_on.wait(0.01):
            yield "000000", np.zeros((48, 64, 3), np.uint8)
        for number in range(1, self.LAST + 1):
            yield f"{number:06d}", np.full((48, 64, 3), number, np.uint8)
        self.done.set()
        self.end.wait()


def test_frames_come_without_labels_and_then_with_them(start, notes, clip):
    feed = start(open_source(clip))
    frame = notes.wait(lambda: notes.frames, "a frame")[0]
    assert frame.image.shape == (120, 160, 3) and frame.label_map is None and frame.labels.labels == ()
    feed.ask(["car", "Car ", "tree"], [None, None, 0.25])
    notes.wait(lambda: notes.frames[-1].labels.labels, "a segmented frame")
    frame = notes.frames[-1]
    assert frame.labels.labels == ("car", "tree") and frame.labels.ids == (1, 2)
    assert frame.labels.thresholds == (0.5, 0.25)
    assert notes.labels == [frame.labels]
    assert set(frame.found) == {1, 2} and all(0 < found.presence <= 1 for found in frame.found.values())
    assert frame.found[1].share >= (frame.label_map == 1).mean()  # masks may overlap


def test_a_label_that_stays_keeps_its_id(start, notes, clip):
    feed = start(open_source(clip))
    for count, labels in enumerate((["car", "tree"], ["dog", "tree"], ["tree"]), start=1):
        feed.ask(labels, [None] * len(labels))
        notes.wait(lambda count=count: len(notes.labels) == count, "the labels")
    assert [dict(zip(each.labels, each.ids, strict=True))["tree"] for each in notes.labels] == [2, 2, 2]


@pytest.mark.parametrize(
    ("labels", "thresholds", "reason"),
    [
        ([], [], "no labels"),
        (["car", " "], [None, None], "label 2 is empty"),
        (["a", "b", "c", "d", "e", "f"], [None] * 6, "more than 5 labels"),
        (["car"], [float("nan")], "threshold nan"),
        (["x\0y"], [None], "U+0000"),
        (["word " * 200], [None], "too long"),
    ],
)
def test_labels_are_checked_as_everywhere_and_the_old_ones_stay(start, notes, clip, labels, thresholds, reason):
    feed = start(open_source(clip))
    feed.ask(["tree"], [None])
    notes.wait(lambda: notes.labels, "the labels")
    feed.ask(labels, thresholds)
    assert reason in notes.wait(lambda: notes.refusals, "the refusal")[0]
    seen = len(notes.frames)
    notes.wait(lambda: len(notes.frames) > seen + 2, "more frames")
    assert notes.frames[-1].labels.labels == ("tree",)


def test_a_video_starts_again_at_its_end(start, notes, make_video):
    shades = (40, 120, 200)
    start(open_source(make_video([np.full((48, 64, 3), shade, np.uint8) for shade in shades], fps=50)))
    notes.wait(lambda: len(notes.frames) >= 8, "frames of several rounds")
    assert {min(shades, key=lambda shade: abs(shade - frame.image.mean())) for frame in notes.frames} == set(shades)


def test_a_resting_feed_gives_no_frames_but_new_labels_change_the_one_at_hand(start, notes, clip):
    feed = start(open_source(clip))
    notes.wait(lambda: notes.frames, "a frame")
    feed.rest(True)
    feed.ask(["car"], [None])
    notes.wait(lambda: notes.frames[-1].labels.labels == ("car",), "the segmented frame")
    before = len(notes.frames)
    feed.ask(["tree"], [None])
    notes.wait(lambda: notes.frames[-1].labels.labels == ("tree",), "the frame with other labels")
    assert len(notes.frames) == before + 1
    assert notes.frames[-1].image is notes.frames[-2].image
    feed.rest(False)
    notes.wait(lambda: notes.frames[-1].image is not notes.frames[before].image, "the next frame")


def test_a_slow_engine_gets_the_newest_frame(start, notes, segmenter):
    camera, segment = Numbered(), segmenter.segment
    gate, busy = threading.Event(), threading.Event()

    def wait_and_segment(*arguments):
        busy.set()
        assert gate.wait(60)
        return segment(*arguments)

    segmenter.segment = wait_and_segment
    feed = start(camera)
    feed.ask(["car"], [None])
    assert busy.wait(60)
    camera.go_on.set()
    assert camera.done.wait(60)  # the camera gives all its frames while the engine has one
    gate.set()
    notes.wait(lambda: notes.frames[-1].image[0, 0, 0] == Numbered.LAST, "the newest frame")
    assert len([frame for frame in notes.frames if frame.labels.labels]) == 2
    camera.end.set()


def test_a_camera_that_is_unplugged_is_told_and_found_again(start, notes, gradient_image, monkeypatch):
    monkeypatch.setattr("synseg_model.live.source_feed.RETRY_SECONDS", 0.01)
    camera = Camera(gradient_image)
    start(camera)
    notes.wait(lambda: ("source", "cannot open camera device 7 (/dev/video7)") in notes.troubles, "the trouble")
    camera.plugged.set()
    notes.wait(lambda: notes.troubles[-1] == ("source", "") and notes.frames, "frames")


def test_a_damaged_video_is_told_and_shown_as_far_as_it_goes(start, notes, clip, tmp_path):
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    source = open_source(damaged)
    source.length = 12  # the index that says so is cut off
    start(source)
    notes.wait(lambda: any("ended after" in reason for _, reason in notes.troubles), "the trouble")
    assert notes.frames


def test_a_video_that_disappears_is_told_and_shown_again(start, notes, clip, monkeypatch):
    monkeypatch.setattr("synseg_model.live.source_feed.RETRY_SECONDS", 0.01)
    start(open_source(clip))
    notes.wait(lambda: notes.frames, "a frame")
    moved = clip.with_suffix(".moved")
    shutil.move(clip, moved)
    notes.wait(lambda: any("can no longer be opened" in reason for _, reason in notes.troubles), "the trouble")
    shutil.move(moved, clip)
    notes.wait(lambda: notes.troubles[-1] == ("source", ""), "the end of the trouble")


def test_a_folder_names_what_it_cannot_read_and_shows_the_rest(start, notes, tmp_path, gradient_image):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), gradient_image)
    (folder / "2.png").write_bytes(b"no image")
    start(open_source(folder), fps=100)
    notes.wait(lambda: any("2.png" in reason for _, reason in notes.troubles), "the trouble")
    assert notes.wait(lambda: len(notes.frames) > 1, "frames")


def test_an_engine_that_fails_is_told_and_goes_on(start, notes, clip, segmenter):
    feed = start(open_source(clip))
    segment, failures = segmenter.segment, [RuntimeError("out of memory")]

    def fail_once(*arguments):
        if failures:
            raise failures.pop()
        return segment(*arguments)

    segmenter.segment = fail_once
    feed.ask(["car"], [None])
    notes.wait(lambda: ("engine", "") in notes.troubles, "the end of the trouble")
    assert ("engine", "the engine failed: RuntimeError: out of memory") in notes.troubles
    assert notes.wait(lambda: notes.frames[-1].labels.labels == ("car",), "a segmented frame")


def test_large_images_are_made_smaller():
    assert shrink(np.zeros((3000, 4000, 3), np.uint8)).shape == (960, LARGEST_SIDE, 3)
    small = np.zeros((480, 640, 3), np.uint8)
    assert shrink(small) is small
    assert set(np.unique(shrink(np.repeat(np.array([[3, 7]], np.uint16), 2000, axis=1)))) == {3, 7}
