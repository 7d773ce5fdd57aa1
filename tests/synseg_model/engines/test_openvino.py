import logging
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("openvino", reason="needs OpenVINO: the extra openvino")

import openvino

from synseg_model.engines.load import load_engine
from synseg_model.engines.openvino import choose_precision
from synseg_model.export.parity import draw_image
from training.scenes.scenes import NOUNS, STUFF, make_scene


@pytest.fixture
def engine(exported_small):
    return load_engine(exported_small, "openvino", "cpu")


@pytest.fixture
def frames():
    return [draw_image(seed, *size) for seed, size in enumerate([(131, 77), (48, 64), (131, 77), (21, 300)])]


@pytest.mark.parametrize("labels", [1, 7])
def test_activations_and_text_are_torchs(engine, small_model, frames, labels):
    prompts = [f"a thing of kind {i}" for i in range(labels)]
    reference = load_engine(small_model, "torch", "cpu")
    text = reference.encode_text(prompts)
    np.testing.assert_allclose(engine.encode_text(prompts), text, atol=1e-5)
    for ours, theirs in zip(engine.activations(frames, text), reference.activations(frames, text), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_threads_that_call_at_once_get_what_each_asked_for(engine, frames):
    text = engine.encode_text(["ball", "grass"])
    alone = [engine.activations([frame], text)[0] for frame in frames]
    found = [[] for _ in frames]

    def segment(index):
        for _ in range(5):
            found[index].append(engine.activations([frames[index]], text)[0])

    threads = [threading.Thread(target=segment, args=(index,)) for index in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, maps in zip(alone, found, strict=True):
        assert len(maps) == 5
        for each in maps:
            np.testing.assert_allclose(each, expected, atol=1e-6)


def test_signals_do_no_harm_when_engines_have_come_and_gone(exported_small):
    code = f"""
import faulthandler, os, signal
from synseg_model.engines.load import load_engine
faulthandler.enable()  # as pytest does, on an alternate signal stack
engines = [load_engine({str(exported_small)!r}, "openvino") for _ in range(2)]
engines.pop(0)
engines.pop()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_results_stay_what_they_were_when_the_next_frame_comes(engine, frames):
    text = engine.encode_text(["ball"])
    (first,) = engine.activations(frames[:1], text)
    kept = first.copy()
    engine.activations(frames[2:3], text)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.slow
@pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="this CPU has no bf16"
)
def test_masks_of_synseg_tiny_are_in_bf16_what_they_are_in_fp32(exported_tiny):
    full, half = (load_engine(exported_tiny / "fp32", "openvino", precision=name) for name in ("fp32", "bf16"))
    scenes = [make_scene(seed, (240, 320)).image for seed in range(4)]
    text = full.encode_text([f"a {noun}" for noun in (*NOUNS, *STUFF)])
    masks = [np.stack(engine.activations(scenes, text)) >= full.config.threshold for engine in (full, half)]
    assert (masks[0] & masks[1]).sum() > 0.99 * (masks[0] | masks[1]).sum() > 1e5
    assert not np.array_equal(*masks)  # another arithmetic


def test_auto_takes_it_on_a_cpu_and_says_why(exported_small, caplog):
    caplog.set_level(logging.INFO, "synseg_model")
    assert load_engine(exported_small, "auto", "cpu").name == "openvino"
    assert "engine openvino, because" in caplog.text and "for tensorrt, the device is cpu" in caplog.text


def test_another_device_than_a_cpu_is_refused(exported_small):
    with pytest.raises(ValueError, match="device 'cuda': the openvino engine runs on the CPU"):
        load_engine(exported_small, "openvino", "cuda")


def test_precisions_are_those_of_the_engine_and_the_cpu():
    assert choose_precision("auto", ["FP32", "BF16"]) == choose_precision("fp32", ["FP32"]) == "f32"
    assert choose_precision("bf16", ["FP32", "BF16"]) == "bf16"
    with pytest.raises(ValueError, match="this CPU has neither AVX512-BF16 nor AMX"):
        choose_precision("bf16", ["FP32"])
    with pytest.raises(ValueError, match="precision 'fp16': the openvino engine has auto, fp32, bf16"):
        choose_precision("fp16", ["FP32", "BF16"])
