"""Each client has its labels, and notices nothing of the others."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("synseg_ros.srv", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.lifecycle import TransitionCallbackReturn
from synseg_ros.msg import ClassMasks
from synseg_ros.srv import SetVocabulary

from tests.synseg_ros.node.asking import Asker

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def rig(make_rig):
    return make_rig()


@pytest.fixture
def asker(rig):
    return Asker(rig)


def status_of(rig, version):
    rig.bench.spin_until(lambda: rig.statuses[-1].version >= version, what="the status")
    return rig.statuses[-1]


def test_the_node_runs_what_all_clients_want_together_under_stable_ids(rig, asker):
    rig.ask("person")
    answer = asker.want("tidy", "mug", "bowl")
    assert (answer.accepted, answer.message, answer.version) == (True, "", 2)
    assert (list(answer.labels), list(answer.ids)) == (["mug", "bowl"], [2, 3])
    answer = asker.want("guide", "Person", "door")
    assert (list(answer.labels), list(answer.ids)) == (["person", "door"], [1, 4])
    status = status_of(rig, 3)
    assert list(status.labels) == ["person", "mug", "bowl", "door"]
    assert list(status.wanted_by) == ["topic, guide", "tidy", "tidy", "guide"]
    assert asker.want("tidy").accepted
    status = status_of(rig, 4)
    assert list(zip(status.labels, status.ids, strict=True)) == [("person", 1), ("door", 4)]
    answer = asker.want("new", "cup")
    assert list(answer.ids) == [5]  # 2 and 3 meant something else a moment ago


def test_the_topic_replaces_its_own_labels_only(rig, asker):
    rig.ask("person", "dog")
    asker.want("tidy", "mug")
    status = rig.ask("cat")
    assert list(zip(status.labels, status.wanted_by, strict=True)) == [("cat", "topic"), ("mug", "tidy")]
    assert status.ids[1] == 3


def test_masks_have_the_labels_of_the_answers_version(rig, asker):
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    version = asker.want("tidy", "mug").version
    rig.show_until(lambda: masks and masks[-1].vocabulary_version == version, "masks")
    assert [mask.label for mask in masks[-1].masks] == ["mug"]


def test_a_client_that_asks_for_the_same_again_renews_its_lease_only(rig, asker):
    first = asker.want("tidy", "mug", lease_seconds=10.0)
    heard = len(rig.statuses)
    again = asker.want("tidy", "mug", lease_seconds=10.0)
    assert again == first
    assert len(rig.statuses) == heard


def test_a_client_that_left_without_a_word_is_forgotten(make_rig):
    rig = make_rig(labels=["person"])
    asker = Asker(rig)
    asker.want("gone", "mug", "person", lease_seconds=1.0)
    asker.want("stays", "bowl", lease_seconds=600.0)
    rig.bench.spin_until(lambda: "mug" not in rig.statuses[-1].labels, what="the end of the lease")
    status = rig.statuses[-1]
    assert list(zip(status.labels, status.ids, status.wanted_by, strict=True)) == [
        ("person", 1, "topic"),
        ("bowl", 3, "stays"),
    ]


def test_when_nobody_wants_anything_nothing_is_segmented(rig, asker):
    rig.listen(ClassMasks, "masks")
    rig.connect()
    asker.want("tidy", "mug")
    answer = asker.want("tidy")
    assert (answer.accepted, answer.version, list(answer.labels)) == (True, 2, [])
    assert list(status_of(rig, 2).labels) == []
    rig.show_until(lambda: rig.counts()["idle"] >= 2, "idle frames")
    assert rig.ask("person").version == 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"client": ""}, "client ''"),
        ({"client": "topic"}, "synseg/vocab"),
        ({"labels": ["mug", " "]}, "empty"),
        ({"labels": ["a"] * 10_000}, "10000 labels.*64"),
        ({"labels": ["mug"], "thresholds": [2.0]}, r"2\.0"),
        ({"labels": ["mug"], "lease_seconds": float("nan")}, "lease of nan"),
        ({"labels": ["mug"], "lease_seconds": -1.0}, "lease of -1"),
    ],
)
def test_a_bad_request_is_refused_and_everything_stays(rig, asker, fields, reason):
    rig.ask("person")
    kept = asker.want("tidy", "bowl")
    heard = len(rig.statuses)
    answer = asker.ask(SetVocabulary, **{"client": "tidy", "labels": ["mug"], **fields})
    assert not answer.accepted
    assert re.search(reason, answer.message), answer.message
    assert asker.want("tidy", "bowl") == kept
    assert len(rig.statuses) == heard or rig.statuses[-1].accepted


def test_a_label_that_cannot_be_encoded_is_refused_for_its_client_alone(make_rig, stripe_engine, monkeypatch):
    encode = stripe_engine.encode_text

    def fail(prompts):
        if any("poison" in prompt for prompt in prompts):
            raise RuntimeError("out of memory")
        return encode(prompts)

    monkeypatch.setattr(stripe_engine, "encode_text", fail)
    rig = make_rig(engine=stripe_engine)
    asker = Asker(rig)
    asker.want("good", "mug")
    answer = asker.want("bad", "poison")
    assert (answer.accepted, answer.message) == (False, "out of memory")
    answer = asker.want("good", "mug", "bowl")
    assert answer.accepted and list(rig.statuses[-1].labels) == ["mug", "bowl"]


def test_an_engine_that_encodes_nothing_any_more_is_not_asked_again_and_again(make_rig, stripe_engine, monkeypatch):
    rig = make_rig(engine=stripe_engine)
    asker = Asker(rig)
    asker.want("good", "mug")
    calls = []

    def fail(prompts):
        calls.append(prompts)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stripe_engine, "encode_text", fail)
    assert not asker.want("good", "mug", "bowl").accepted
    assert not asker.want("bad", "poison").accepted
    assert list(rig.statuses[-1].labels) == ["mug"]
    assert len(calls) == 2  # what is wanted after each of them is encoded already


def test_more_requests_than_allowed_are_refused_and_told_so(asker):
    futures = [asker.send(SetVocabulary, client="eager", labels=[str(number)]) for number in range(200)]
    asker.bench.spin_until(lambda: all(future.done() for future in futures), what="all answers")
    refused = [future.result().message for future in futures if not future.result().accepted]
    assert len(refused) > 150
    assert any("10 requests per second of client eager" in message for message in refused)
    assert asker.want("modest", "mug").accepted


def test_clients_are_remembered_while_the_node_is_cleaned_up(rig, asker):
    asker.want("tidy", "mug", lease_seconds=600.0)
    rig.node.trigger_deactivate()
    assert asker.want("tidy", "mug", "bowl", lease_seconds=600.0).accepted  # inactive nodes take vocabularies
    rig.node.trigger_cleanup()
    answer = asker.want("tidy", "cup")
    assert (answer.accepted, answer.message) == (False, "the node is unconfigured: configure it first")
    assert rig.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    rig.bench.spin_until(lambda: list(rig.statuses[-1].labels) == ["mug", "bowl"], what="the labels again")


CLIENT = """
import json, os, select, sys
import rclpy
from rclpy.node import Node
from synseg_ros.client import MaskClient, SynSegClient

