"""A run of `synseg segment` that is repeated, interrupted, or meets what it cannot read or write."""

import cv2
import pytest

from synseg_model.io import result_files
from synseg_model.io.image_file import read_image
from tests.synseg_model.cli.running import all_files, one_line, save, segment, summary


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
