"""Sidecars say what they are, come whole or not at all, and are refused when they are neither."""

import json

import pytest

from training.captions.samples import FEW_LABELS, NO_IMAGE
from training.captions.sidecars import NAMED_DAMAGES, Record, read_header, read_sidecar, write_sidecar

RECORDS = [
    Record("000000001", ("brown dog", "größeres sofa")),
    Record("000000000", (), FEW_LABELS),
    Record("000000002", ("dog", "cat"), caption_id=77),
    Record("000000003", (), NO_IMAGE),
]
SOURCE, SETTINGS = {"file": "00000.tar", "bytes": 7}, {"stop_list": 1}


def test_records_are_read_as_they_were_written_in_their_order(tmp_path):
    path = tmp_path / "new" / "00000.labels.jsonl"
    header = write_sidecar(path, RECORDS, SOURCE, SETTINGS)
    assert list(read_sidecar(path)) == RECORDS
    assert read_header(path) == header


def test_header_counts_what_was_kept_dropped_and_damaged(tmp_path):
    header = write_sidecar(tmp_path / "0.labels.jsonl", RECORDS, SOURCE, SETTINGS, damage="the tar ends early")
    assert (header.samples, header.kept) == (4, 2)
    assert header.dropped == {FEW_LABELS: 1, NO_IMAGE: 1}
    assert (header.damaged, header.unread) == ([f"000000003: {NO_IMAGE}"], "the tar ends early")
    assert header.damages == 1


def test_documented_format_is_what_is_written(tmp_path):
    path = tmp_path / "0.labels.jsonl"
    write_sidecar(path, RECORDS[:2], SOURCE, SETTINGS)
    header, first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert header["synseg_labels"] == 1
    assert first == {"key": "000000001", "labels": ["brown dog", "größeres sofa"]}
    assert second == {"key": "000000000", "labels": [], "dropped": "too few labels"}


def test_many_damages_are_counted_and_some_of_them_named(tmp_path):
    records = [Record(f"{i}", (), NO_IMAGE) for i in range(3 * NAMED_DAMAGES)]
    header = write_sidecar(tmp_path / "0.labels.jsonl", records, SOURCE, SETTINGS, damage="the tar ends early")
    assert (header.damages, header.unread) == (3 * NAMED_DAMAGES, "the tar ends early")
    assert len(header.damaged) == NAMED_DAMAGES


def test_writer_that_dies_leaves_the_old_sidecar_and_no_rubbish(tmp_path):
    path = tmp_path / "0.labels.jsonl"
    write_sidecar(path, RECORDS, SOURCE, SETTINGS)
    before = path.read_bytes()
    unwritable = [Record("0", (b"no text",))]
    with pytest.raises(TypeError):
        write_sidecar(path, unwritable, SOURCE, SETTINGS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("line", ["", "[]", "7", '{"key": "0"}', '{"synseg_labels": 2, "source": {}, "settings": {}}'])
def test_file_with_another_first_line_is_refused(tmp_path, line):
    path = tmp_path / "0.labels.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match="is no label sidecar"):
        read_header(path)


def test_sidecar_that_lost_lines_is_refused(tmp_path):
    path = tmp_path / "0.labels.jsonl"
    write_sidecar(path, RECORDS, SOURCE, SETTINGS)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match="3 records, its header says 4"):
        list(read_sidecar(path))
    path.write_text("".join(lines)[:-9], encoding="utf-8")
    with pytest.raises(ValueError, match="line 5"):
        list(read_sidecar(path))
