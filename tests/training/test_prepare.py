"""`python -m training.prepare`: from shards to sidecars, whatever is damaged and whenever it was stopped."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import pytest

pytest.importorskip("spacy")

from training.captions.samples import BAD_LINE, BAD_NAME, FEW_LABELS, NO_LABEL, NOT_TEXT
from training.captions.sidecars import read_header, read_sidecar
from training.prepare import PrepareConfig, main, prepare

ROOT = Path(__file__).resolve().parents[2]
CAPTIONS = ("a brown dog on a sofa", "a red bus", "it rains", "two cats under a table")


def write_shard(path, captions=CAPTIONS, start=0):
    with tarfile.open(path, "w") as tar:
        for i, caption in enumerate(captions, start):
            for extension, data in (("jpg", b"image"), ("txt", caption.encode()), ("json", b"{}")):
                info = tarfile.TarInfo(f"{i:09d}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def config(source, **changes):
    return PrepareConfig(str(source), **({"tagger": "shipped", "workers": 1} | changes))


@pytest.fixture
def shards(tmp_path):
    """Three shards in a folder of their own, four captions each."""
    folder = tmp_path / "cc12m"
    folder.mkdir()
    for i in range(3):
        write_shard(folder / f"{i:05d}.tar", start=10 * i)
    return folder


def sidecar_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.labels.jsonl"))}


def test_sidecar_lies_beside_its_shard_with_the_labels_of_every_sample(shards):
    prepare(config(shards))
    records = list(read_sidecar(shards / "00001.labels.jsonl"))
    assert [(r.key, r.labels, r.dropped) for r in records] == [
        ("000000010", ("brown dog", "sofa"), ""),
        ("000000011", (), FEW_LABELS),
        ("000000012", (), NO_LABEL),
        ("000000013", ("cat", "table"), ""),
    ]


def test_sidecar_has_the_keys_of_its_shard_in_the_order_in_which_webdataset_reads_them(shards):
    wds = pytest.importorskip("webdataset")
    prepare(config(shards))
    for tar in sorted(shards.glob("*.tar")):
        keys = [sample["__key__"] for sample in wds.WebDataset(str(tar), shardshuffle=False)]
        assert [record.key for record in read_sidecar(tar.with_suffix(".labels.jsonl"))] == keys


def test_fewer_labels_are_kept_where_the_minimum_says_so(shards):
    assert prepare(config(shards, min_labels=1)).kept == 9
    assert prepare(config(shards, min_labels=2)).kept == 6


def test_finished_shards_are_skipped_and_missing_ones_are_done(shards):
    prepare(config(shards))
    before = {path: path.stat().st_mtime_ns for path in shards.glob("*.labels.jsonl")}
    missing = shards / "00001.labels.jsonl"
    missing.unlink()
    totals = prepare(config(shards))
    assert (totals.shards, totals.skipped, totals.captions, totals.fresh, totals.kept) == (3, 2, 12, 4, 6)
    assert {path for path, time in before.items() if path.stat().st_mtime_ns != time} == {missing}


def test_skipped_shards_count_in_the_report_as_if_they_were_done_now(shards):
    first, again = prepare(config(shards)), prepare(config(shards))
    assert again.fresh == 0
    assert (again.labels, again.dropped, again.per_caption) == (first.labels, first.dropped, first.per_caption)


def test_sidecar_of_other_settings_or_other_data_is_made_anew(shards):
    prepare(config(shards))
    assert prepare(config(shards, min_labels=1)).skipped == 0
    write_shard(shards / "00002.tar", [*CAPTIONS, "a horse in a field"])
    totals = prepare(config(shards, min_labels=1))
    assert totals.skipped == 2
    assert list(read_sidecar(shards / "00002.labels.jsonl"))[-1].labels == ("horse", "field")


@pytest.mark.parametrize("left", ["", '{"synseg_labels": 1', "cut"])
def test_half_written_sidecar_is_made_anew(shards, left):
    prepare(config(shards))
    whole = sidecar_bytes(shards)
    path = shards / "00000.labels.jsonl"
    path.write_bytes(whole[path.name][:-20] if left == "cut" else left.encode())
    assert prepare(config(shards)).skipped == 2
    assert sidecar_bytes(shards) == whole


@pytest.mark.slow
def test_several_processes_write_the_bytes_that_one_writes(shards, tmp_path):
    prepare(config(shards, output=str(tmp_path / "one")))
    prepare(config(shards, output=str(tmp_path / "two"), workers=2))
    assert sidecar_bytes(tmp_path / "one") == sidecar_bytes(tmp_path / "two")
    assert len(sidecar_bytes(tmp_path / "two")) == 3


def test_damaged_shards_are_counted_and_named_and_the_others_are_done(shards):
    cut = shards / "00000.tar"
    cut.write_bytes(cut.read_bytes()[: 512 * 12 + 100])
    (shards / "00001.tar").write_bytes(b"<html>404</html>" * 64)
    totals = prepare(config(shards))
    assert (totals.shards, totals.captions, totals.kept, totals.damages) == (3, 6, 3, 0)
    assert [line.split(":")[0] for line in sorted(totals.unread)] == ["00000.tar", "00001.tar"]
    report = json.loads((shards / "labels-report.json").read_text())
    assert report["shards_unread"] == totals.unread
    assert prepare(config(shards)).unread == totals.unread  # said of finished shards, too


def add(path, name, data=b"image"):
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")


def test_a_sample_whose_name_is_not_utf8_is_dropped_with_the_reason_and_training_reads_the_rest(shards):
    for extension, data in (("jpg", b"image"), ("txt", b"a brown dog on a sofa")):
        add(shards / "00001.tar", f"{NOT_UTF8}.{extension}", data)
    totals = prepare(config(shards, workers=2))
    assert (totals.shards, totals.captions, totals.kept) == (3, 13, 6)
    assert totals.damaged == [rf"00001.tar: caf\udce9: {BAD_NAME}"]
    assert not totals.unread
    pytest.importorskip("webdataset")
    from training.datasets.pairs import Damages
    from training.datasets.webdataset_pairs import WebdatasetPairs

    damages = Damages()
    assert list(WebdatasetPairs(shards, buffer=1).read(damages)) == []  # the images are none, but all are met
    assert damages.counts.total() == 6


def test_captions_that_no_file_can_hold_are_damaged_text(tmp_path):
    path = tmp_path / "captions.json"
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "\ud800.jpg"}]
    annotations = [
        {"id": 1, "image_id": 1, "caption": "a brown dog on a \ud800 sofa"},
        {"id": 2, "image_id": 2, "caption": "a brown dog on a sofa"},
        {"id": 3, "image_id": 1, "caption": "two cats under a table"},
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    totals = prepare(config(path))
    assert (totals.captions, totals.kept) == (3, 1)
    assert dict(totals.dropped) == {NOT_TEXT: 1, BAD_NAME: 1}


def test_shards_whose_own_names_are_not_utf8_are_done_once(tmp_path, capsys):
    path = write_shard(tmp_path / f"{NOT_UTF8}.tar")
    os.truncate(path, 512 * 12 + 100)
    totals = prepare(config(tmp_path))
    assert (totals.kept, len(totals.unread)) == (1, 1)
    assert r"caf\udce9.tar: the tar ends early" in capsys.readouterr().out
    assert prepare(config(tmp_path)).skipped == 1


def test_what_webdataset_says_of_a_shard_is_no_damaged_sample(shards):
    add(shards / "00001.tar", "__meta__.json", b"{}")
    totals = prepare(config(shards))
    assert (totals.captions, totals.damages, totals.unread) == (12, 0, [])


def test_unreadable_shards_come_before_single_samples_and_the_exit_status_is_1(shards, monkeypatch):
    (shards / "00000.tar").write_bytes(b"<html>404</html>" * 64)
    for number in range(20):
        add(shards / "00001.tar", f"{NOT_UTF8}{number}.jpg")
    command = [sys.executable, "-m", "training.prepare", "--input", str(shards), "--tagger", "shipped"]
    ended = subprocess.run([*command, "--workers", "1"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    lines = ended.stdout.splitlines()
    (shard,) = (number for number, line in enumerate(lines) if "00000.tar: the tar ends early" in line)
    samples = [number for number, line in enumerate(lines) if BAD_NAME in line and "00001.tar" in line]
    assert samples and shard < min(samples)
    assert "1 shard could not be read to their end" in ended.stdout
    (shards / "00000.tar").unlink()
    monkeypatch.setattr(sys, "argv", [*command[2:], "--workers", "1"])
    with pytest.raises(SystemExit) as again:
        main()
    assert again.value.code == 0


def test_shard_that_vanishes_is_named_and_the_others_are_done(shards, monkeypatch):
    from training import prepare as module

    def find(*arguments):
        found = real(*arguments)
        (shards / "00001.tar").unlink()
        return found

    real = module.find_shards
    monkeypatch.setattr(module, "find_shards", find)
    totals = prepare(config(shards))
    assert (totals.shards, totals.captions, totals.damages) == (3, 8, 0)
    assert "00001.tar: cannot be read" in totals.unread[0]


def test_report_holds_shares_reasons_frequencies_and_a_plot(shards):
    prepare(config(shards))
    report = json.loads((shards / "labels-report.json").read_text())
    assert (report["captions"], report["captions_kept"], report["share_kept"]) == (12, 6, 0.5)
    assert report["dropped"] == {FEW_LABELS: 3, NO_LABEL: 3}
    assert report["most_frequent_labels"] == {"brown dog": 3, "sofa": 3, "cat": 3, "table": 3}
    assert report["most_frequent_nouns"] == {"dog": 3, "sofa": 3, "cat": 3, "table": 3}
    assert report["labels_per_kept_caption"] == {"2": 6}
    assert report["captions_per_second"] > 0
    plot = cv2.imread(str(shards / "labels-frequency.png"))
    assert plot is not None
    assert plot.std() > 5


def test_data_without_any_label_ends_with_a_report_too(tmp_path):
    write_shard(tmp_path / "0.tar", ["it rains"])
    assert prepare(config(tmp_path)).kept == 0
    assert json.loads((tmp_path / "labels-report.json").read_text())["share_kept"] == 0
    assert not (tmp_path / "labels-frequency.png").exists()


def test_coco_captions_go_to_sidecars_by_image(tmp_path):
    path = tmp_path / "captions_train2017.json"
    images = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (1, 2)]
    annotations = [
        {"id": 10, "image_id": 2, "caption": "a red bus on a street"},
        {"id": 11, "image_id": 1, "caption": "a brown dog on a sofa"},
        {"id": 12, "image_id": 2, "caption": "a bus"},
        {"id": 13, "image_id": 99, "caption": "a cat on a table"},
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    totals = prepare(config(path))
    (sidecar,) = (tmp_path / "captions_train2017-labels").glob("*.labels.jsonl")
    kept = [(r.key, r.caption_id, r.labels) for r in read_sidecar(sidecar) if not r.dropped]
    assert kept == [("000000000001", 11, ("brown dog", "sofa")), ("000000000002", 10, ("red bus", "street"))]
    assert dict(totals.dropped) == {FEW_LABELS: 1, BAD_LINE: 1}
    assert totals.damaged == [f"captions_train2017.json #0: annotation 3: {BAD_LINE}"]


def test_tsv_captions_go_to_sidecars_by_address_and_lines(tmp_path):
    path = tmp_path / "cc12m.tsv"
    path.write_bytes(b"http://x/1\ta brown dog on a sofa\nhttp://x/2\t\xff\nhttp://x/3\ta cat on a table\n")
    totals = prepare(config(path, output=str(tmp_path / "labels"), shard_size=2))
    records = [r for p in sorted((tmp_path / "labels").glob("*.labels.jsonl")) for r in read_sidecar(p)]
    assert [(r.key, r.labels) for r in records] == [
        ("http://x/1", ("brown dog", "sofa")),
        ("line 2", ()),
        ("http://x/3", ("cat", "table")),
    ]
    assert totals.damaged == [f"cc12m.tsv, lines 1-2: line 2: {NOT_TEXT}"]


def test_header_names_tagger_stop_list_and_source(shards):
    prepare(config(shards))
    header = read_header(shards / "00000.labels.jsonl")
    status = (shards / "00000.tar").stat()
    assert header.source == {"file": "00000.tar", "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    assert header.settings["tagger_version"] == "en_synseg_tagger 1.0.0"
    assert header.settings["stop_list"] >= 1
    assert header.settings["min_labels"] == 2


@pytest.mark.parametrize("changes", [{"min_labels": 0}, {"workers": -1}, {"shard_size": 0}])
def test_setting_out_of_range_is_refused_by_its_name(shards, changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"--{name}"):
        prepare(config(shards, **changes))


def run_program(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "training.prepare", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_program_prepares_and_tells_what_it_did(shards):
    done = run_program("--input", shards, "--tagger", "shipped", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "12 captions in 3 shards (0 done before): 6 kept (50.0%)" in done.stdout
    assert len(sidecar_bytes(shards)) == 3


def test_program_without_data_ends_with_one_clear_line(tmp_path):
    done = run_program("--input", tmp_path / "none.tsv")
    assert done.returncode == 1
    assert done.stderr.startswith("prepare: 1 of 1 names")
    assert "Traceback" not in done.stderr
