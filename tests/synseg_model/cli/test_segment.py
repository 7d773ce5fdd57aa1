"""`synseg segment`: the files that it writes for images and videos."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from synseg_model.cli import main as cli
from synseg_model.io.image_file import read_image
from tests.synseg_model.cli.running import all_files, one_line, save, segment, summary

STREETS = Path(__file__).parents[4] / "shared" / "data" / "camvid" / "val"


def test_an_image_gets_masks_label_map_overlay_and_summary(engine, photos, tmp_path, capsys):
    output = tmp_path / "out"
    assert segment(photos / "photo1.png", output, labels="tree, 天空 ,Car,car") == 0
    from synseg_model import Segmenter
    from synseg_model.io.drawing import overlay

    image = read_image(photos / "photo1.png")
    segmenter = Segmenter(engine)
    segmenter.set_vocabulary(["tree", "天空", "Car"])
    result = segmenter.segment(image)
    assert len(result.present) > 1
    (entry,) = summary(output)["images"]
    assert [label["label"] for label in entry["labels"]] == [result.labels[i] for i in result.present]
    for label, index in zip(entry["labels"], result.present, strict=True):
        assert label["id"] == index + 1
        assert label["area"] == result.area(index)
        assert label["score"] == pytest.approx(result.score(index), abs=1e-4)
        assert label["presence"] == pytest.approx(result.presence[index], abs=1e-4)
        assert tuple(label["roi"]) == result.roi(index)
        mask = cv2.imread(str(output / label["mask"]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, result.mask(index).astype(np.uint8) * 255)
    label_map = cv2.imread(str(output / "label_map" / "photo1.png"), cv2.IMREAD_UNCHANGED)
    assert label_map.dtype == np.uint8
    np.testing.assert_array_equal(label_map, result.label_map)
    np.testing.assert_array_equal(read_image(output / "overlay" / "photo1.png"), overlay(image, result))
    masks = {label["mask"] for label in entry["labels"]}
    assert all_files(output) == {"summary.json", "label_map/photo1.png", "overlay/photo1.png", *masks}
    assert "1 image segmented" in capsys.readouterr().out


def test_the_summary_says_how_the_results_were_made(engine, photos, tmp_path):
    assert segment(photos, tmp_path / "out", "--thresholds", "0.25,0.75") == 0
    written = summary(tmp_path / "out")
    assert written["complete"] is True
    assert written["settings"] == {
        "model": "color",
        "fingerprint": "00ff",
        "engine": "color",
        "device": "cpu",
        "labels": ["car", "tree"],
        "thresholds": [0.25, 0.75],
        "write": ["masks", "label_map", "overlay"],
    }
    assert [entry["name"] for entry in written["images"]] == ["photo1", "photo2", "photo10"]
    assert all(entry["inference_ms"] >= 0 and entry["width"] == 160 for entry in written["images"])
    assert written["inference_ms_median"] >= 0


def test_refined_results_say_so_and_are_not_mixed_with_others(engine, photos, tmp_path, capsys):
    pytest.importorskip("skimage")
    assert segment(photos, tmp_path / "out", "--refine", "superpixels") == 0
    assert summary(tmp_path / "out")["settings"]["refine"] == "superpixels"
    assert segment(photos, tmp_path / "out") == 2
    assert segment(photos, tmp_path / "other", "--refine", "sgc") == 2
    assert "sgc' needs CLIP's attention, which the engine color cannot give" in capsys.readouterr().err


def test_one_threshold_holds_for_all_labels(engine, photos, tmp_path):
    assert segment(photos, tmp_path / "out", "--thresholds", "0.3") == 0
    assert summary(tmp_path / "out")["settings"]["thresholds"] == [0.3, 0.3]


def test_options_of_the_engine_are_passed_on_and_are_part_of_what_results_are(
    color_engine, monkeypatch, photos, tmp_path, capsys
):
    given = {}
    load = "synseg_model.segmenter.load_engine"
    monkeypatch.setattr(load, lambda *_, **options: given.update(options) or color_engine)
    output = tmp_path / "out"
    assert segment(photos, output, "--precision", "bf16", "--keep-labels", "5") == 0
    assert given == {"precision": "bf16", "keep_labels": 5}
    assert segment(photos, tmp_path / "other", "--precision", "int8", "--compile") == 0
    assert given == {"precision": "int8", "keep_labels": 5, "compile": True}
    assert segment(photos, output) == 2
    assert "precision" in one_line(capsys.readouterr().err.splitlines(keepends=True)[-1])


def test_several_inputs_show_progress_and_a_single_one_does_not(engine, photos, tmp_path, capsys):
    segment(photos / "photo1.png", tmp_path / "one")
    assert "it" not in capsys.readouterr().err
    segment(photos, tmp_path / "many")
    assert "3/3" in capsys.readouterr().err


def test_more_labels_than_8_bits_hold_make_a_16_bit_label_map(engine, photos, tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("\ufeff" + "\n\n".join(f"label {i}" for i in range(300)), encoding="utf-8")
    options = ["--labels-file", str(file), "--output", str(tmp_path / "out"), "--write", "label_map"]
    assert cli.main(["segment", str(photos / "photo1.png"), *options]) == 0
    label_map = cv2.imread(str(tmp_path / "out" / "label_map" / "photo1.png"), cv2.IMREAD_UNCHANGED)
    assert label_map.dtype == np.uint16
    assert label_map.max() > 0
    assert summary(tmp_path / "out")["settings"]["labels"][0] == "label 0"


HOSTILE = [
    "../../x",
    "/etc/passwd",
    "a/b",
    "a b",
    "con",
    "nul.txt",
    "👩‍🚀",
    "...",
    ".hidden",
    "天空",
    "x" * 300,
    "é" * 200,
]


def test_labels_cannot_leave_the_folder_or_collide(engine, photos, tmp_path):
    output = tmp_path / "deep" / "out"
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(HOSTILE), encoding="utf-8")
    before = all_files(tmp_path)
    options = ["--labels-file", str(labels), "--output", str(output), "--thresholds", "0"]
    assert cli.main(["segment", str(photos / "photo1.png"), *options]) == 0
    new = {Path(name) for name in all_files(tmp_path) - before}
    assert all(path.is_relative_to("deep/out") for path in new)
    masks = [path.name for path in new if path.parent.parent.name == "masks"]
    assert len(masks) == len(HOSTILE)
    assert all(len(name.encode()) < 100 and name[:3].isdecimal() for name in masks)
    assert {"002_etc_passwd.png", "005_con.png", "007_label.png", "010_天空.png"} <= set(masks)
    written = [label["label"] for label in summary(output)["images"][0]["labels"]]
    assert written == HOSTILE


def test_images_of_equal_stems_keep_separate_results(engine, tmp_path, gradient_image):
    for name in ("a.png", "a.bmp", "A.png.bmp", "b.png"):
        save(tmp_path / name, gradient_image)
    assert segment(tmp_path, tmp_path / "out", "--write", "overlay") == 0
    names = [entry["name"] for entry in summary(tmp_path / "out")["images"]]
    assert len({name.casefold() for name in names}) == 4
    assert names[-1] == "b"


def test_a_video_becomes_label_maps_and_an_overlay_video(engine, clip, tmp_path):
    output = tmp_path / "out"
    assert segment(clip, output) == 0
    label_maps = {f"label_map/{i:06d}.png" for i in range(4)}
    assert all_files(output) == {"summary.json", "overlay.mp4", *label_maps}
    capture = cv2.VideoCapture(str(output / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    assert len(summary(output)["images"]) == 4


def test_a_video_gets_other_files_when_asked(engine, clip, tmp_path):
    assert segment(clip, tmp_path / "out", "--write", "overlay") == 0
    assert all_files(tmp_path / "out") == {"summary.json", *(f"overlay/{i:06d}.png" for i in range(4))}


@pytest.mark.skipif(not STREETS.is_dir(), reason="no street images")
def test_street_photographs_pass_through_the_shipped_model(tmp_path):
    images = [str(path) for path in sorted(STREETS.iterdir())[:3]]
    options = ["--labels", "road, car, tree, building, sky", "--output", str(tmp_path / "out")]
    assert cli.main(["segment", *images, *options]) == 0
    assert len(summary(tmp_path / "out")["images"]) == 3
