"""Training on photographs from packed files to a model folder, with a small network on the CPU."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from synseg_model.segmenter import Segmenter
from synseg_model.weights.model_folder import load_model
from tests.training import photo_models
from tests.training.photo_models import masked, named
from training.datasets.photos.packed import write_packed
from training.evaluation.final_weights import candidate_weights
from training.loop.checkpoint import CHECKPOINT_FILE
from training.loop.command_line import INTERRUPTED
from training.loop.log import LOG_FILE
from training.loop.trainer import BEST_FILE
from training.networks.photo_network import levels_of
from training.pretrain_photos import run

ABOUT = {"exhaustive": {"nyu": ["ball", "grass", "sky", "dog"], "voc": ["dog", "cat"], "flickr8k": []}}
TRAIN = [
    masked("nyu", "1", "ball", "grass"), masked("nyu", "2", "sky", "grass"), masked("voc", "1", "dog", ""),
    named("flickr8k", "1", ("dog", "lawn", "settee"), ("A dog on a lawn by a settee.",)),
    named("flickr8k", "2", ("cat",)),
]  # fmt: skip
HELD_OUT = [masked("nyu", "3", "sky", "ball"), masked("voc", "2", "", "dog")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Packed photographs and a text encoder."""
    folder = tmp_path_factory.mktemp("data")
    write_packed(folder / "photos/train", iter(TRAIN), ABOUT)
    write_packed(folder / "photos/held_out", iter(HELD_OUT), ABOUT)
    photo_models.text_folder(folder / "text")
    return folder


