"""What a threshold means, measured on held-out photographs."""

import json

import numpy as np
import pytest

from tests.training import photo_models
from tests.training.photo_models import masked
from training.calibrate import THRESHOLDS, measure, rates, run
from training.datasets.photos.packed import write_packed

NAMES = ["ball", "grass", "sky"]
PHOTOS = [masked("voc", "1", "ball", "grass"), masked("voc", "2", "sky", "")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return photo_models.model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_packed(folder / "held_out", iter(PHOTOS), {"exhaustive": {"voc": NAMES}})
    return folder


def test_counts_are_those_of_pixels_and_absent_names(model):
    counts = measure(model[1], PHOTOS, NAMES, background=True)
    assert counts["absent"].tolist() == [3] * len(THRESHOLDS)
    assert counts["true"].tolist() == [72 * 96 * 1.5] * len(THRESHOLDS)
    for key in ("shown", "said", "right"):
        assert (np.diff(counts[key]) <= 0).all(), "a higher threshold shows less"
    assert (counts["right"] <= counts["said"]).all() and (counts["right"] <= counts["true"]).all()


def test_rates_are_shares_and_nothing_divides_by_zero():
    counts = {"shown": [3, 0], "absent": [4, 0], "right": [2, 0], "said": [8, 0], "true": [4, 0]}
    found = rates({key: np.array(value, float) for key, value in counts.items()})
    assert found == {"absent_shown": [0.75, 0.0], "precision": [0.25, 0.0], "recall": [0.5, 0.0]}


def test_the_lowest_threshold_that_keeps_absent_names_silent_is_written(model, photos, tmp_path, capsys):
    words = [f"--model={model[0]}", f"--photos={photos}", f"--output={tmp_path}"]
    assert run(words) == 0
    results = json.loads((tmp_path / "thresholds.json").read_text())
    assert set(results) == {"voc", "all", "threshold"} and results["voc"] == results["all"]
    shown = dict(zip(THRESHOLDS.tolist(), results["all"]["absent_shown"], strict=True))
    silent = [threshold for threshold, share in shown.items() if share < 0.1]
    assert results["threshold"] == (min(silent) if silent else None)
    assert (tmp_path / "thresholds.png").read_bytes()[:4] == b"\x89PNG"
    assert "absent shown" in capsys.readouterr().out


def test_sets_of_which_nothing_is_held_out_are_one_clear_line(model, photos, tmp_path, capsys):
    words = [f"--model={model[0]}", f"--photos={photos}", f"--output={tmp_path}", '--sets=["nyu", "coco"]']
    assert run(words) == 2
    assert "sets nyu, coco: no photograph of them is held out; there are voc" in capsys.readouterr().err
