"""The command, on tiny data sets and a tiny random network."""

import csv
import json
import signal

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.model_folder import save_model
from training import evaluate
from training.evaluate import EvaluateConfig, command, main
from training.evaluation import measure as counting
from training.evaluation.predict import Predictor
from training.evaluation.report import comparison_table

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = ModelConfig(
        "tiny-random",
        EncoderConfig(CLIP, included=True),
        DecoderConfig((0, 1), width=16, heads=2, ffn=32),
        ImageConfig(32),
    )
    torch.manual_seed(0)
    return str(save_model(tmp_path_factory.mktemp("model"), SynSeg.from_config(config), config))


@pytest.fixture(autouse=True)
def _own_signals():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def voc(tmp_path):
    """Two images to report and two to tune on, in VOC's layout."""
    rng, root = np.random.default_rng(0), tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for split in ("val", "train"):
        names = [f"{split}_{i}" for i in range(2)]
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names))
        for name in names:
            Image.fromarray(rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(root / f"JPEGImages/{name}.jpg")
            truth = rng.choice([0, 1, 15, 255], (36, 48)).astype(np.uint8)
            Image.fromarray(truth).save(root / f"SegmentationClass/{name}.png")
    return root


@pytest.fixture
def config(model, voc, tmp_path):
    def make(**values):
        small = {"short_side": 32, "window": 32, "stride": 16, "device": "cpu", "output": str(tmp_path / "out")}
        return EvaluateConfig(**{"model": model, "dataset": "voc21", "root": str(voc), **small, **values})

    return make


def test_data_set_gives_numbers_table_and_figures(config, tmp_path):
    result = main(config())
    folder = tmp_path / "out" / "voc21"
    assert json.loads((folder / "results.json").read_text()) == result
    assert result["images"] == 2 and result["complete"] and set(result["per_class"]) >= {"background", "tvmonitor"}
    report = (folder / "report.md").read_text()
    assert "**A sample**: 2 images where the protocol takes 1449 images of split `val`" in report
    assert f"| **tiny-random (slide, single prompts)** | {result['miou']:.1f}\\* |" in report
    assert "| SynSeg (the paper, arXiv 2508.06115) | 62.2 |" in report
    assert result["command"] in report
    for name in ("classes", "confusion", "predictions", "thresholds"):
        assert f"({name}.png)" in report
        assert cv2.imread(str(folder / f"{name}.png")).std() > 5, f"{name}.png is not blank"


def test_confusion_file_gives_the_reported_mean_iou(config, tmp_path):
    result = main(config())
    with open(tmp_path / "out/voc21/confusion.csv", newline="") as file:
        rows = list(csv.reader(file))
    counts = np.array([row[1:] for row in rows[1:]], int)
    assert counts.shape == (21, 22) and rows[1][0] == "background"
    inside = np.diag(counts[:, :21])
    union = counts.sum(axis=1) + counts[:, :21].sum(axis=0) - inside
    assert result["miou"] == pytest.approx(100 * np.mean(inside[union > 0] / union[union > 0]), abs=0.006)


def test_threshold_is_tuned_on_the_other_split_and_used(config, tmp_path):
    result = main(config(sweep=True))
    curve = result["threshold_curve"]
    assert result["threshold_from"] == "tuned on 2 images of split train"
    assert curve[f"{result['threshold']:g}"] == max(curve.values())
    assert (tmp_path / "out/voc21/sweep.png").exists()
    again = main(config(threshold=result["threshold"]))
    assert again["miou"] == result["miou"] and again["threshold_from"] == "the command line"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sweep": True, "tune_split": "val"}, "both tuned on and reported"),
        ({"sweep": True, "threshold": 0.4}, "--sweep chooses the threshold"),
        ({"dataset": "voc20", "sweep": True}, "has no background"),
        ({"dataset": "voc20", "threshold": 0.4}, "has no background"),
        ({"threshold": 1.4}, "threshold 1.4: expected"),
        ({"root": ""}, "no --root for voc21: .*\n\nROOT/"),
        ({"dataset": "imagenet"}, "expected one of scenes, voc21"),
        ({"mode": "tiles"}, "mode 'tiles'"),
        ({"prompts": "many"}, "prompts 'many'"),
        ({"keep_labels": 5}, "only for generated scenes"),
    ],
)
def test_request_that_makes_no_sense_is_refused(config, values, message):
    with pytest.raises(ValueError, match=message):
        main(config(**values))


def test_every_setting_leads_to_a_result(config):
    result = main(config(dataset="voc20", mode="whole", aliases=True, pamr=True, images=1, output=""))
    assert result["images"] == 1 and result["threshold"] is None
    assert result["settings"] == {"prompts": "single", "aliases": True, "mode": "whole", "pamr": True, "refine": "none"}
    assert next(iter(result["per_class"])) == "aeroplane"


def test_interrupt_writes_what_was_measured_and_says_so(config, tmp_path, monkeypatch, capsys):
    classify, calls = Predictor.classify, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return classify(*args)

    monkeypatch.setattr(Predictor, "classify", interrupted)
    monkeypatch.setattr(evaluate.jsonargparse, "auto_cli", lambda *_, **__: config())
    assert evaluate.run() == 130
    assert "interrupted after 1 of 2 images" in capsys.readouterr().err
    folder = tmp_path / "out/voc21"
    assert json.loads((folder / "results.json").read_text())["complete"] is False
    assert "**Interrupted** after 1 of 2 images" in (folder / "report.md").read_text()


def test_figures_of_a_large_data_set_ask_the_network_again(config, tmp_path, monkeypatch):
    main(config(dataset="voc20"))
    first = cv2.imread(str(tmp_path / "out/voc20/predictions.png"))
    monkeypatch.setattr(counting, "KEPT_BYTES", 0)
    main(config(dataset="voc20"))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out/voc20/predictions.png")), first)


