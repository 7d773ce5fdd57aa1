"""The demo measures what it claims, ends by itself, and says what went wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

import synseg_model
from synseg_model.config import DEFAULT_MODEL
from synseg_ros.demo import flow
from synseg_ros.demo.__main__ import main
from synseg_ros.demo.listener import KeptOverlay
from synseg_ros.demo.plan import SCENE_SEED, STREET, Plan, make_plan, node_arguments, player_arguments
from synseg_ros.demo.processes import private_domain
from synseg_ros.demo.report import choose, per_label, results_table
from synseg_ros.demo.truth import IntersectionOverUnion, TruthSegments
from synseg_ros.parameters.options import ros_arguments
from synseg_ros.parameters.server import declare
from synseg_ros.parameters.tables import PlayerSettings
from synseg_ros.player.photographs.tour import load_photographs

pytestmark = pytest.mark.ros

SEGMENTS = json.dumps(
    [
        {"kind": "stuff", "noun": "sky", "color": None},
        {"kind": "stuff", "noun": "grass", "color": None},
        {"kind": "thing", "noun": "ball", "color": "red"},
        {"kind": "thing", "noun": "ball", "color": "blue"},
    ]
)
INDEX_MAP = np.array([[0, 0, 2, 3], [1, 1, 2, 3]], np.uint8)


@pytest.fixture
def segments():
    return TruthSegments.from_json(SEGMENTS)


@pytest.mark.parametrize(
    ("label", "pixels"),
    [
        ("sky", [[1, 1, 0, 0], [0, 0, 0, 0]]),
        ("ball", [[0, 0, 1, 1], [0, 0, 1, 1]]),
        ("Red Ball", [[0, 0, 1, 0], [0, 0, 1, 0]]),
        ("dog", [[0, 0, 0, 0], [0, 0, 0, 0]]),
    ],
)
def test_truth_knows_nouns_coloured_nouns_and_stuff(segments, label, pixels):
    np.testing.assert_array_equal(segments.mask(label, INDEX_MAP), np.array(pixels, bool))


def test_intersection_over_union_is_summed_over_frames_then_averaged_over_labels(segments):
    accuracy = IntersectionOverUnion()
    accuracy.add(np.array([[1, 1, 2, 2], [0, 0, 2, 2]]), ("sky", "ball"), (1, 2), INDEX_MAP, segments)
    accuracy.add(np.array([[0, 0, 2, 2], [0, 0, 0, 0]]), ("sky", "ball"), (1, 2), INDEX_MAP, segments)
    assert accuracy.per_label() == {"sky": 100 * 2 / 4, "ball": 100 * 6 / 8}
    assert accuracy.mean() == pytest.approx(62.5)


def test_a_label_that_is_found_where_it_is_not_counts_as_zero(segments):
    accuracy = IntersectionOverUnion()
    accuracy.add(np.array([[1, 0, 0, 0], [0, 0, 0, 0]]), ("dog", "cat"), (1, 2), INDEX_MAP, segments)
    assert accuracy.per_label() == {"dog": 0.0}


def test_without_a_frame_there_is_no_accuracy():
    assert IntersectionOverUnion().mean() is None


PHOTOGRAPHS = json.dumps(
    [
        {"kind": "unlabelled", "noun": "unlabelled", "color": None},
        {"kind": "background", "noun": "background", "color": None},
        {"kind": "labelled", "noun": "cat", "color": None},
    ]
)


def test_in_photographs_pixels_that_nobody_can_name_and_labels_that_nobody_drew_do_not_count():
    accuracy = IntersectionOverUnion()
    index_map = np.array([[0, 0, 1, 1], [2, 2, 2, 2]], np.uint8)
    label_map = np.array([[1, 1, 1, 2], [1, 1, 1, 2]], np.uint8)
    accuracy.add(label_map, ("Cat", "dog", "background"), (1, 2, 3), index_map, TruthSegments.from_json(PHOTOGRAPHS))
    assert accuracy.per_label() == {"Cat": 100 * 3 / 5}


def test_photographs_are_shown_unless_something_else_is_asked_for():
    plan = make_plan(None, "")
    assert (plan.source, plan.model) == ("photographs", DEFAULT_MODEL)
    assert plan == make_plan("photographs", "")
    first, second = plan.vocabularies(None)
    _, names = load_photographs()
    assert {*first, *second} <= set(names[2:])
    assert set(second) - set(first) and set(first) - set(second)
    assert make_plan(None, "dog, cat").vocabularies(None)[1] == ("dog", "cat")


def test_scenes_are_shown_to_the_model_that_knows_them():
    plan = make_plan("scenes", "")
    assert (plan.scenes, plan.model) == (True, "synseg-tiny")
    assert {'source:="scenes"', f"seed:={SCENE_SEED}"} <= set(player_arguments(plan, "/topic", "/answers"))


def test_a_scene_is_asked_for_nouns_first_and_for_colours_then(segments):
    first, second = make_plan("scenes", "").vocabularies(segments)
    assert first == ("ball", "sky")
    assert second == ("red ball", "blue ball", "grass")


def images_with(*labels):
    return [KeptOverlay(np.full((1, 1, 3), index, np.uint8), frozenset(shown)) for index, shown in enumerate(labels)]


def chosen(images, count):
    return [int(image.image[0, 0, 0]) for image in choose(images, count)]


def test_the_contact_sheet_shows_as_many_labels_as_it_can():
    images = images_with({"cat"}, {"cat"}, set(), {"sky", "road"}, {"sky"}, {"road"}, {"cup"}, set())
    assert chosen(images, 1) == [3]
    assert set().union(*(images[index].labels for index in chosen(images, 3))) == {"cat", "sky", "road", "cup"}


def test_the_contact_sheet_spreads_images_that_show_the_same():
    assert chosen(images_with(*[{"sky"}] * 9), 3) == [0, 4, 8]


def test_the_contact_sheet_is_full_with_few_images_and_empty_with_none():
    assert chosen(images_with({"sky"}, set()), 4) == [0, 0, 1, 1]
    assert choose([], 4) == []


@pytest.fixture
def folder(tmp_path):
    """Twenty images of different widths."""
    (tmp_path / "frames").mkdir()
    for index in range(20):
        image = np.full((48, 64 + index, 3), 10 * index, np.uint8)
        assert cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), image)
    return tmp_path / "frames"


def test_given_labels_are_asked_for_by_half_and_then_all(folder):
    plan = make_plan(str(folder), " road, Car ,car,, tree,sky")
    assert (plan.frames, plan.every) == (20, True)
    assert plan.vocabularies(None) == (("road", "Car"), ("road", "Car", "tree", "sky"))
    assert make_plan(str(folder), "").vocabularies(None)[1] == STREET


def test_a_few_images_are_shown_again_and_again_and_none_is_dropped(folder):
    for path in sorted(folder.iterdir())[3:]:
        path.unlink()
    plan = make_plan(str(folder), "")
    assert (plan.frames, plan.every) == (None, True)
    assert {"loop:=true", 'wait_for:="/answers"'} <= set(player_arguments(plan, "/topic", "/answers"))


def test_a_folder_that_is_called_scenes_is_not_taken_for_generated_ones(folder, monkeypatch):
    monkeypatch.chdir(folder.rename(folder.with_name("scenes")).parent)
    assert not make_plan("./scenes", "").scenes
    assert make_plan("scenes", "").scenes


def test_only_generated_scenes_are_what_a_model_for_them_expects(folder):
    expected = 'expect_domain:="generated scenes"'
    assert expected in node_arguments(make_plan("scenes", ""), "synseg-tiny", "auto", "/topic", "camera")
    assert expected not in node_arguments(make_plan(str(folder), ""), "synseg-tiny", "auto", "/topic", "camera")


@pytest.mark.parametrize("label", ["car", "object"])
def test_a_single_label_is_changed_too(folder, label):
    first, second = make_plan(str(folder), label).vocabularies(None)
    assert second == (label,)
    assert first != second


def test_arguments_reach_a_node_as_they_are(bench):
    import rclpy
    from rclpy.node import Node

    text = 'a: b, "c" # {d} [e] \\ é 7'
    context = rclpy.Context()
    rclpy.init(context=context, args=ros_arguments({"source": text, "loop": False, "seed": 5}))
    node = Node("tested", context=context)
    settings = declare(node, PlayerSettings)
    node.destroy_node()
    context.shutdown()
    assert (settings.source, settings.loop, settings.seed) == (text, False, 5)


@pytest.fixture
def stripes(monkeypatch, ros_domain, one_demo_at_a_time):
    """Let the demo start a node whose engine needs no network, and be content with few frames."""
    for name in private_domain():  # the demo changes these variables: have them back after the test
        monkeypatch.setenv(name, os.environ.get(name, ""))
        if not os.environ[name]:
            monkeypatch.delenv(name)
    monkeypatch.setattr(flow, "ENGINE", "null")
    monkeypatch.setattr(Plan, "phase_frames", 6)


@pytest.fixture
def listeners(monkeypatch):
    """Catch the demo's listener, to look at what it heard."""
    caught = []

    class Caught(flow.Listener):
        def __init__(self, *args):
            super().__init__(*args)
            caught.append(self)

    monkeypatch.setattr(flow, "Listener", Caught)
    return caught


