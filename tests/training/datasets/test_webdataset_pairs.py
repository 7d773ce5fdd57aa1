"""Pairs from shards: every labelled image once, shared without overlap, in one order, whatever is damaged."""

import io
import json
import logging
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from training.captions.sidecars import Record, write_sidecar
from training.captions.sources import find_shards
from training.datasets.webdataset_pairs import WebdatasetPairs

SHARDS, SAMPLES = 4, 10
EVERYTHING = {f"thing{number}" for number in range(SHARDS * SAMPLES) if number % SAMPLES}


def jpeg(number):
    """Encode an image of one grey, so that it can be told from the others."""
    data = io.BytesIO()
    Image.fromarray(np.full((24, 40, 3), 5 * number, np.uint8)).save(data, "JPEG", quality=95)
    return data.getvalue()


def write_shard(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_labels(folder):
    """Write the sidecars that training.prepare would; the first caption of each shard has too few labels."""
    for shard in find_shards(str(folder))[0]:
        records = [
            Record(sample.key, dropped="too few labels")
            if int(sample.key) % SAMPLES == 0
            else Record(sample.key, (f"thing{int(sample.key)}", "sky"))
            for sample in shard.samples()
        ]
        write_sidecar(shard.sidecar, records, shard.identity(), {})


@pytest.fixture
def folder(tmp_path):
    """Four shards of ten samples, nine of them with labels."""
    for shard in range(SHARDS):
        members = []
        for number in range(shard * SAMPLES, (shard + 1) * SAMPLES):
            members += [(f"{number:09d}.jpg", jpeg(number)), (f"{number:09d}.txt", b"x"), (f"{number:09d}.json", b"{}")]
        write_shard(tmp_path / f"{shard:05d}.tar", members)
    write_labels(tmp_path)
    return tmp_path


def names(pairs):
    return [pair.labels[0] for pair in pairs]


def as_node(monkeypatch, rank, nodes, worker=0, workers=1):
    """Make this process look like a worker of a node, in the way that torchrun and webdataset do."""
    for name, value in (("RANK", rank), ("WORLD_SIZE", nodes), ("WORKER", worker), ("NUM_WORKERS", workers)):
        monkeypatch.setenv(name, str(value))


def test_every_labelled_image_comes_once_with_its_own_labels(folder):
    pairs = WebdatasetPairs(folder)
    found = list(pairs)
    assert len(found) == pairs.size == len(EVERYTHING)
    assert set(names(found)) == EVERYTHING
    for image, labels, *_ in found:
        assert (image.shape, image.dtype) == ((24, 40, 3), np.uint8)
        assert abs(int(image[0, 0, 0]) - 5 * int(labels[0].removeprefix("thing"))) <= 2
        assert labels[1:] == ["sky"]


def test_channels_come_as_red_green_blue(tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(data, "PNG")
    write_shard(tmp_path / "00000.tar", [("1.png", data.getvalue()), ("1.txt", b"x")])
    write_labels(tmp_path)
    (pair,) = WebdatasetPairs(tmp_path)
    assert pair.image[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("buffer", [1, 7, 5000])
def test_same_seed_and_epoch_give_the_same_order_and_others_another(folder, buffer):
    pairs = WebdatasetPairs(folder, buffer=buffer, seed=3)
    first = names(pairs)
    assert names(WebdatasetPairs(folder, buffer=buffer, seed=3)) == names(pairs) == first
    pairs.set_epoch(1)
    assert names(pairs) != first
    assert names(WebdatasetPairs(folder, buffer=buffer, seed=4)) != first


def test_braces_and_a_folder_of_labels_are_accepted(folder, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in folder.glob("*.labels.jsonl"):
        path.rename(labels / path.name)
    found = names(WebdatasetPairs(f"{folder}/{{00000..00001}}.tar", labels))
    assert sorted(found) == sorted(f"thing{number}" for number in range(20) if number % SAMPLES)


def test_nodes_and_workers_share_an_epoch_without_overlap_or_gap(folder, monkeypatch):
    seen = []
    for rank in range(2):
        for worker in range(2):
            as_node(monkeypatch, rank, 2, worker, 2)
            seen.append(names(WebdatasetPairs(folder)))
    assert [len(part) for part in seen] == [SAMPLES - 1] * 4
    assert set().union(*seen) == EVERYTHING


def test_node_gets_other_shards_in_other_epochs(folder, monkeypatch):
    as_node(monkeypatch, 0, 2)
    pairs = WebdatasetPairs(folder)
    epochs = []
    for epoch in range(5):
        pairs.set_epoch(epoch)
        epochs.append(frozenset(names(pairs)))
    assert len(set(epochs)) > 1


def test_node_without_a_shard_is_told_to_write_smaller_ones(folder, monkeypatch):
    as_node(monkeypatch, 0, SHARDS + 1)
    with pytest.raises(ValueError, match="4 shards for 5 nodes"):
        list(WebdatasetPairs(folder))


@pytest.mark.slow
def test_workers_of_a_dataloader_give_everything_once_and_go_on_where_they_stopped(folder):
    def batches(skip):
        pairs.set_epoch(2, skip)
        loader = DataLoader(pairs, batch_size=3, num_workers=2, collate_fn=names)
        return list(loader)

    pairs = WebdatasetPairs(folder)
    whole = batches(0)
    assert sorted(name for batch in whole for name in batch) == sorted(EVERYTHING)
    assert batches(12) == whole[4:]


def test_spawned_worker_takes_the_share_of_the_node_that_started_it(folder, monkeypatch):
    pairs = WebdatasetPairs(folder)
    as_node(monkeypatch, 1, 2)
    share, travelled = names(pairs), pickle.dumps(pairs)
    as_node(monkeypatch, 0, 1)
    assert names(pickle.loads(travelled)) == share
    assert len(share) == len(EVERYTHING) // 2


@pytest.mark.parametrize("skip", [0, 1, 17, 36, 100])
def test_skipped_pairs_leave_the_rest_in_its_order(folder, skip):
    pairs = WebdatasetPairs(folder, buffer=7)
    whole = names(pairs)
    pairs.set_epoch(0, skip)
    assert names(pairs) == whole[skip:]


def test_truncated_image_is_left_out_and_counted_at_the_end_of_the_epoch(tmp_path, caplog):
    images = [jpeg(1), jpeg(2)[:-200], b"<html>404</html>", jpeg(4)]
    write_shard(tmp_path / "00000.tar", [(f"{number}.jpg", data) for number, data in enumerate(images, 1)])
    write_labels(tmp_path)
    iterator = iter(WebdatasetPairs(tmp_path, buffer=1))
    assert names([next(iterator), next(iterator)]) == ["thing1", "thing4"]
    assert caplog.records == []
    assert list(iterator) == []
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "2 x damaged image (00000.tar: 2, 00000.tar: 3)" in record.getMessage()


def overwrite(path, start, data):
    """Damage a file whose size stays."""
    content = bytearray(path.read_bytes())
    content[start : start + len(data)] = data
    path.write_bytes(content)


def test_corrupt_member_costs_the_rest_of_its_shard_and_is_counted(folder, caplog):
    path = folder / "00001.tar"
    with tarfile.open(path) as tar:
        header = tar.getmember("000000015.jpg").offset
    overwrite(path, header, b"\xff" * 512)
    lost = {f"thing{number}" for number in range(15, 20)}
    assert set(names(WebdatasetPairs(folder))) == EVERYTHING - lost
    assert "5 x labelled image missing from its shard (00001.tar: 000000015)" in caplog.text


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_shard_that_is_no_tar_any_more_is_left_out_and_named(folder, caplog, content):
    path = folder / "00001.tar"
    pairs = WebdatasetPairs(folder)
    path.write_bytes(content * 100)
    assert set(names(pairs)) == EVERYTHING - {f"thing{number}" for number in range(10, 20)}
    assert "1 x damaged shard (00001.tar: " in caplog.text
    assert "9 x labelled image missing" in caplog.text


def test_repeated_key_gives_one_pair(tmp_path):
    write_shard(tmp_path / "00000.tar", [("1.jpg", jpeg(1)), ("2.jpg", jpeg(2)), ("1.jpg", jpeg(3))])
    write_labels(tmp_path)
    records = [Record("1", ("thing1",)), Record("2", ("thing2",)), Record("1", dropped="repeated key")]
    (shard,), _ = find_shards(str(tmp_path))
    write_sidecar(shard.sidecar, records, shard.identity(), {})
    assert sorted(names(WebdatasetPairs(tmp_path))) == ["thing1", "thing2"]


def test_shard_without_labels_is_refused_with_the_command_that_makes_them(folder):
    (folder / "00002.labels.jsonl").unlink()
    with pytest.raises(ValueError, match=r"00002\.tar has no labels.*training\.prepare"):
        WebdatasetPairs(folder)


def test_labels_of_other_data_are_refused(folder):
    with (folder / "00002.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(ValueError, match=r"00002\.labels\.jsonl is of a shard of \d+ bytes"):
        WebdatasetPairs(folder)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"buffer": 0}, "buffer is 0"), ({"shards": "nothing.tar"}, "match no file")]
)
def test_useless_arguments_are_refused(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        WebdatasetPairs(**{"shards": folder} | arguments)


def test_other_files_than_shards_are_refused(tmp_path):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": [], "annotations": [{}]}))
    with pytest.raises(ValueError, match=r"no webdataset shard; expected \.tar"):
        WebdatasetPairs(path)


@pytest.mark.parametrize("arguments", [(-1, 0), (0, -1)])
def test_negative_epoch_or_skip_is_refused(folder, arguments):
    with pytest.raises(ValueError, match="must be 0 or more"):
        WebdatasetPairs(folder).set_epoch(*arguments)