def arguments(data, output, *more):
    settings = {
        "photos": data / "photos", "text": data / "text", "backbone": photo_models.BACKBONE, "weights": "none",
        "width": 16, "ffn": 32, "heads": 2, "blocks": 1, "context_width": 16, "skips": "[8, 4]", "image_size": 64,
        "mixture.size": 64, "mixture.names": 6, "mixture.present": 3, "mixture.workers": 0,
        "trainer.output": output, "trainer.accelerator": "cpu", "trainer.batch": 4, "trainer.steps": 4,
        "trainer.log_every": 1, "trainer.validate_every": 2, "trainer.image_every": 3, "trainer.warmup": 1,
        "trainer.save_every": 100, "trainer.ema": 0.5, "checks": 2,
    }  # fmt: skip
    return [*(f"--{name}={value}" for name, value in settings.items()), *more]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The output of a run that nothing stopped."""
    output = tmp_path_factory.mktemp("run") / "whole"
    assert run(arguments(data, output)) == 0
    return output


def lines(output, key="total"):
    read = map(json.loads, (output / LOG_FILE).read_text().splitlines())
    return [(line["step"], line[key]) for line in read if key in line]


def test_a_run_ends_with_a_model_folder_that_segments(whole, tmp_path):
    network, _ = load_model(whole / "model")
    assert network.config.encoder.backbone == photo_models.BACKBONE
    assert network.config.training["photographs"]["mixture"]["names"] == 6
    segmenter = Segmenter.load(whole / "model", engine="torch", device="cpu", cache_dir=tmp_path)
    segmenter.set_vocabulary(["red ball", "grass"])
    result = segmenter.segment(np.zeros((48, 64, 3), np.uint8))
    assert result.activations.shape == (2, 48, 64) and np.isfinite(result.activations).all()


def test_a_run_says_what_it_reached_and_what_it_was_shown(whole):
    assert [step for step, _ in lines(whole)] == [0, 1, 2, 3]
    assert [step for step, _ in lines(whole, "validation/score")] == [1, 3]
    assert lines(whole, "activation/mean")
    results = json.loads((whole / "results.json").read_text())
    assert results.pop("weights") in ("last", "best", "mean")
    assert set(results) == {"nyu", "nyu present", "voc", "voc present"}
    written = json.loads((whole / "model" / "config.json").read_text())["results"]["held out"]
    assert {name: value["miou"] for name, value in written.items()} == {
        name: value["miou"] for name, value in results.items()
    }
    names = json.loads((whole / "model" / "names.json").read_text())["names"]
    assert names["dog"] == {"captions": 1, "masks": 1}
    assert names["cat"] == {"images": 1}
    assert names["grass"] == {"masks": 2}
    assert "settee" not in names, "a word that is held out is not shown"


def test_the_model_holds_the_weights_that_measured_best_and_the_text_encoder_as_it_was(whole, data):
    weights = load_file(whole / "model" / "weights.safetensors")
    best = load_file(whole / BEST_FILE)
    averaged = torch.load(whole / CHECKPOINT_FILE, weights_only=True)["averaged"]
    last = {name: averaged[f"module.{name}"] for name in best}
    chosen = json.loads((whole / "results.json").read_text())["weights"]
    share = {"last": 0.0, "mean": 0.5, "best": 1.0}[chosen]
    parts = {"image.": "encoder.image.", "decoder.": "decoder."}
    for name, tensor in last.items():
        part = next(part for part in parts if name.startswith(part))
        expected = tensor.lerp(best[name], share).half() if tensor.is_floating_point() else tensor
        assert torch.equal(weights[parts[part] + name.removeprefix(part)], expected), name
    for name, tensor in load_file(data / "text" / "text.safetensors").items():
        assert torch.equal(weights["encoder.text." + name], tensor), name


def test_weights_to_choose_among_are_the_last_the_best_and_their_mean_in_half_precision(tmp_path):
    module = torch.nn.Linear(2, 2)
    assert list(candidate_weights(module, tmp_path / "none")) == ["last"]
    best = {name: value + 1 for name, value in module.state_dict().items()}
    save_file(best, str(tmp_path / "best"))
    found = candidate_weights(module, tmp_path / "best")
    for name, value in module.state_dict().items():
        assert torch.equal(found["last"][name], value.half().float())
        assert torch.equal(found["best"][name], best[name].half().float())
        torch.testing.assert_close(found["mean"][name], value + 0.5, atol=1e-3, rtol=1e-3)


def test_backbone_and_decoder_train_and_batch_statistics_stay(data, whole):
    state = torch.load(whole / CHECKPOINT_FILE, weights_only=True)["weights"]
    assert run(arguments(data, whole.parent / "short", "--trainer.steps=1", "--trainer.learning_rate=0",
                         "--trainer.new_learning_rate=0")) == 0  # fmt: skip
    start = torch.load(whole.parent / "short" / CHECKPOINT_FILE, weights_only=True)["weights"]
    moved = {name for name in start if not torch.equal(start[name], state[name])}
    statistics = {name for name in start if "running" in name or "num_batches" in name}
    assert statistics and not moved & statistics
    assert any("encoder.image" in name for name in moved) and any("decoder" in name for name in moved)
    assert not any("encoder.text" in name for name in start), "what is frozen comes with the model"


def test_a_run_that_its_time_limit_stops_goes_on_to_the_very_weights_of_an_unbroken_one(data, whole, tmp_path, capsys):
    limited = arguments(data, tmp_path, "--trainer.max_minutes=1e-9")
    for step in range(1, 4):
        assert run([*limited, "--resume"]) == INTERRUPTED
        assert f"stopped after step {step}; go on with --resume" in capsys.readouterr().out
        assert not (tmp_path / "model").exists()
    assert run([*limited, "--resume"]) == 0
    one, other = (torch.load(folder / CHECKPOINT_FILE, weights_only=True) for folder in (whole, tmp_path))
    for part in ("weights", "averaged"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    assert one["best"] == other["best"]
    assert lines(tmp_path) == lines(whole)
    assert lines(tmp_path, "validation/score") == lines(whole, "validation/score")
    files = ("model/weights.safetensors", "model/names.json", "results.json")
    assert all((tmp_path / name).read_bytes() == (whole / name).read_bytes() for name in files)


def test_a_run_that_is_in_the_way_is_not_overwritten(data, whole, capsys):
    assert run(arguments(data, whole)) == 2
    assert "--resume" in capsys.readouterr().err


def test_start_takes_the_weights_of_a_model(data, whole, tmp_path):
    frozen = ["--trainer.steps=1", "--trainer.new_learning_rate=0", f"--start={whole / 'model'}"]
    assert run(arguments(data, tmp_path, *frozen)) == 0
    one, other = (load_file(folder / "model" / "weights.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_start_of_another_shape_is_refused(data, whole, tmp_path, capsys):
    assert run(arguments(data, tmp_path, f"--start={whole / 'model'}", "--width=32")) == 2
    assert "width=16" in (error := capsys.readouterr().err) and "width=32" in error


def test_captions_alone_train_and_so_does_a_run_with_nothing_held_out(data, tmp_path):
    shutil.copytree(data / "photos" / "train", tmp_path / "photos" / "train")
    write_packed(tmp_path / "photos" / "held_out", iter([]), ABOUT)
    words = [f"--photos={tmp_path / 'photos'}", '--mixture.weights={"flickr8k": 1.0}', "--trainer.patience=2"]
    assert run(arguments(data, tmp_path / "run", *words)) == 0
    assert not (tmp_path / "run" / BEST_FILE).exists()
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == {"weights": "last"}


def test_damaged_photographs_are_skipped_and_named_at_the_end(data, tmp_path, capsys):
    broken = masked("nyu", "broken", "ball", "grass")
    object.__setattr__(broken, "image", b"no image")
    write_packed(tmp_path / "photos" / "train", iter([*TRAIN, broken]), ABOUT)
    shutil.copytree(data / "photos" / "held_out", tmp_path / "photos" / "held_out")
    assert run(arguments(data, tmp_path / "run", f"--photos={tmp_path / 'photos'}")) == 0
    assert "skipped: nyu broken: the packed image or its index map is damaged (" in capsys.readouterr().out


def text_without_config(folder):
    (folder / "text" / "text.json").write_text("{}")


def text_weights_cut(folder):
    path = folder / "text" / "text.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def text_weights_of_another_tower(folder):
    save_file({"token_embedding.weight": torch.zeros(3, 3)}, folder / "text" / "text.safetensors")


def text_without_merges(folder):
    (folder / "text" / "merges.txt.gz").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (text_without_config, "text.json has no text_cfg"),
        (text_weights_cut, "holds no text encoder"),
        (text_weights_of_another_tower, "text.safetensors does not fit text.json"),
        (text_without_merges, "cannot read the tokenizer's merges"),
    ],
)
def test_a_text_encoder_that_is_damaged_is_one_clear_line(data, tmp_path, capsys, damage, reason):
    shutil.copytree(data / "text", tmp_path / "text")
    damage(tmp_path)
    assert run(arguments(data, tmp_path / "run", f"--text={tmp_path / 'text'}")) == 2
    assert reason in (error := capsys.readouterr().err).strip().splitlines()[-1]
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--photos=nowhere"], "python -m training.prepare_photos --output nowhere"),
        (["--text=nowhere"], "python -m training.pretrain_text --trainer.output nowhere"),
        (["--backbone=test_eficientnet"], "similar: test_efficientnet"),
        (["--backbone=test_vit"], "has levels of strides [16, 16, 16]: expected [4, 8, 16, 32]"),
        (["--weights=nowhere.pth"], "cannot read the weights nowhere.pth"),
        (["--heads=3"], "decoder width 16 is not a multiple of its 3 heads"),
        (['--mixture.weights={"coco": 1.0}'], "packed: nyu, voc, flickr8k"),
        (["--trainer.batch=3", "--trainer.accumulate=2"], "multiple of 2"),
        (["--terms.dice=-1"], "dice is -1"),
        (["--start=no-such-model"], "no-such-model"),
    ],
)
def test_what_is_missing_is_one_clear_line(data, tmp_path, capsys, words, reason):
    try:
        status = run(arguments(data, tmp_path / "run", *words))
    except SystemExit as stopped:  # jsonargparse ends the program itself for values that a setting refuses
        status = stopped.code
    assert status == 2
    error = capsys.readouterr().err
    assert reason in error and "Traceback" not in error


def test_print_config_is_a_file_that_sets_the_same(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(["--trainer.steps=7", '--mixture.weights={"nyu": 1.0}', "--terms.mccl=0.1", "--print-config"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SystemExit):
        run(["--config", str(tmp_path / "config.yaml"), "--print-config"])
    assert capsys.readouterr().out == text and "flickr8k" not in text


def test_the_shipped_models_settings_are_settings(capsys):
    with pytest.raises(SystemExit) as stopped:
        run(["--config", "training/configs/synseg_everyday.yaml", "--print-config"])
    assert stopped.value.code == 0
    assert "name: synseg-everyday" in capsys.readouterr().out


def test_levels_are_those_of_the_strides_that_the_decoder_reads():
    assert levels_of("test_efficientnet") == (1, 2, 3, 4)
    assert levels_of("test_convnext") == (0, 1, 2, 3)