name, labels = sys.argv[1], sys.argv[2].split(",")
rclpy.init()
node = Node(name)
seen, missing = 0, []

def take(frame):
    global seen
    if frame.version >= lease.version:
        seen += 1
        missing.extend(l for l in labels if l not in frame.present or frame.ids[frame.labels.index(l)] != lease.ids[l])

def told_to_end():
    return bool(select.select([sys.stdin], [], [], 0)[0])

with SynSegClient(node).vocabulary(name, labels, lease=5.0) as lease:
    masks = MaskClient(node, "camera", take)
    while seen < 5 or not told_to_end():
        rclpy.spin_once(node, timeout_sec=0.1)
    print(json.dumps([seen, missing, lease.problem]), flush=True)
    if name == "leaver":
        os._exit(0)  # without a word
rclpy.shutdown()
"""


def test_two_processes_have_their_labels_at_once_and_one_leaves_without_a_word(rig):
    rig.bench.spin_until(rig.camera.get_subscription_count, what="the node's subscription")
    rig.bench.node.create_timer(0.1, rig.show)

    def start(*arguments):
        command = [sys.executable, "-c", CLIENT, *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def end(process):
        process.stdin.close()
        rig.bench.spin_until(lambda: process.poll() is not None, what="the end of a client")
        return json.loads(process.stdout.read())

    stayer, leaver = start("stayer", "mug,bowl"), start("leaver", "door,mug")
    try:
        both = lambda: {"door", "mug", "bowl"} <= set(rig.statuses[-1].labels)  # noqa: E731
        rig.bench.spin_until(both, what="the labels of both")
        seen, missing, _ = end(leaver)
        assert seen >= 5 and missing == []
        rig.bench.spin_until(lambda: set(rig.statuses[-1].labels) <= {"mug", "bowl"}, what="the end of its lease")
        seen, missing, problem = end(stayer)
        assert (seen >= 5, missing, problem) == (True, [], "")
        rig.bench.spin_until(lambda: not rig.statuses[-1].labels, what="the labels that were withdrawn")
    finally:
        stayer.kill()
        leaver.kill()
