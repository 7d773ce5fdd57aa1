"""Comparing what captions teach: the commands of the runs, and the table."""

import json

import pytest
import yaml

from training.ablate_photos import ARMS, AblatePhotosConfig, ablate, command, run, table
from training.pretrain_photos import run as pretrain


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_run_with_its_own_terms_and_hidden_names(arm, tmp_path, capsys):
    words = command(AblatePhotosConfig(hidden=("dog", "potted plant"), steps=7), arm, 3, tmp_path)
    assert words[1:3] == ["-m", "training.pretrain_photos"]
    with pytest.raises(SystemExit) as stopped:
        pretrain([*words[3:], "--print-config"])
    assert stopped.value.code == 0
    said = yaml.safe_load(capsys.readouterr().out)
    assert said["mixture"]["hidden"] == ["dog", "potted plant"] and said["resume"] is True
    assert (said["trainer"]["steps"], said["trainer"]["seed"]) == (7, 3)
    assert {name: said["terms"][name] for name in ARMS[arm]} == ARMS[arm]


def results(dog, other, rooms):
    voc, present = {"dog": dog, "car": other}, {"dog": dog + 1}
    return {"voc": {"iou": voc}, "voc present": {"iou": present}, "nyu": {"miou": rooms}}


def test_the_table_has_means_and_deviations_over_seeds():
    config = AblatePhotosConfig(hidden=("dog",), seeds=2)
    found = {(arm, seed): results(10.0 + 2 * seed, 50.0, 40.0 - seed) for arm in ARMS for seed in range(2)}
    lines = table(config, found).splitlines()
    assert lines[0] == "| terms | dog, all | dog, present | other VOC | NYU40 |"
    assert lines[2] == "| masks only | 11.0 ± 1.4 | 12.0 ± 1.4 | 50.0 ± 0.0 | 39.5 ± 0.7 |"
    assert len(lines) == 2 + len(ARMS)


def test_runs_that_are_finished_are_not_repeated(tmp_path):
    config = AblatePhotosConfig(photos="nowhere", output=str(tmp_path), hidden=("dog",), seeds=1)
    for number in range(len(ARMS)):
        (tmp_path / f"{number}-0").mkdir()
        (tmp_path / f"{number}-0" / "results.json").write_text(json.dumps(results(10.0 + number, 50.0, 40.0)))
    text = ablate(config)
    assert (tmp_path / "table.md").read_text() == text
    assert "| masks only | 10.0 ± 0.0" in text and "| + captions | 11.0 ± 0.0" in text
    assert set(json.loads((tmp_path / "results.json").read_text())) == {f"{arm}, seed 0" for arm in ARMS}


def test_a_run_that_fails_is_named_with_its_log(tmp_path, capsys):
    assert run([f"--output={tmp_path}", "--text=nowhere", "--seeds=1"]) == 2
    error = capsys.readouterr().err
    assert f"the run 'masks only', seed 0 failed: see {tmp_path}/0-0/log.txt" in error
    assert "nowhere holds no text encoder" in (tmp_path / "0-0" / "log.txt").read_text()
