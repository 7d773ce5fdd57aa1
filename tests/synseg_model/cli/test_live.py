"""`synseg live` as a process: it prints where the page is, serves it, and ends on Ctrl-C."""

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from synseg_model.cli.main import main
from tests.synseg_model.cli.running import one_line

pytest.importorskip("aiohttp", reason="needs the extra live")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def live():
    """Start the command; returns the process and what it printed up to the page's address, and that address."""
    processes = []

    def start(*arguments):
        command = [sys.executable, "-m", "synseg_model", "live", *map(str, arguments), "--no-browser"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        processes.append(process)
        said = ""
        for line in process.stdout:
            said += line
            if found := re.search(r"http://\S+", line):
                return process, said, found[0]
        raise AssertionError(f"no address: {said}")

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_page_is_served_until_a_signal_comes(live, photos, number):
    process, said, url = live(photos, "--engine", "null", "--labels", "car, tree")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url) and str(photos) in said
    with urllib.request.urlopen(url) as answer:
        assert "<title>SynSeg live</title>" in answer.read().decode()
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


def test_labels_that_are_refused_are_told_in_the_terminal_and_the_page_stays(live, photos):
    process, _, url = live(photos, "--engine", "null", "--labels", "car, ,tree")
    assert "label 2 is empty" in process.stdout.readline()
    with urllib.request.urlopen(url) as answer:
        assert answer.status == 200


def test_an_address_that_others_reach_is_warned_of(live, photos):
    process, _, url = live(photos, "--engine", "null", "--host", "0.0.0.0")
    assert url.startswith("http://127.0.0.1:")
    assert "everybody who reaches this machine" in process.stdout.readline()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["nowhere.mp4"], "cannot open 'nowhere.mp4'"),
        (["99"], "cannot open camera device 99"),
        (["--port", "70000"], "--port 70000"),
        (["--fps", "nan"], "--fps nan"),
        (["--labels", " , "], "no labels"),
        (["--thresholds", "high"], "threshold 'high'"),
    ],
)
def test_what_cannot_work_is_told_before_a_model_is_loaded(options, reason, capsys, engine):
    assert main(["live", *options]) == 2
    assert reason in one_line(capsys.readouterr().err)
