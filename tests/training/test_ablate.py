"""The comparison as its users start it, in small: two seeds, a few rows, real training runs."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from synseg_model.config import CONFIG_FILE, ModelConfig
from synseg_model.weights.find import find_folder
from training.ablate import AblateConfig, run
from training.ablation.cost import in_turn
from training.ablation.report import difference, plot, tables
from training.ablation.rows import OBJECTIVES, START, chosen_rows

SMALL = [
    "--scenes=2",
    "--rounds=1",
    "--seeds=[0,1]",
    "--train.data.scenes=12",
    "--train.data.scene_size=[64,64]",
    "--train.trainer.steps=2",
    "--train.trainer.batch=4",
]
NPR = "+ NPR"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("ablate"), tmp_path_factory.mktemp("models") / "coarse"
    shutil.copytree(find_folder("synseg-tiny"), model)
    config = ModelConfig.read(model)
    coarse = dataclasses.replace(config, image=dataclasses.replace(config.image, size=64))  # a ninth of the work
    (model / CONFIG_FILE).write_text(coarse.to_json())
    words = [*SMALL, f"--output={folder}", f"--train.data.cache={folder / 'cache'}", f"--train.model={model}"]
    assert run([*words, "--parts=npr,sgc"]) == 0
    return folder, words


@pytest.mark.slow
def test_parts_are_measured_with_and_without_on_every_seed_with_their_cost_and_images(parts):
    folder, _ = parts
    found = json.loads((folder / "parts.json").read_text())
    names = [row.name for row in chosen_rows((), "npr,sgc")]
    assert list(found["results"]) == names and all(set(runs) == {"0", "1"} for runs in found["results"].values())
    assert {name for name, cost in found["cost"].items() if "frame" in cost} == {n for n in names if n[:3] == "(i)"}
    assert all(value > 0 for cost in found["cost"].values() for value in cost.values())
    table = (folder / "parts.md").read_text()
    assert all(f"| {name} |" in table for name in names)
    assert (folder / "parts.png").stat().st_size > 1000 and (folder / "parts.jpg").stat().st_size > 1000


@pytest.mark.slow
def test_the_same_command_again_runs_nothing_and_says_the_same(parts, monkeypatch):
    folder, words = parts
    before = (folder / "parts.md").read_text()

    def never(*_):
        raise AssertionError("a finished row ran again")

    monkeypatch.setattr("training.ablate.train", never)
    monkeypatch.setattr("training.ablate.measure_scenes", never)
    assert run([*words, "--parts=npr,sgc"]) == 0
    assert (folder / "parts.md").read_text() == before


@pytest.mark.slow
def test_rows_of_other_settings_are_not_mixed(parts, capsys):
    _, words = parts
    assert run([*words, "--parts=npr", "--train.trainer.steps=3"]) == 2
    assert "other settings (trainer)" in capsys.readouterr().err


def test_default_rows_are_all_objectives_and_words_choose_among_them():
    assert [row.name for row in chosen_rows((), "")] == [row.name for row in OBJECTIVES]
    assert [row.name for row in chosen_rows(("without",), "")][1:] == [
        f"without {term}" for term in ("align", "cont", "back", "sep")
    ]


@pytest.mark.parametrize(("variants", "parts"), [(("no such row",), ""), ((), "npr,xyz"), (("teacher",), "npr")])
def test_names_that_fit_nothing_are_named(variants, parts):
    with pytest.raises(ValueError, match=r"no such row|xyz|npr, cmpa, sgc"):
        chosen_rows(variants, parts)


def test_differences_are_paired_by_seed():
    start = {0: {"base": 10.0}, 1: {"base": 50.0}, 2: {"base": 30.0}}
    trained = {0: {"base": 12.0}, 1: {"base": 53.0}, 3: {"base": 0.0}}
    mean, deviation = difference(trained, start, "base")
    assert mean == pytest.approx(2.5)
    assert deviation == pytest.approx(np.std([2.0, 3.0], ddof=1))
    assert difference(trained, {7: {"base": 1.0}}, "base") is None


def test_calls_take_turns(monkeypatch):
    made = []
    times = in_turn({"one": lambda: made.append(1), "other": lambda: made.append(2)}, 3, "")
    assert made == [1, 2] * 4
    assert set(times) == {"one", "other"} and min(times.values()) >= 0


def test_a_collapsed_row_is_shown_as_such(tmp_path):
    measures = ("base", "novel", "stuff", "base_pairs", "novel_pairs", "base_boundary", "novel_boundary")
    row = OBJECTIVES[1]
    results = {START.name: {0: dict.fromkeys(measures, 50.0)}, row.name: {0: dict.fromkeys(measures, float("nan"))}}
    assert "| nan ± " in tables([START, row], results, {})
    plot([START, row], results, tmp_path / "plot.png")


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match=r"seeds \(\)"):
        AblateConfig(seeds=())
