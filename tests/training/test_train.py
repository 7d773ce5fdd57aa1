"""The program as its users start it: real processes, real scenes, real captions."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from synseg_model.config import ModelConfig
from synseg_model.segmenter import Segmenter
from synseg_model.weights.find import find_folder
from synseg_model.weights.model_folder import load_model
from training.datasets.augmentation import BatchConfig
from training.datasets.sources import DataConfig
from training.objective.objective import ObjectiveConfig
from training.train import MASK_DECODER, TrainConfig, run, shown_labels, write_model

SMALL = [
    "--data.scenes=40",
    "--data.scene_size=[64,64]",
    "--trainer.batch=4",
    "--trainer.log_every=1",
    "--trainer.save_every=3",
    "--trainer.accelerator=cpu",
    "--evaluate=0",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def arguments(cache, output, *more):
    return [*SMALL, f"--data.cache={cache}", f"--trainer.output={output}", *more]


def start(*words):
    return subprocess.Popen([sys.executable, "-m", "training.train", *words], stderr=subprocess.PIPE, text=True)


def losses(output):
    return [json.loads(line)["total"] for line in (output / "log.jsonl").read_text().splitlines()]


def test_training_ends_with_a_model_that_segments_and_its_numbers_before_and_after(cache, tmp_path, capsys):
    assert run(arguments(cache, tmp_path, "--trainer.steps=2", "--evaluate=1")) == 0
    segmenter = Segmenter.load(str(tmp_path / "model"))
    segmenter.set_vocabulary(["ball", "grass"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"before", "after"} and "novel" in results["after"]
    assert "before" in capsys.readouterr().out
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["training"]["captions"]["trainer"]["steps"] == 2


def test_a_killed_run_that_goes_on_ends_with_the_same_weights(cache, tmp_path):
    assert run(arguments(cache, tmp_path / "whole", "--trainer.steps=9")) == 0
    process = start(*arguments(cache, tmp_path / "killed", "--trainer.steps=9"))
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "last.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "model").exists(), "the run ended before it was killed"
    assert run(arguments(cache, tmp_path / "killed", "--trainer.steps=9", "--resume")) == 0
    one, other = (load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


def test_two_processes_give_the_losses_of_one(cache, tmp_path):
    common = ["--trainer.steps=3", "--batches.absent=0"]
    assert run(arguments(cache, tmp_path / "one", *common)) == 0
    two = start(*arguments(cache, tmp_path / "two", *common, "--trainer.devices=2"))
    assert two.wait() == 0, two.stderr.read()
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def test_a_random_decoder_starts_from_the_seed(cache, tmp_path):
    for name in ("one", "other"):
        assert run(arguments(cache, tmp_path / name, "--decoder=random", "--trainer.steps=1")) == 0
    assert losses(tmp_path / "one") == losses(tmp_path / "other")


def test_masks_of_captions_train_and_a_share_of_the_start_is_kept(cache, tmp_path):
    words = ["--objective.masks=1", "--data.scenes=8", "--data.rehearsal=0.5", "--batches.window=96"]
    words += ["--trainer.steps=2", "--trainer.learning_rate=1e-2"]
    words += [f"--objective.{name}=0" for name in ("align", "cont", "back", "sep")]
    for keep in (0, 0.5):
        name = f"--trainer.output={tmp_path / str(keep)}"
        assert run([*arguments(cache, tmp_path, *words), name, f"--keep={keep}"]) == 0
    assert losses(tmp_path / "0") == losses(tmp_path / "0.5")
    start = load_file(find_folder("synseg-tiny") / "weights.safetensors")
    whole, half = (load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("0", "0.5"))
    moved = [key for key in start if not torch.equal(whole[key], start[key])]
    assert moved and all(key.startswith("decoder.") for key in moved)
    for key in moved:
        middle = start[key].float().lerp(whole[key].float(), 0.5)
        torch.testing.assert_close(half[key].float(), middle, rtol=2e-3, atol=2e-4)
    assert len(list(cache.glob("masks-*/*.tar"))) == 1, "the second run made the masks again"


@pytest.mark.parametrize(
    ("before", "source", "after"),
    [
        ("photographs", "scenes", "generated scenes"),
        ("generated scenes", "coco", ""),
        ("photographs", "webdataset", "photographs"),
        ("generated scenes", "photos", "photographs"),
    ],
)
def test_a_model_is_for_the_images_that_it_was_trained_on(tmp_path, small_model, before, source, after):
    network, _ = load_model(small_model)
    network.config = dataclasses.replace(network.config, domain=before)
    folder = write_model(tmp_path / "model", network, network.decoder, TrainConfig(data=DataConfig(source=source)))
    assert ModelConfig.read(folder).domain == after


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--data.source=coco", "--data.images=nowhere", "--data.captions=nowhere.json"], "training.prepare"),
        (["--data.source=webdataset", "--data.shards=nowhere/{0..3}.tar"], "nowhere"),
        (["--model=no-such-model"], "no-such-model"),
        (["--data.rehearsal=0.5"], "only objective.masks"),
        (["--decoder=masks", "--model={folder}"], "has no mask_decoder.safetensors"),
        (["--trainer.batch=4000", "--trainer.steps=1"], "fewer than a batch of 4000"),
    ],
)
def test_what_is_missing_is_one_clear_line(cache, tmp_path, capsys, words, reason):
    folder = shutil.copytree(find_folder("synseg-tiny"), tmp_path / "model", ignore=lambda *_: [MASK_DECODER])
    words = [word.format(folder=folder) if "{folder}" in word else word for word in words]
    assert run([*arguments(cache, tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err
    assert reason in error.splitlines()[-1]
    assert "Traceback" not in error


def test_print_config_is_a_file_that_sets_the_same(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(["--trainer.steps=7", "--objective.clamp=straight-through", "--print-config"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SystemExit):
        run(["--config", str(tmp_path / "config.yaml"), "--print-config"])
    assert capsys.readouterr().out == text


def test_the_papers_run_is_paper_mode(capsys):
    with pytest.raises(SystemExit):
        run(["--config", "training/configs/cc12m_vitb16.yaml", "--print-config"])
    shown = capsys.readouterr().out
    for line in ("model: clipseg-rd64-refined", "pairs: all", "clamp: hard", "features: conditioned", "absent: 0",
                 "presence: 0.0", "anchor: 0.0", "teacher: 0.0"):  # fmt: skip
        assert line in shown


def test_defaults_need_no_arguments_and_render_no_scene_that_no_step_sees():
    config = TrainConfig()
    assert config.data.source == "scenes"
    assert config.trainer.steps * config.trainer.batch == config.data.scenes


def test_absent_labels_are_decoded_where_a_term_looks_at_them_alone():
    paper = TrainConfig(batches=BatchConfig(absent=3))
    assert shown_labels(paper).absent == 0
    assert shown_labels(dataclasses.replace(paper, objective=ObjectiveConfig(presence=1.0))).absent == 3
