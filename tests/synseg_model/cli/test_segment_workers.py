"""`synseg segment` with several workers: the same results as with one, also where a worker is killed."""

import contextlib
import json
import os
import signal
import threading

import numpy as np
import pytest

from synseg_model.cli.workers import report as reports
from tests.synseg_model.cli.running import all_files, one_line, save, segment, summary

ENGINE = ("--engine", "null", "--device", "cpu")


@pytest.fixture
def many(tmp_path, gradient_image):
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(24):
        save(folder / f"{index}.png", np.roll(gradient_image, 5 * index, axis=1))
    return folder


def results(output):
    """Return the entries of the summary without times, and the bytes of all images."""
    entries = [{**entry, "inference_ms": 0} for entry in summary(output)["images"]]
    return entries, {name: (output / name).read_bytes() for name in all_files(output) if name.endswith(".png")}


def report(output):
    return json.loads((output / "report.json").read_text())


@contextlib.contextmanager
def killing_a_worker(output):
    """Kill the first worker that has done images; it is busy with the next ones."""
    over = threading.Event()

    def kill():
        while not over.wait(0.02):
            for worker in report(output)["workers"] if (output / "report.json").exists() else ():
                if worker["images"]:
                    os.kill(worker["pid"], signal.SIGKILL)
                    return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_processes_write_what_one_process_writes_and_continue_it(many, clip, tmp_path, capsys):
    (many / "broken.png").write_bytes(b"no image")
    assert segment(many, tmp_path / "one", *ENGINE) == 1
    assert segment(many, tmp_path / "two", *ENGINE, "--runner", "processes", "--workers", "2") == 1
    assert results(tmp_path / "one") == results(tmp_path / "two")
    assert summary(tmp_path / "one")["settings"] == summary(tmp_path / "two")["settings"]
    written = report(tmp_path / "two")
    assert written["complete"] and written["images"] == 24 and written["images_per_second"] > 0
    assert [failure["name"] for failure in written["failures"]] == ["broken"]
    capsys.readouterr()
    assert segment(many, tmp_path / "one", *ENGINE, "--runner", "processes", "--workers", "1") == 1
    assert "0 images segmented, 24 already there" in capsys.readouterr().out
    assert segment(clip, tmp_path / "clips", *ENGINE, "--runner", "processes", "--workers", "1") == 0
    assert len(summary(tmp_path / "clips" / "clip")["images"]) == 4


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_writes_what_one_process_writes(ray_cluster, many, tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "_SECONDS_BETWEEN_SAVES", 0.0)
    assert segment(many, tmp_path / "one", *ENGINE) == 0
    output = tmp_path / "two"
    slow = ("--engine", "null:500", "--device", "cpu")  # so that images are left when the worker is killed
    with killing_a_worker(output):
        assert segment(many, output, *slow, "--runner", "ray", "--ray-address", ray_cluster.address) == 0
    assert results(tmp_path / "one") == results(output)
    written = report(output)
    assert written["images"] == 24 and written["retries"] >= 1 and not written["failures"]
    assert [worker["state"] for worker in written["workers"]].count("lost") == 1
    assert sum(worker["images"] > 0 for worker in written["workers"]) >= 2


def test_options_that_do_not_fit_are_refused(many, tmp_path, capsys):
    for options, reason in (
        (("--workers", "2"), "--runner processes"),
        (("--runner", "processes", "--workers", "-1"), "--workers -1"),
        (("--runner", "processes", "--ray-address", "auto"), "needs --runner ray"),
        (("--runner", "processes", "--device", "cuda:1"), "--device cuda:1"),
    ):
        assert segment(many, tmp_path / "out", *options) == 2
        assert reason in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_does_not_answer_is_named(many, tmp_path, capsys):
    pytest.importorskip("ray")
    assert segment(many, tmp_path / "out", "--runner", "ray", "--ray-address", "127.0.0.1:1") == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in one_line(capsys.readouterr().err)