def test_missing_data_set_ends_with_the_expected_tree(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        evaluate.jsonargparse, "auto_cli", lambda *_, **__: config(dataset="cityscapes", root=str(tmp_path / "gone"))
    )
    assert evaluate.run() == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: no data set at {tmp_path / 'gone'}: the folder is not there")
    assert "leftImg8bit/val/<city>/*_leftImg8bit.png" in message


def test_command_of_a_result_gives_its_settings():
    config = EvaluateConfig(dataset="voc21", root="a folder", pamr=True, threshold=0.3, output="elsewhere")
    expected = "python -m training.evaluate --dataset voc21 --root 'a folder' --pamr true --threshold 0.3"
    assert command(config) == expected


def test_table_puts_data_sets_of_one_model_in_one_row_and_other_settings_in_another():
    def result(dataset, miou, **settings):
        options = {"prompts": "single", "aliases": False, "mode": "slide", "pamr": False, **settings}
        model = {"name": "ours", "fingerprint": "00ff", "parameters": 151_000_000}
        whole = {"whole_split": True, "complete": True, "ms_per_image": 20.0, "device": "a GPU"}
        title = f"{dataset}, so many classes"
        return {"dataset": dataset, "title": title, "miou": miou, "settings": options, "model": model, **whole}

    table = comparison_table(
        [result("voc21", 60.0), result("context59", 40.0), result("voc21", 61.5, pamr=True), result("camvid", 5.0)]
    ).splitlines()
    assert table[0].startswith("| method | VOC21 | Context60 | Context59 | Object | Stuff | City | camvid |")
    ours = [line for line in table if "measured here" in line]
    assert ours == [
        "| **ours (slide, single prompts)** | 60.0 |  | 40.0 |  |  |  | 5.0 | 151.0 M | 20 ms per image, a GPU "
        "| measured here |",
        "| **ours (slide, single prompts, PAMR)** | 61.5 |  |  |  |  |  |  | 151.0 M | 20 ms per image, a GPU "
        "| measured here |",
    ]
    assert sum("| published |" in line for line in table) == 6
    assert "\\*" not in "".join(table)
    part = comparison_table([result("voc21", 60.0) | {"whole_split": False}])
    assert "| 60.0\\* |" in part and "not comparable" in part


def test_report_shows_what_was_measured_on_other_data_sets(config, tmp_path):
    first, second = main(config()), main(config(dataset="voc20"))
    row = next(line for line in (tmp_path / "out/voc20/report.md").read_text().splitlines() if "measured here" in line)
    assert f"{first['miou']:.1f}\\*" in row and f"{second['miou']:.1f}\\*" in row


def test_scenes_are_the_default_and_write_numbers_and_a_image(model, tmp_path):
    results = main(EvaluateConfig(model=model, scenes=3, height=48, width=64, device="cpu", output=str(tmp_path)))
    assert json.loads((tmp_path / "scenes.json").read_text()) == results
    assert {"base", "stuff", "novel", "base_pairs", "novel_pairs", "per_class"} <= set(results)
    assert results["scenes"] == 3 and results["size"] == [48, 64]
    assert cv2.imread(str(tmp_path / "scenes.png")) is not None


@pytest.mark.parametrize("changed", [{"keep_labels": 2}, {"refine": "superpixels"}])
def test_settings_of_the_segmenter_count_on_scenes_too(changed):
    small = {"scenes": 2, "height": 96, "width": 128, "device": "cpu", "output": ""}
    assert main(EvaluateConfig(**small)) != main(EvaluateConfig(**small, **changed))


def test_only_the_held_out_share_is_measured_and_said_so(config, voc):
    from training.datasets.photos import held_out

    names = [f"val_{i}" for i in range(2)]
    seed = next(seed for seed in range(100) if len(held_out(names, 0.5, seed)) == 1)
    result = main(config(share=0.5, seed=seed))
    assert result["images"] == 1 and not result["whole_split"]
    assert result["held_out"] == {"share": 0.5, "seed": seed}
    assert "--share 0.5" in result["command"]
    seed = next(seed for seed in range(100) if not held_out(names, 0.5, seed))
    with pytest.raises(ValueError, match=r"share 0\.5: none of 2 images is held out"):
        main(config(share=0.5, seed=seed))


def test_a_threshold_is_tuned_on_the_split_that_is_measured_only_where_a_share_is_apart(config):
    from training.datasets.photos import held_out

    names = [f"val_{i}" for i in range(2)]
    seed = next(seed for seed in range(100) if len(held_out(names, 0.5, seed)) == 1)
    result = main(config(share=0.5, seed=seed, sweep=True, tune_split="val"))
    assert result["images"] == 1 and "tuned on 1 images" in result["threshold_from"]
    with pytest.raises(ValueError, match="both tuned on and reported"):
        main(config(sweep=True, tune_split="val"))


def test_with_the_present_names_alone_no_other_class_is_predicted(config, tmp_path):
    absent = {"settings": main(config())["settings"]}
    result = main(config(present=True, output=str(tmp_path / "present")))
    assert result["settings"]["present"] and "present" not in absent["settings"]
    with open(tmp_path / "present/voc21/confusion.csv", newline="") as file:
        header, *rows = csv.reader(file)
    columns = dict(zip(header[1:], np.array([row[1:] for row in rows], int).sum(axis=0), strict=True))
    assert {name for name, pixels in columns.items() if pixels} <= {"background", "aeroplane", "person"}
    assert "present names" in (tmp_path / "present/voc21/report.md").read_text()
