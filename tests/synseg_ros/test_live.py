"""`synseg live --ros` shows a node's camera with its masks, and its users' labels reach the node."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from synseg_ros.srv import SetVocabulary

from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS
from synseg_ros.live import open_feed
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]


class Notes:
    """What a feed says."""

    def __init__(self):
        self.frames, self.labels, self.refusals, self.troubles = [], [], [], {}
        self.on_frame, self.on_labels, self.on_refusal = (
            self.frames.append,
            self.labels.append,
            self.refusals.append,
        )
        self.on_trouble = self.troubles.__setitem__


@pytest.fixture
def start():
    """Start a feed that does not rest; returns it and what it says."""
    feeds = []

    def start(camera=""):
        feed, notes = open_feed(camera), Notes()
        feed.start(notes)
        feeds.append(feed)
        feed.rest(False)
        return feed, notes

    yield start
    for feed in feeds:
        feed.close()


def labelled(notes, *labels):
    """Tell whether the newest frame was segmented for these labels."""
    return bool(notes.frames) and notes.frames[-1].labels.labels == labels


@pytest.mark.parametrize("encoding", MASK_ENCODINGS)
def test_frames_have_the_nodes_masks_and_labels_reach_the_node(make_rig, bench, start, encoding):
    rig = make_rig(mask_encoding=encoding)
    feed, notes = start()
    bench.spin_until(lambda: notes.frames, rig.show, "a frame without labels")
    assert notes.frames[0].label_map is None and notes.frames[0].image.shape == (HEIGHT, WIDTH, 3)
    feed.ask(["ball", "cube"], [None, None])
    bench.spin_until(lambda: labelled(notes, "ball", "cube"), rig.show, "a segmented frame")
    frame = notes.frames[-1]
    assert (frame.labels.ids, notes.labels[-1].labels) == ((1, 2), ("ball", "cube"))
    assert (notes.labels[-1].thresholds, notes.labels[-1].own) == ((0.5, 0.5), (True, True))
    assert (frame.label_map[:, : WIDTH // 2] == 1).all() and (frame.label_map[:, WIDTH // 2 :] == 2).all()
    assert frame.found[1] == pytest.approx((1.0, 1.0, 0.5))
    assert (feed.name, feed.model) == ("camera camera (/camera/image_raw)", "node /synseg")
    assert notes.troubles.get("source", "") == ""
    feed.ask(["ball", "dog"], [0.75, None])
    bench.spin_until(lambda: labelled(notes, "ball", "dog"), rig.show, "a frame with other labels")
    assert notes.labels[-1].thresholds == (0.75, 0.5)
    assert notes.frames[-1].labels.ids == (1, 2)


def test_labels_of_other_clients_are_shown_as_theirs(make_rig, bench, start):
    rig = make_rig(labels=["ball"])
    wish = SetVocabulary.Request(client="arm", labels=["cup"])
    client = bench.node.create_client(SetVocabulary, "/synseg/set_vocabulary")
    bench.spin_until(client.service_is_ready, what="the service")
    answer = client.call_async(wish)
    _, notes = start()
    bench.spin_until(answer.done, what="the answer")
    bench.spin_until(lambda: labelled(notes, "ball", "cup"), rig.show, "a frame with both labels")
    assert notes.labels[-1].asked == ["ball"]
    assert set(notes.frames[-1].found) == {1, 2}


def test_a_refusal_of_the_node_is_told(make_rig, bench, start):
    rig = make_rig(labels=["ball"])
    feed, notes = start("camera")
    bench.spin_until(lambda: notes.labels, rig.show, "the labels")
    feed.ask(["x", ""], [None, None])
    bench.spin_until(lambda: notes.refusals, rig.show, "the refusal")
    assert "label 2 is empty" in notes.refusals[0]
    feed.ask(["x\0y"], [None])
    assert "has a NUL" in notes.refusals[1]


def test_a_resting_feed_lets_the_node_rest(make_rig, bench, start):
    rig = make_rig(labels=["ball"])
    feed, notes = start()
    bench.spin_until(lambda: labelled(notes, "ball"), rig.show, "a segmented frame")
    masks = next(p for p in rig.node.publishers if p.topic_name.endswith("/camera/masks"))
    feed.rest(True)
    bench.spin_until(lambda: not masks.get_subscription_count(), what="the end of the subscription")
    feed.rest(False)
    seen = len(notes.frames)
    bench.spin_until(lambda: len(notes.frames) > seen, rig.show, "the next frame")


def test_a_missing_node_and_a_missing_camera_are_told(make_rig, bench, start):
    _, alone = start()
    bench.spin_until(lambda: "no node that segments" in alone.troubles.get("source", ""), what="the trouble")
    rig = make_rig(labels=["ball"])
    _, notes = start("rear")
    bench.spin_until(lambda: "'rear' is not found yet; there is camera" in notes.troubles.get("source", ""), rig.show)
    bench.spin_until(lambda: labelled(alone, "ball") and not alone.troubles["source"], rig.show, "a frame in the end")


def test_two_cameras_are_told_apart(make_rig, bench, start):
    rig = make_rig(camera_topics=["/camera/image_raw", "/rear/image_raw"], labels=["ball"])
    feed, notes = start("camera")
    bench.spin_until(lambda: labelled(notes, "ball"), rig.show, "a segmented frame")
    assert feed.name == "camera camera (/camera/image_raw)"


def test_frames_that_cannot_be_read_are_told(make_rig, bench, start):
    rig = make_rig()
    _, notes = start()
    bench.spin_until(
        lambda: re.search("encoding", notes.troubles.get("frame", "")), lambda: rig.show(encoding="none"), "the trouble"
    )
    bench.spin_until(lambda: notes.frames and not notes.troubles["frame"], rig.show, "a good frame")
    assert np.array_equal(notes.frames[-1].image, np.zeros((HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("camera", ["a b", "/camera", "=topic"])
def test_a_name_that_no_camera_has_is_refused(camera):
    with pytest.raises(ValueError, match="expected a name such as front"):
        open_feed(camera)


def test_the_command_shows_a_node_on_its_page(make_rig, bench):
    aiohttp = pytest.importorskip("aiohttp", reason="needs the extra live")
    rig = make_rig()
    command = [sys.executable, "-m", "synseg_model", "live", "--ros", "--no-browser", "--labels", "ball, cube"]
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    bench.closers += [process.communicate, process.kill]
    url = re.search(r"http://\S+/", next(line for line in process.stdout if "http://" in line))[0]
    found = {}

    async def open_page():
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{url}live") as socket:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await socket.send_str("next")
                else:
                    found.update(json.loads(message.data).get("found", {}))
                if found:
                    return

    page = threading.Thread(target=asyncio.run, args=(open_page(),), daemon=True)
    page.start()
    bench.spin_until(lambda: not page.is_alive(), rig.show, "a page with masks")
    assert found == {"ball": [1.0, 1.0, 0.5], "cube": [1.0, 1.0, 0.5]}
