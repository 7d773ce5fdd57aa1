"""Several recordings at once: each becomes what it becomes alone, and finished ones stay."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from synseg_model.cli import main as cli
from synseg_ros.bags.message_types import program_with_messages
from tests.synseg_ros.bags.recordings import FRAMES, drive, read, record

ROOT = str(Path(__file__).parents[3])
ENGINE = ("--engine", "null", "--device", "cpu", "--write", "masks", "label_map")


def run(sources, output, *options, labels="red ball, grass"):
    return cli.main(["bag", *map(str, sources), "--labels", labels, "--output", str(output), *options])


def contents(bag):
    """Return the messages of a bag, without the time that each frame took."""
    found = read(bag)
    return {topic: [(time, repr(message)) for time, message in found[topic]] for topic in found}


@pytest.fixture
def drives(tmp_path):
    return [record(tmp_path / name) for name in ("a", "b", "c")]


def test_several_recordings_become_what_each_becomes_alone_and_finished_ones_stay(drives, tmp_path, capsys):
    assert run(drives[:1], tmp_path / "alone") == 0
    assert run(drives, tmp_path / "out") == 0
    for name in ("a", "b", "c"):
        mine, alone = contents(tmp_path / "out" / name), contents(tmp_path / "alone")
        assert mine.keys() == alone.keys()
        assert mine["/synseg/front/label_map"] == alone["/synseg/front/label_map"]
    before = (tmp_path / "out" / "a" / "metadata.yaml").stat().st_mtime_ns
    capsys.readouterr()
    assert run(drives, tmp_path / "out") == 0
    assert "3 already there" in capsys.readouterr().out
    assert (tmp_path / "out" / "a" / "metadata.yaml").stat().st_mtime_ns == before
    assert run(drives, tmp_path / "out", labels="sky") == 2
    assert "other labels" in capsys.readouterr().err


def test_a_recording_that_cannot_be_read_costs_no_other_one(drives, tmp_path, capsys):
    (tmp_path / "d").mkdir()
    assert run([*drives[:2], tmp_path / "d"], tmp_path / "out") == 1
    assert (tmp_path / "out" / "b" / "metadata.yaml").is_file()
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [failure["name"] for failure in written["failures"]] == ["d"]
    assert written["images"] == 4 * FRAMES


def test_a_bag_that_no_run_has_made_is_not_replaced_unasked(drives, tmp_path, capsys):
    record(tmp_path / "out" / "b")
    assert run(drives, tmp_path / "out") == 2
    assert "exists: choose another output or --overwrite" in capsys.readouterr().err
    assert len(read(tmp_path / "out" / "b")) == len({topic for topic, *_ in drive()})


def test_the_program_that_travels_knows_the_messages_without_the_source_tree(tmp_path):
    code = "from synseg_ros.bags.message_types import MessageTypes as T; print(T().type('synseg_ros/msg/ClassMasks'))"
    with program_with_messages() as program:
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(program.parent)!r}, {ROOT!r}]; {code}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert "ClassMasks" in done.stdout, done.stderr


def test_a_recording_whose_worker_is_killed_is_done_again(drives, tmp_path):
    output, over = tmp_path / "out", threading.Event()

    def kill():
        while not over.wait(0.02):
            if any(output.glob("*.partial/*/*.mcap")):
                pid = json.loads((output / "report.json").read_text())["workers"][0]["pid"]
                os.kill(pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        options = (*ENGINE[2:], "--engine", "null:50", "--runner", "processes", "--workers", "1")
        assert run(drives[:2], output, *options) == 0
    finally:
        over.set()
        thread.join()
    written = json.loads((output / "report.json").read_text())
    assert written["retries"] == 1 and not written["failures"] and written["images"] == 4 * FRAMES
    assert [worker["state"] for worker in written["workers"]] == ["lost", "ready"]
    assert len(read(output / "a")["/synseg/front/masks"]) == FRAMES
    assert not list(output.glob("*.partial"))
