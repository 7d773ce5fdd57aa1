"""What is logged is what was found; a viewer that goes away, or hangs, costs a warning and bounded time."""

import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rerun", reason="needs rerun-sdk: the extra rerun")

from synseg_model import Segmenter
from synseg_model.instances import POINT, Position, find_instances
from synseg_model.io.drawing import colors_of
from synseg_model.viewer import viewer as viewers
from synseg_model.viewer.entities import MOST_POINTS
from synseg_model.viewer.frame import SeenMaps, Space, ViewedFrame, for_another_thread
from synseg_model.viewer.target import ViewerTarget, read_target
from synseg_model.viewer.viewer import Viewer
from tests.synseg_model.viewer.logged import rows
from tests.synseg_model.viewer.server import Server, free_port

LABELS = ("ball", "red cup", "box")


@pytest.fixture
def segmenter(color_engine, tmp_path):
    segmenter = Segmenter(color_engine, cache_dir=tmp_path / "cache")
    segmenter.set_vocabulary(list(LABELS))
    return segmenter


@pytest.fixture
def make_frame(segmenter, gradient_image):
    def make(number=0, **fields):
        result = segmenter.segment(gradient_image)
        instances = find_instances(result.label_map, result.confidence, result.labels, result.ids)
        return ViewedFrame("front", number, gradient_image, result, instances, **fields)

    return make


def packed(colors):
    """Write (K,3) colours as Rerun does: 0xRRGGBBAA."""
    return [int(r) << 24 | int(g) << 16 | int(b) << 8 | 255 for r, g, b in colors]


def show(path, *frames):
    viewer = Viewer(ViewerTarget(file=path))
    assert all(viewer.show(frame) for frame in frames)
    assert viewer.close()
    assert (viewer.shown, viewer.missed, viewer.problem) == (len(frames), 0, "")
    return rows(path)