@pytest.mark.parametrize("arguments", [[], ["--input", "scenes"]], ids=["photographs", "scenes"])
def test_what_has_a_truth_ends_with_a_table_and_a_contact_sheet(stripes, tmp_path, capfd, arguments):
    sheet = tmp_path / "output" / "demo.png"
    assert main([*arguments, "--output", str(sheet)]) == 0
    printed = capfd.readouterr().out
    rows = {line.split("  ")[0]: line.split()[-2:] for line in printed.splitlines() if "  " in line}
    assert all(int(count) >= 5 for count in rows["frames segmented"])
    assert all(float(value) > 0 for name in ("latency p50 (ms)", "latency p99 (ms)") for value in rows[name])
    assert all(0 <= float(value) <= 100 for value in rows["mIoU (%)"])
    assert str(sheet) in printed
    height, width = cv2.imread(str(sheet)).shape[:2]
    assert width > height > 300


def test_a_folder_goes_through_frame_by_frame(stripes, listeners, folder, tmp_path, capfd):
    arguments = ["--input", str(folder), "--labels", "road, car, sky", "--output", str(tmp_path / "demo.png")]
    assert main(arguments) == 0
    before, after = listeners[0].phases.values()
    assert (before.labels, after.labels) == (("road",), ("road", "car", "sky"))
    assert len(before.stamps) >= 10
    assert len(before.stamps) + len(after.stamps) == len(set(listeners[0].sent)) == 20
    assert per_label(after) == ["road", "car", "sky"]
    rows = [line.split() for line in results_table(listeners[0], [1, 2]).splitlines()]
    assert ["frames", "dropped", "0", "0"] in rows


