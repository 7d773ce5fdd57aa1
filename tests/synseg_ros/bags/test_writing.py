"""A new recording appears under its name when it is complete, and not before."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from synseg_ros.bags.message_types import IMAGE
from synseg_ros.bags.reading import Recording
from synseg_ros.bags.writing import STORAGES
from synseg_ros.interfaces.image_encodings import image_fields
from tests.synseg_ros.bags.recordings import FRONT, LABELS, START, header, message, read, record, refused, run


def test_the_bag_says_what_made_it(tmp_path):
    run(record(tmp_path / "in"), tmp_path / "out")
    text = (tmp_path / "out" / "metadata.yaml").read_text()
    assert "color" in text and "00ff" in text and str(tmp_path / "in") in text


def test_a_bag_is_replaced_only_when_asked_and_nothing_but_a_bag(tmp_path, capsys):
    source = record(tmp_path / "in")
    assert run(source, tmp_path / "out", "--write", "info") == 0
    capsys.readouterr()
    assert "choose another output or --overwrite" in refused(capsys, source, tmp_path / "out")
    assert run(source, tmp_path / "out", "--write", "masks", "--overwrite") == 0
    assert "/synseg/front/masks" in read(tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "child.jpg").write_bytes(b"irreplaceable")
    capsys.readouterr()
    assert "is not a bag" in refused(capsys, source, photos, "--overwrite")
    assert (photos / "child.jpg").exists()


def test_names_that_the_bag_could_not_carry_are_refused(tmp_path, capsys):
    source = record(tmp_path / "in")
    assert "not a valid name for a bag" in refused(capsys, source, tmp_path / "caf\udce9")
    assert "cannot write a database at a path" in refused(capsys, source, tmp_path / "100%", "--storage", "sqlite3")
    assert run(source, tmp_path / "100%", "--write", "info") == 0


def test_the_rest_of_another_kind_is_not_removed(tmp_path, capsys):
    source = record(tmp_path / "in")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.tex").write_text("irreplaceable")
    assert "is not a bag" in refused(capsys, source, tmp_path / "out", "--overwrite")


def interrupting(engine, monkeypatch, after, error):
    calls = []
    inner = engine.activations

    def activations(*arguments):
        calls.append(1)
        if len(calls) > after:
            raise error
        return inner(*arguments)

    monkeypatch.setattr(engine, "activations", activations)


@pytest.mark.parametrize("storage", STORAGES)
def test_ctrl_c_leaves_a_closed_bag_beside_the_output(engine, tmp_path, monkeypatch, capsys, storage):
    source = record(tmp_path / "in")
    interrupting(engine, monkeypatch, 5, KeyboardInterrupt())
    assert run(source, tmp_path / "out", "--storage", storage) == 130
    assert not (tmp_path / "out").exists()
    found = read(tmp_path / "out.partial" / "out")
    assert (len(found["/synseg/front/masks"]), len(found["/synseg/rear/masks"])) == (3, 2)
    assert "out.partial" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: engine)
    assert "rest of an interrupted run" in refused(capsys, source, tmp_path / "out")
    assert run(source, tmp_path / "out", "--overwrite") == 0
    assert not (tmp_path / "out.partial").exists()


def test_what_goes_wrong_on_the_way_leaves_nothing_that_looks_finished(engine, tmp_path, monkeypatch, capsys):
    interrupting(engine, monkeypatch, 5, RuntimeError("out of memory"))
    assert run(record(tmp_path / "in"), tmp_path / "out") == 2
    assert "out of memory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").rglob("metadata.yaml"))


KILLED = """
import os, signal, sys
from synseg_model import segmenter
from synseg_model.cli import main as cli
from synseg_ros.bags import writing
from tests.conftest import ColorEngine
class Mortal(ColorEngine):
    left = 5
    def activations(self, *arguments):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().activations(*arguments)
segmenter.load_engine = lambda *_: Mortal()
write = writing.NewBag.write
def and_close_the_chunk(bag, messages, timestamp):
    write(bag, messages, timestamp)
    if bag._storage == "mcap":
        bag._writer.storage.close_chunk()
        bag._writer.storage.bio.flush()
writing.NewBag.write = and_close_the_chunk
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("storage", STORAGES)
def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path, storage):
    source = record(tmp_path / "in")
    arguments = ["bag", str(source), "--labels", LABELS, "--output", str(tmp_path / "out"), "--storage", storage]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").rglob("metadata.yaml"))
    if storage == "mcap":
        with Recording(tmp_path / "out.partial" / "out") as rest:
            assert [c.topic for c, _, _ in rest.messages({"/synseg/front/masks"})] == ["/synseg/front/masks"] * 3


@pytest.mark.parametrize("storage", STORAGES)
def test_a_full_disk_is_told_and_leaves_nothing_that_looks_finished(tmp_path, storage, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    frames = [
        (FRONT, IMAGE, START + i, message(IMAGE, header=header(START + i, "front"), **image_fields(noise, "rgb8")))
        for i in range(20)
    ]
    source = record(tmp_path / "in", messages=frames)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        status = run(source, tmp_path / "out", "--storage", storage)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert f"cannot write {tmp_path / 'out.partial' / 'out'}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").rglob("metadata.yaml"))
