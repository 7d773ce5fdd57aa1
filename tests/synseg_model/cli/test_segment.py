"""The command line: what it writes, how it continues, and one clear line for whatever goes wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from synseg_model.cli import main as cli
from synseg_model.config import ModelError
from synseg_model.io import result_files
from synseg_model.io.media import read_image

SHIPPED = Path(cli.__file__).parent / "models" / "synseg-tiny"
STREETS = Path(__file__).parents[4] / "shared" / "data" / "camvid" / "val"


@pytest.fixture
def engine(null_engine, monkeypatch):
    """Let the command line load the null engine, whatever model is asked for."""
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: null_engine)
    return null_engine


@pytest.fixture
def photos(tmp_path, gradient_image) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in (1, 2, 10):
        save(folder / f"photo{index}.png", np.roll(gradient_image, 10 * index, axis=1))
    return folder


@pytest.fixture
def clip(tmp_path, gradient_image) -> Path:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 120))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MPEG-4")
    for index in range(4):
        writer.write(np.roll(gradient_image, 10 * index, axis=1)[..., ::-1])
    writer.release()
    return path


def save(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image[..., ::-1])


def segment(source, output: Path, *options: str, labels: str = "car, tree") -> int:
    return cli.main(["segment", str(source), "--labels", labels, "--output", str(output), *options])


def summary(output: Path) -> dict:
    return json.loads((output / "summary.json").read_text(encoding="utf-8"))


def all_files(output: Path) -> set[str]:
    return {path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()}


def one_line(text: str) -> str:
    assert text.startswith("synseg: ")
    assert text.count("\n") == 1
    return text


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
        "model": "null",
        "fingerprint": "00ff",
        "engine": "null",
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
    assert "sgc' needs CLIP's attention, which the engine null cannot give" in capsys.readouterr().err


def test_one_threshold_holds_for_all_labels(engine, photos, tmp_path):
    assert segment(photos, tmp_path / "out", "--thresholds", "0.3") == 0
    assert summary(tmp_path / "out")["settings"]["thresholds"] == [0.3, 0.3]


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


def test_names_beyond_what_file_systems_take_are_shortened():
    paths = [Path("folder") / ("é" * 120 + end + ".png") for end in ("a", "b")]
    names = result_files.image_names(paths)
    assert len(set(names)) == 2
    assert all(len(name.encode()) <= 250 for name in names)


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


def test_a_finished_run_is_not_repeated(engine, photos, clip, tmp_path, monkeypatch, capsys):
    for source in (photos, clip):
        assert segment(source, tmp_path / "out" / source.stem) == 0
    output = tmp_path / "out"
    before = {name: (output / name).stat().st_mtime_ns for name in all_files(output)}
    monkeypatch.setattr(engine, "activations", None)
    capsys.readouterr()
    for source in (photos, clip):
        assert segment(source, output / source.stem) == 0
    reported = capsys.readouterr().out
    assert "0 images segmented, 3 already there" in reported
    assert "0 frames segmented, 4 already there" in reported
    changed = {name for name in before if (output / name).stat().st_mtime_ns != before[name]}
    assert changed <= {"photos/summary.json", "clip/summary.json"}
    assert summary(output / "clip")["complete"] is True


def test_changed_new_and_lost_images_are_segmented_when_a_run_is_repeated(
    engine, photos, tmp_path, gradient_image, capsys
):
    output = tmp_path / "out"
    assert segment(photos, output) == 0
    save(photos / "photo2.png", gradient_image[:60])
    save(photos / "photo3.png", gradient_image)
    (output / "overlay" / "photo10.png").unlink()
    capsys.readouterr()
    assert segment(photos, output) == 0
    assert "3 images segmented, 1 already there" in capsys.readouterr().out
    assert read_image(output / "overlay" / "photo2.png").shape == (60, 160, 3)
    assert len(summary(output)["images"]) == 4


def test_results_of_other_settings_are_kept_unless_overwriting(engine, photos, tmp_path, capsys):
    output = tmp_path / "out"
    assert segment(photos, output) == 0
    before = (output / "summary.json").read_bytes()
    capsys.readouterr()
    assert segment(photos, output, labels="sky") == 2
    assert "other labels and thresholds" in one_line(capsys.readouterr().err)
    assert (output / "summary.json").read_bytes() == before
    assert segment(photos, output, "--overwrite", "--thresholds", "0", labels="sky") == 0
    assert {name for name in all_files(output) if name.startswith("masks")} == {
        f"masks/photo{i}/001_sky.png" for i in (1, 2, 10)
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [1], "settings": {}, "complete": true}', "\0"])
def test_a_damaged_summary_is_not_overwritten_unasked(engine, photos, tmp_path, capsys, text):
    output = tmp_path / "out"
    output.mkdir()
    (output / "summary.json").write_text(text)
    assert segment(photos, output) == 2
    assert "summary.json: choose another folder or --overwrite" in one_line(capsys.readouterr().err)
    assert (output / "summary.json").read_text() == text


def test_an_unreadable_image_is_named_counted_and_not_the_end(engine, photos, tmp_path, capsys):
    (photos / "broken.png").write_bytes(b"no image")
    assert segment(photos, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "3 images segmented, 1 could not be read" in captured.out
    assert "broken.png" in captured.err
    assert "Traceback" not in captured.err
    assert [failed["name"] for failed in summary(tmp_path / "out")["failed"]] == ["broken"]


def test_interrupting_keeps_what_was_done_and_repeating_does_the_rest(engine, photos, tmp_path, monkeypatch, capsys):
    whole, calls = engine.activations, []

    def interrupted(frames, text):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(frames, text)

    monkeypatch.setattr(engine, "activations", interrupted)
    output = tmp_path / "out"
    assert segment(photos, output) == 130
    assert "synseg: interrupted" in capsys.readouterr().err
    written = summary(output)
    assert written["complete"] is False
    assert [entry["name"] for entry in written["images"]] == ["photo1", "photo2"]
    monkeypatch.setattr(engine, "activations", whole)
    assert segment(photos, output) == 0
    assert "1 image segmented, 2 already there" in capsys.readouterr().out
    assert summary(output)["complete"] is True


def test_an_interrupted_video_keeps_a_video_of_what_was_done(engine, clip, tmp_path, monkeypatch):
    whole, calls = engine.activations, []

    def interrupted(frames, text):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(frames, text)

    monkeypatch.setattr(engine, "activations", interrupted)
    assert segment(clip, tmp_path / "out") == 130
    capture = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert not [name for name in all_files(tmp_path / "out") if "part" in name]


@pytest.mark.parametrize("full_after", [0, 1, 4])
def test_a_full_disk_ends_with_one_line_and_whole_files_only(engine, photos, tmp_path, monkeypatch, capsys, full_after):
    whole, count = result_files.write_whole, []

    def fills_up(path, write, durable):
        def some(file):
            if len(count) >= full_after:
                file.write(b"half")
                raise OSError(28, "No space left on device")
            count.append(path)
            write(file)

        whole(path, some, durable)

    monkeypatch.setattr(result_files, "write_whole", fills_up)
    assert segment(photos, tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("synseg: cannot write ")
    assert "No space left on device" in error
    assert len(all_files(tmp_path / "out")) == full_after
    assert not [name for name in all_files(tmp_path / "out") if "part" in name]


def test_an_output_that_cannot_be_a_folder_is_known_before_the_work(engine, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(engine, "activations", None)
    (tmp_path / "out").write_text("in the way")
    assert segment(photos, tmp_path / "out") == 2
    assert "cannot write" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nowhere.png", "--labels", "car"], "nowhere.png': No such file"),
        (["PHOTOS", "--labels", "car,,tree"], "label 2 is empty"),
        (["PHOTOS", "--labels", " , "], "no labels"),
        (["PHOTOS", "--labels", "a,b,c", "--max-labels", "2"], "more than 2 labels"),
        (["PHOTOS", "--labels", "a", "--max-labels", "0"], "max_labels 0"),
        (["PHOTOS", "--labels", "word " * 90], "too long"),
        (["PHOTOS", "--labels", "a", "--thresholds", "half"], "threshold 'half'"),
        (["PHOTOS", "--labels", "a", "--thresholds", "1.5"], "threshold 1.5 of label 'a'"),
        (["PHOTOS", "--labels", "a,b", "--thresholds", "1,1,1"], "more than 2 thresholds"),
        (["PHOTOS", "--labels-file", "nowhere.txt"], "labels file nowhere.txt: No such file"),
        (["PHOTOS", "--labels-file", "PHOTOS/photo1.png"], "is not UTF-8"),
        (["PHOTOS", "--labels-file", os.devnull], "no labels"),
        (["PHOTOS", "--labels", "a", "--write", "video"], "the input is not a video"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(engine, photos, tmp_path, capsys, options, words):
    options = [option.replace("PHOTOS", str(photos)) for option in options]
    assert cli.main(["segment", *options, "--output", str(tmp_path / "out")]) == 2
    assert words in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModelError("no model 'x': expected\none of these"), "synseg: no model 'x': expected one of these\n"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "torch is not installed"),
        (RuntimeError("CUDA out of memory"), "unexpected RuntimeError (SYNSEG_DEBUG=1 shows where): CUDA out of"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_whatever_fails_is_one_line_and_no_traceback(photos, tmp_path, capsys, monkeypatch, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("synseg_model.segmenter.load_engine", fail)
    assert segment(photos, tmp_path / "out") == 2
    assert words in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [[], ["segment"], ["segment", "a.png", "--labels", "a"], ["sing"]])
def test_incomplete_commands_are_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: synseg" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["info", "--help"]])
def test_help_explains_itself_with_examples(arguments):
    done = subprocess.run([sys.executable, "-m", "synseg_model", *arguments], capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: synseg" in done.stdout
    assert "example" in done.stdout


def write_model(folder: Path, tensors: dict[str, tuple[int, ...]]) -> Path:
    """Write a model folder of zeros, in the safetensors format, by hand."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    config = {"name": "mini", "encoder": {"model": "ViT-B-16", "pretrained": "openai"}}
    config.update(results={"base": {"miou": 81.5}}, training={"seed": 3})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_info_describes_a_model_without_torch(tmp_path):
    folder = write_model(tmp_path / "mini", {"decoder.film.weight": (64, 512), "decoder.bias": (64,), "x.y": ()})
    code = (
        "import sys; from synseg_model.cli.main import main; status = main(sys.argv[1:]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "info", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("mini", "ViT-B-16 (public, openai)", "0.03 M", "F16", "results.base.miou", "81.5", "352 px"):
        assert words in done.stdout


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"\xff" * 64),
        lambda path: path.write_bytes((20).to_bytes(8, "little") + b'{"a": [1, 2, 3, 4]} '),
    ],
    ids=["missing", "empty", "cut", "noise", "other-json"],
)
def test_info_on_a_damaged_model_is_one_line(tmp_path, capsys, damage):
    folder = write_model(tmp_path / "mini", {"decoder.bias": (64,)})
    damage(folder / "weights.safetensors")
    assert cli.main(["info", str(folder)]) == 2
    assert "weights.safetensors" in one_line(capsys.readouterr().err)