def test_image_masks_and_instances_are_logged_at_the_frames_times(make_frame, tmp_path):
    stamps = [1_700_000_000_123_456_789, 1_700_000_000_223_456_789]
    first, second = (make_frame(number, stamp=stamp) for number, stamp in zip((4, 7), stamps, strict=True))
    assert first.instances
    found = show(tmp_path / "a.rrd", first, second)
    for name in ("front/image", "front/image/segmentation", "front/image/instances"):
        assert [(row["frame"], row["stamp"]) for row in found[name]] == list(zip((4, 7), stamps, strict=True))
    (blob,) = found["front/image"][0]["blob"]
    assert found["front/image"][0]["media_type"] == ["image/jpeg"]
    decoded = cv2.cvtColor(cv2.imdecode(np.array(blob, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(decoded.astype(int) - first.image).mean() < 5
    (buffer,) = found["front/image/segmentation"][0]["buffer"]
    np.testing.assert_array_equal(np.array(buffer, np.uint8).reshape(first.result.shape), first.result.label_map)
    boxes = found["front/image/instances"][0]
    assert boxes["labels"] == [f"{one.label} {one.score:.2f}" for one in first.instances]
    assert boxes["class_ids"] == [one.label_id for one in first.instances]
    corners = np.array(boxes["centers"]) - boxes["half_sizes"]
    np.testing.assert_allclose(corners, [one.box[:2] for one in first.instances], atol=1e-3)
    np.testing.assert_allclose(2 * np.array(boxes["half_sizes"]), [one.box[2:] for one in first.instances], atol=1e-3)


def test_names_and_colours_are_those_of_the_overlay_and_logged_once_per_vocabulary(segmenter, make_frame, tmp_path):
    one, two = make_frame(0), make_frame(1)
    segmenter.set_vocabulary(["grass"])
    three = make_frame(2)
    found = show(tmp_path / "a.rrd", one, two, three)
    contexts = found["front"]
    assert [row["frame"] for row in contexts] == [0, 2]
    for row, frame in zip(contexts, (one, three), strict=True):
        background, *labels = [one["class_description"]["info"] for one in row["context"][0]]
        assert (background["id"], background["color"] & 255) == (0, 0)
        assert [(one["id"], one["label"]) for one in labels] == list(enumerate(frame.result.labels, start=1))
        assert [one["color"] for one in labels] == packed(colors_of(frame.result.vocabulary))


def test_ids_over_255_are_logged_as_they_are(segmenter, make_frame, tmp_path):
    segmenter.set_vocabulary([f"thing {index}" for index in range(300)])
    frame = make_frame()
    found = show(tmp_path / "a.rrd", frame)
    (buffer,) = found["front/image/segmentation"][0]["buffer"]
    logged = np.array(buffer, np.uint8).view(np.uint16).reshape(frame.result.shape)
    np.testing.assert_array_equal(logged, frame.result.label_map)


def cloud(count, label=1):
    points = np.zeros(count, POINT)
    points["x"], points["z"], points["label"], points["rgb"] = np.arange(count), 2.0, label, 0x102030
    return points


def test_positions_and_points_are_logged_in_their_frame_and_taken_away_when_unknown(make_frame, tmp_path):
    count = len(make_frame().instances)
    assert count >= 2
    position = Position((1.0, 2.0, 3.0), 0.1, 1.0, (1.5, 2.0, 3.0), (0.5, 0.25, 0.125))
    positions = [position, *["no depth here"] * (count - 1)]
    points = np.concatenate([cloud(3), cloud(2, label=0)])
    there = make_frame(0, space=Space("base_link", False, positions, points))
    found = show(tmp_path / "a.rrd", there, make_frame(1))
    path = "space/base_link/front"
    objects, gone = found[f"{path}/objects"]
    (instance, *_) = there.instances
    assert objects["labels"] == [f"{instance.label} {instance.score:.2f}"]
    np.testing.assert_allclose(objects["centers"], [(1.5, 2.0, 3.0)])
    np.testing.assert_allclose(objects["half_sizes"], [(0.25, 0.125, 0.0625)])
    np.testing.assert_allclose(found[f"{path}/positions"][0]["positions"], [(1.0, 2.0, 3.0)])
    logged = found[f"{path}/points"][0]
    np.testing.assert_allclose(logged["positions"], np.stack([points[name] for name in "xyz"], axis=1))
    assert logged["class_ids"] == [1, 1, 1, 0, 0]
    (label_color,) = packed(colors_of(there.result.vocabulary)[:1])
    assert logged["colors"] == [label_color] * 3 + [0x102030FF] * 2
    assert (gone["frame"], gone["is_recursive"]) == (1, [False])
    assert [row["frame"] for row in found[f"{path}/points"]] == [0, 1]
    assert found[path][0]["context"] == found["front"][0]["context"]
    assert found["space/base_link"][0]["xyz"] == [[5, 4, 1]]  # forward, left, up


def test_many_points_are_thinned_out(make_frame, tmp_path):
    positions = ["unknown"] * len(make_frame().instances)
    found = show(tmp_path / "a.rrd", make_frame(space=Space("lens", True, positions, cloud(2 * MOST_POINTS + 1))))
    assert MOST_POINTS / 2 < len(found["space/lens/front/points"][0]["positions"]) <= MOST_POINTS
    assert found["space/lens"][0]["xyz"] == [[3, 2, 5]]  # right, down, forward


def test_another_thread_gets_the_same_maps(segmenter, gradient_image):
    result = segmenter.segment(gradient_image)
    later = for_another_thread(result)
    np.testing.assert_array_equal(later.label_map, result.label_map)
    np.testing.assert_array_equal(later.confidence, result.confidence)
    seen = SeenMaps(result.vocabulary, result.label_map, result.confidence)
    assert (seen.labels, seen.ids, seen.shape) == (later.labels, later.ids, later.shape)


@pytest.fixture
def server():
    server = Server()
    server.start()
    yield server
    server.end()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_viewer_that_goes_away_is_one_warning_and_is_found_again(server, make_frame):
    warnings, clock = [], Clock()
    viewer = Viewer(read_target(f"127.0.0.1:{server.port}"), warn=warnings.append, clock=clock)
    frame = make_frame()
    assert viewer.show(frame)
    server.end()
    for _ in range(3):
        assert not viewer.show(frame)
    assert not viewer.wants()
    clock.now += viewers.RETRY_SECONDS
    assert viewer.wants()
    assert not viewer.show(frame)
    assert len(warnings) == 1 and f"127.0.0.1:{server.port}" in warnings[0]
    server.start()
    assert not viewer.show(frame)  # before its time
    clock.now += viewers.RETRY_SECONDS
    assert viewer.show(frame)
    assert len(warnings) == 2 and "again" in warnings[1]
    assert (viewer.shown, viewer.missed, viewer.problem) == (2, 5, "")
    viewer.close()


def test_a_viewer_that_hangs_costs_bounded_time(server, make_frame, monkeypatch):
    monkeypatch.setattr(viewers, "SETTLE_SECONDS", 0.2)
    warnings = []
    viewer = Viewer(read_target(f"127.0.0.1:{server.port}"), warn=warnings.append)
    frame = make_frame()
    assert viewer.show(frame)
    server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    while viewer.show(frame):  # the system's buffers take some
        assert time.monotonic() - began < 60
    assert "took nothing for 0.2 s" in warnings[0]
    assert viewer.close()  # what hangs was left to itself


def test_a_process_ends_although_its_viewer_hangs(server):
    code = f"""
import os, signal, numpy as np
from synseg_model import Result, Vocabulary
from synseg_model.viewer import viewer as viewers
from synseg_model.viewer.frame import ViewedFrame
from synseg_model.viewer.target import read_target
viewers.SETTLE_SECONDS = 0.2
viewer = viewers.Viewer(read_target("127.0.0.1:{server.port}"))
result = Result(Vocabulary(("a",), [0.5], np.eye(1), fingerprint="0"), np.ones((1, 4, 4), np.float32), (64, 64))
frame = ViewedFrame("front", 0, np.zeros((64, 64, 3), np.uint8), result)
assert viewer.show(frame)
os.kill({server.process.pid}, signal.SIGSTOP)
while viewer.show(frame):
    pass
viewer.close(0.2)
print("closed", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("closed", 0), done.stderr[-2000:]


def test_an_address_without_a_viewer_is_told_at_once(make_frame):
    port = free_port()
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=f"no viewer listens at .*:{port}/proxy"):
        Viewer(read_target(f"127.0.0.1:{port}")).connect()
    assert time.monotonic() - began < 4.0  # Rerun itself would try for five seconds
