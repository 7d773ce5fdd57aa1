"""Labels, thresholds and models that commands share: what is wrong is said in one line."""

import os

import pytest

from synseg_model.cli import main as cli
from tests.synseg_model.cli.running import one_line


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
