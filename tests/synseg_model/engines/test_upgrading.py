"""While a better engine is built beside, frames are segmented; it is taken when it works, and only then."""

import os
import re
import sys
import threading

import numpy as np
import pytest

from synseg_model import Segmenter
from synseg_model.engines.null import NullEngine
from synseg_model.engines.onnxruntime import OnnxEngine
from synseg_model.engines.tensorrt.build import Plans, Profile
from synseg_model.engines.tensorrt.cache import EngineCache
from synseg_model.engines.tensorrt.flavour import load_flavour
from synseg_model.engines.upgrading import UpgradingEngine
from synseg_model.export.parity import draw_image
from synseg_model.weights.exported_folder import DECODER, IMAGE_ENCODER

PATIENCE = 180.0  # seconds; only ever used up by a failure
AT_ONCE = [sys.executable, "-c", ""]


class BetterEngine(OnnxEngine):
    """A second engine of the same model, told apart by its name."""

    name = "better"


class BrokenEngine(BetterEngine):
    def activations(self, frames, text):
        raise RuntimeError("out of memory")


@pytest.fixture
def upgrade(exported_small):
    """Make an engine that begins with onnxruntime; it is stopped after the test."""
    engines = []

    def make(command, load=lambda: BetterEngine(exported_small, "cpu")):
        engines.append(UpgradingEngine(OnnxEngine(exported_small, "cpu"), "better", command, load))
        return engines[-1]

    yield make
    for engine in engines:
        engine.stop()


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def python(code, *arguments):
    return [sys.executable, "-c", f"import os, sys, time\n{code}", *map(str, arguments)]


def wait_for(engine):
    engine._thread.join(PATIENCE)
    assert not engine.upgrading


def test_frames_run_on_the_first_engine_until_the_better_one_is_ready(upgrade, pipe):
    engine = upgrade(python("open(sys.argv[1]).read()", pipe))
    segmenter = Segmenter(engine)
    vocabulary = segmenter.set_vocabulary(["ball", "grass"])
    image = draw_image(0, 70, 90)
    assert engine.progress == ""
    engine.start()
    before = segmenter.segment(image)
    assert engine.name == "onnxruntime" and engine.upgrading
    assert re.fullmatch(r"building the better engine, \d+ s; running on onnxruntime meanwhile", engine.progress)
    pipe.write_text("")
    wait_for(engine)
    assert (engine.name, engine.device, engine.progress, engine.failure) == ("better", "cpu", "", "")
    after = segmenter.segment(image)
    assert segmenter.vocabulary is vocabulary
    np.testing.assert_array_equal(after.activations, before.activations)
    np.testing.assert_array_equal(segmenter.prepare_vocabulary(["ball", "grass"]).embeddings, vocabulary.embeddings)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (python("sys.exit('first line\\nno room for the engine')"), "no room for the engine"),
        (python("sys.exit(3)"), "its build ended with status 3"),
        (python("os.kill(os.getpid(), 9)"), "its build was ended by SIGKILL"),
        (["/no/such/program"], "/no/such/program"),
    ],
)
def test_a_build_that_fails_is_told_and_the_first_engine_stays(upgrade, command, reason, caplog):
    engine = upgrade(command)
    engine.start()
    wait_for(engine)
    assert engine.name == "onnxruntime" and reason in engine.failure and "first line" not in engine.failure
    assert engine.progress == f"no better engine ({engine.failure}): running on onnxruntime"
    assert reason in caplog.text
    assert engine.activations([draw_image(0, 64, 64)], engine.encode_text(["ball"]))[0].shape[0] == 1


def test_an_engine_that_cannot_be_loaded_or_is_of_another_model_is_not_taken(upgrade):
    def fail():
        raise ValueError("no such GPU")

    for load, reason in ((fail, "no such GPU"), (NullEngine, "another model")):
        engine = upgrade(AT_ONCE, load)
        engine.start()
        wait_for(engine)
        assert engine.name == "onnxruntime" and reason in engine.failure


def test_an_engine_that_fails_at_the_last_frame_is_not_taken(upgrade, pipe, exported_small):
    engine = upgrade(python("open(sys.argv[1]).read()", pipe), lambda: BrokenEngine(exported_small, "cpu"))
    engine.start()
    frame, text = draw_image(0, 64, 64), engine.encode_text(["ball"])
    engine.activations([frame], text)
    pipe.write_text("")
    wait_for(engine)
    assert engine.name == "onnxruntime" and engine.failure == "out of memory"
    assert len(engine.activations([frame], text)) == 1


def test_stopping_ends_the_process_at_once(upgrade, pipe):
    engine = upgrade(python("open(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(3600)", pipe))
    engine.start()
    pid = int(pipe.read_text())
    assert engine.stop(PATIENCE)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (engine.name, engine.progress) == ("onnxruntime", "")


def test_an_engine_that_is_loaded_too_late_is_not_taken(upgrade, exported_small):
    loading, go_on = threading.Event(), threading.Event()

    def load():
        loading.set()
        assert go_on.wait(PATIENCE)
        return BetterEngine(exported_small, "cpu")

    engine = upgrade(AT_ONCE, load)
    engine.start()
    assert loading.wait(PATIENCE)
    assert engine.progress.startswith("loading the better engine")
    assert not engine.stop(timeout=0.01)
    go_on.set()
    wait_for(engine)
    assert (engine.name, engine.failure) == ("onnxruntime", "")


def test_stopping_before_the_start_or_twice_does_no_harm(upgrade):
    engine = upgrade(AT_ONCE)
    assert engine.stop() and engine.stop()


def test_the_command_builds_what_the_cache_lacked(upgrade, exported_small):
    pytest.importorskip("tensorrt_rtx", reason="comes for x86-64 Linux only")
    plans = Plans(exported_small, load_flavour(), "", Profile(), EngineCache())
    assert plans.find(IMAGE_ENCODER) is plans.find(DECODER) is None

    def load():
        assert plans.find(IMAGE_ENCODER) and plans.find(DECODER)
        return BetterEngine(exported_small, "cpu")

    engine = upgrade([sys.executable, "-m", "synseg_model", "build-engine", str(exported_small)], load)
    engine.start()
    wait_for(engine)
    assert (engine.name, engine.failure) == ("better", "")