def test_a_node_that_dies_is_reported_with_its_last_words(stripes, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(flow, "NODE_MODULE", "tests.synseg_ros.no_such_module")
    assert main(["--input", "scenes", "--output", str(tmp_path / "demo.png")]) == 1
    error = capfd.readouterr().err
    assert "the node ended with status 1" in error
    assert "no_such_module" in error


def test_refused_labels_are_reported_with_the_reason(stripes, folder, tmp_path, capfd):
    long = "very " * 80 + "long"
    assert main(["--input", str(folder), "--labels", f"{long}, car", "--output", str(tmp_path / "demo.png")]) == 1
    assert "refused" in capfd.readouterr().err


def test_an_input_that_does_not_exist_is_an_error_at_once(capfd):
    assert main(["--input", "/no/such/folder"]) == 2
    assert "/no/such/folder" in capfd.readouterr().err


@pytest.mark.usefixtures("one_demo_at_a_time")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_behind(tmp_path, number):
    program = (
        "import sys; from synseg_ros.demo import flow; flow.ENGINE = 'null'; "
        "from synseg_ros.demo.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-u", "-c", program, "--input", "scenes", "--output", str(tmp_path / "demo.png")]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in demo.stdout:
        if line.startswith("vocabulary 1"):  # everything is running
            break
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
    demo.send_signal(number)
    time.sleep(0.2)
    demo.send_signal(number)  # an impatient second one does not break into the ending
    _, errors = demo.communicate(timeout=120)
    assert demo.returncode == 130, errors
    assert len(children) == 2
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


MODEL = Path(synseg_model.__file__).parent / "models" / "synseg-tiny" / "config.json"


@pytest.mark.slow
@pytest.mark.usefixtures("one_demo_at_a_time")
@pytest.mark.skipif(not MODEL.exists(), reason="synseg-tiny is not in this checkout")
def test_the_shipped_model_finds_most_of_a_scene_before_and_after_the_change(tmp_path):
    pytest.importorskip("torch")
    program = (  # phases of a third of the time
        "import runpy; from synseg_ros.demo import flow; flow.PHASE_SECONDS = 4.0; "
        "runpy.run_module('synseg_ros.demo', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, "--input", "scenes", "--output", str(tmp_path / "demo.png")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    (row,) = (line for line in ended.stdout.splitlines() if line.startswith("mIoU"))
    before, after = (float(value) for value in row.split()[-2:])
    assert before >= 55 and after >= 55


def test_a_contact_sheet_that_is_no_image_is_refused_before_anything_starts(tmp_path, capsys):
    assert main(["--output", str(tmp_path / "sheet")]) == 2
    assert "sheet: expected a name that ends in .png" in capsys.readouterr().err
