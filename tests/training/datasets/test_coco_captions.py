"""Pairs of a COCO folder: every image once an epoch, with the labels of one of its captions."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.captions.coco import coco_shards
from training.captions.sidecars import Record, write_sidecar
from training.captions.sources import labels_folder
from training.datasets.coco_captions import CocoCaptions
from training.datasets.pairs import decode_image

COCO_MINI = Path(__file__).resolve().parents[4] / "shared" / "data" / "coco-mini"
IMAGES = 12


def write_labels(path, shard_size):
    """Write the sidecars that training.prepare would: a label per caption id; captions 0 of an image have none."""
    for shard in coco_shards(path, labels_folder(path), shard_size):
        records = [
            Record(sample.key, (f"thing{sample.caption_id}", "sky"), caption_id=sample.caption_id)
            if sample.caption_id % 10
            else Record(sample.key, dropped="no label", caption_id=sample.caption_id)
            for sample in shard.samples()
        ]
        write_sidecar(shard.sidecar, records, shard.identity(), {})


@pytest.fixture
def coco(tmp_path):
    """Twelve images with captions 10 * image + 0, 1 and 2; gives the folder of images and the captions file."""
    images, path = tmp_path / "train2017", tmp_path / "annotations" / "captions_train2017.json"
    images.mkdir()
    path.parent.mkdir()
    content = {"images": [], "annotations": []}
    for image in range(IMAGES):
        name = f"{image:012d}.jpg"
        Image.new("RGB", (20, 10), (20 * image, 0, 0)).save(images / name, quality=95)
        content["images"].append({"id": image, "file_name": name})
        for caption in range(3):
            content["annotations"].append({"id": 10 * image + caption, "image_id": image, "caption": "x"})
    path.write_text(json.dumps(content))
    write_labels(path, shard_size=5)
    return images, path


def numbers(pairs):
    """Return the caption ids that the labels hold."""
    return [int(pair.labels[0].removeprefix("thing")) for pair in pairs]


def test_every_image_comes_once_with_the_labels_of_one_of_its_captions(coco):
    pairs = CocoCaptions(*coco)
    found = list(pairs)
    assert len(found) == pairs.size == IMAGES
    assert sorted(number // 10 for number in numbers(found)) == list(range(IMAGES))
    assert {number % 10 for number in numbers(found)} <= {1, 2}
    for pair, number in zip(found, numbers(found), strict=True):
        assert (pair.image.shape, pair.image.dtype) == ((10, 20, 3), np.uint8)
        assert abs(int(pair.image[0, 0, 0]) - 20 * (number // 10)) <= 3
        assert pair.labels[1:] == ["sky"]


def test_same_seed_and_epoch_give_the_same_order_and_others_another(coco):
    pairs = CocoCaptions(*coco, seed=3)
    first = numbers(pairs)
    assert numbers(CocoCaptions(*coco, seed=3)) == numbers(pairs) == first
    assert numbers(CocoCaptions(*coco, seed=4)) != first
    pairs.set_epoch(1)
    second = numbers(pairs)
    assert [number // 10 for number in second] != [number // 10 for number in first]
    assert set(second) != set(first)


def test_nodes_and_workers_share_an_epoch_without_overlap_or_gap(coco, monkeypatch):
    whole, seen = numbers(CocoCaptions(*coco)), []
    for rank in range(2):
        for worker in range(2):
            for name, value in (("RANK", rank), ("WORLD_SIZE", 2), ("WORKER", worker), ("NUM_WORKERS", 2)):
                monkeypatch.setenv(name, str(value))
            seen.append(numbers(CocoCaptions(*coco)))
    assert [len(part) for part in seen] == [3] * 4
    assert sorted(number for part in seen for number in part) == sorted(whole)


@pytest.mark.parametrize("skip", [1, 5, IMAGES, 100])
def test_skipped_pairs_leave_the_rest_in_its_order(coco, skip):
    pairs = CocoCaptions(*coco)
    whole = numbers(pairs)
    pairs.set_epoch(0, skip)
    assert numbers(pairs) == whole[skip:]


def test_workers_skip_together_as_many_as_their_node_has_seen(coco, monkeypatch):
    pairs, seen = CocoCaptions(*coco), []
    whole = numbers(pairs)
    pairs.set_epoch(0, skip=5)
    for worker in range(2):
        monkeypatch.setenv("WORKER", str(worker))
        monkeypatch.setenv("NUM_WORKERS", "2")
        seen += numbers(pairs)
    assert sorted(seen) == sorted(whole[5:])


def test_damaged_and_missing_images_are_left_out_and_counted(coco, caplog):
    images, _ = coco
    (images / f"{3:012d}.jpg").unlink()
    path = images / f"{4:012d}.jpg"
    path.write_bytes(path.read_bytes()[:-30])
    found = numbers(CocoCaptions(*coco))
    assert sorted(number // 10 for number in found) == [i for i in range(IMAGES) if i not in (3, 4)]
    assert "1 x labelled image missing from its folder (000000000003)" in caplog.text
    assert "1 x damaged image (000000000004.jpg)" in caplog.text


def test_labels_that_are_not_there_are_refused_with_the_command_that_makes_them(coco):
    _, path = coco
    for part in ("00003", "00000"):
        (labels_folder(path) / f"{part}.labels.jsonl").unlink()
        with pytest.raises(ValueError, match=rf"{part}\.labels\.jsonl is missing: run python -m training\.prepare"):
            CocoCaptions(*coco)


def test_labels_of_another_file_are_refused(coco):
    _, path = coco
    path.write_text(path.read_text() + " ")
    with pytest.raises(ValueError, match=r"00000\.labels\.jsonl was made of .*run python -m training\.prepare"):
        CocoCaptions(*coco)


def test_left_overs_of_smaller_parts_are_no_labels(coco):
    _, path = coco
    write_labels(path, shard_size=100)
    assert CocoCaptions(*coco).size == len(numbers(CocoCaptions(*coco))) == IMAGES


def test_parts_of_two_sizes_beside_each_other_are_refused(coco):
    _, path = coco
    folder = labels_folder(path)
    kept = (folder / "00001.labels.jsonl").read_bytes()
    write_labels(path, shard_size=9)
    (folder / "00001.labels.jsonl").write_bytes(kept)
    with pytest.raises(ValueError, match=r"00001\.labels\.jsonl was made of"):
        CocoCaptions(*coco)


def test_folder_without_the_images_is_refused(coco, tmp_path):
    _, path = coco
    with pytest.raises(ValueError, match="holds none of the 12 images"):
        CocoCaptions(tmp_path / "val2017", path)


def test_labels_of_shards_are_refused(coco, tmp_path):
    write_sidecar(tmp_path / "00000.labels.jsonl", [], {"file": "00000.tar", "bytes": 1}, {})
    with pytest.raises(ValueError, match="something else than a captions file"):
        CocoCaptions(*coco, labels=tmp_path)


def test_coco_mini_gives_the_labels_of_its_captions(tmp_path):
    pytest.importorskip("spacy")
    if not COCO_MINI.is_dir():
        pytest.skip(f"{COCO_MINI} is not there")
    from training.captions.sidecars import read_sidecar
    from training.prepare import PrepareConfig, prepare

    path = COCO_MINI / "annotations" / "captions_train2017.json"
    totals = prepare(PrepareConfig(str(path), str(tmp_path), tagger="shipped", workers=1))
    pairs = CocoCaptions(COCO_MINI / "train2017", path, tmp_path)
    labels = {}
    for record in read_sidecar(tmp_path / "00000.labels.jsonl"):
        labels.setdefault(record.key, []).append(list(record.labels))
    images = {path.stem: decode_image(path) for path in (COCO_MINI / "train2017").iterdir()}
    found = list(pairs)
    assert (len(found), totals.damages) == (80, 0)
    for pair in found:
        (key,) = [key for key, image in images.items() if np.array_equal(image, pair.image)]
        assert pair.labels in labels[key]