def test_info_on_an_unknown_model_names_what_there_is(capsys):
    assert cli.main(["info", "nothing"]) == 2
    assert "no model folder 'nothing'" in one_line(capsys.readouterr().err)


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no shipped model")
def test_the_shipped_model_segments_through_the_installed_command(tmp_path, gradient_image):
    save(tmp_path / "a.png", gradient_image)
    command = [sys.executable, "-m", "synseg_model", "segment", str(tmp_path / "a.png"), "--labels", "red ball, grass"]
    command += ["--model", "synseg-tiny"]
    done = subprocess.run([*command, "--output", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 0
    chosen, warning = done.stderr.splitlines()
    assert re.fullmatch("synseg: engine .*, because .*", chosen)
    assert "'synseg-tiny' is for generated scenes" in warning
    assert summary(tmp_path / "out")["settings"]["model"] == "synseg-tiny"


@pytest.mark.skipif(not (SHIPPED.is_dir() and STREETS.is_dir()), reason="no shipped model or no street images")
def test_street_photographs_pass_through_the_shipped_model(tmp_path):
    images = [str(path) for path in sorted(STREETS.iterdir())[:3]]
    options = ["--labels", "road, car, tree, building, sky", "--output", str(tmp_path / "out")]
    assert cli.main(["segment", *images, *options]) == 0
    assert len(summary(tmp_path / "out")["images"]) == 3


def test_options_of_the_engine_are_passed_on_and_are_part_of_what_results_are(
    null_engine, monkeypatch, photos, tmp_path, capsys
):
    given = {}
    load = "synseg_model.segmenter.load_engine"
    monkeypatch.setattr(load, lambda *_, **options: given.update(options) or null_engine)
    output = tmp_path / "out"
    assert segment(photos, output, "--precision", "bf16", "--keep-labels", "5") == 0
    assert given == {"precision": "bf16", "keep_labels": 5}
    assert segment(photos, output) == 2
    assert "precision" in one_line(capsys.readouterr().err.splitlines(keepends=True)[-1])
