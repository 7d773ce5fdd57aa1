"""The way from the web: images and captions behind HTTP, img2dataset, shards, labels, pairs for training."""

import json
import subprocess
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

pytest.importorskip("spacy")

from training.captions.samples import CaptionSample
from training.captions.sidecars import read_header, read_sidecar
from training.captions.work import Settings, label_samples
from training.datasets.pairs import decode_image
from training.datasets.webdataset_pairs import WebdatasetPairs
from training.prepare import PrepareConfig, prepare
from training.train import run as train

ROOT = Path(__file__).resolve().parents[2]
COCO_MINI = ROOT.parent / "shared" / "data" / "coco-mini"
IMAGES = 24


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def img2dataset():
    """The command; the first time ever it downloads an environment of its own, which takes minutes."""
    command = ROOT / "scripts" / "img2dataset"
    made = subprocess.run([str(command)], capture_output=True, text=True, timeout=1800, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    return command


@pytest.fixture
def image_server():
    """Serve COCO-mini's images on the loopback address; gives the address."""
    if not COCO_MINI.is_dir():
        pytest.skip(f"{COCO_MINI} is not there")
    handler = partial(QuietHandler, directory=str(COCO_MINI / "train2017"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def write_url_list(path, address):
    """Write url and caption of some images, and one address where nothing is; returns captions by address."""
    data = json.loads((COCO_MINI / "annotations" / "captions_train2017.json").read_text())
    captions = {a["image_id"]: a["caption"].strip() for a in sorted(data["annotations"], key=lambda a: -a["id"])}
    rows = {f"{address}/{i['file_name']}": captions[i["id"]] for i in data["images"][:IMAGES]}
    lines = [f"{url}\t{caption}\n" for url, caption in rows.items()]
    path.write_text("".join(["url\tcaption\n", *lines, f"{address}/gone.jpg\ta dog on a sofa\n"]))
    return rows


@pytest.mark.slow
def test_images_behind_http_become_pairs_that_training_takes(img2dataset, image_server, tmp_path):
    rows, shards = write_url_list(tmp_path / "web.tsv", image_server), tmp_path / "shards"
    arguments = {
        "url_list": tmp_path / "web.tsv",
        "input_format": "tsv",
        "url_col": "url",
        "caption_col": "caption",
        "output_format": "webdataset",
        "output_folder": shards,
        "image_size": 224,
        "resize_mode": "keep_ratio",
        "number_sample_per_shard": 10,
        "processes_count": 1,
        "thread_count": 4,
        "enable_wandb": False,
    }
    done = subprocess.run(
        [str(img2dataset), *(f"--{name}={value}" for name, value in arguments.items())],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]

    totals = prepare(PrepareConfig(str(shards), tagger="shipped", workers=1))

    assert (totals.shards, totals.captions, totals.damages) == (3, IMAGES, 0)
    assert totals.kept_share > 0.7
    expected = []
    for path in sorted(shards.glob("*.tar")):
        sidecar = path.with_suffix(".labels.jsonl")
        with tarfile.open(path) as tar:
            contents = {name: tar.extractfile(name).read() for name in tar.getnames()}
        keys = [name.removesuffix(".jpg") for name in contents if name.endswith(".jpg")]
        addresses = [json.loads(contents[f"{key}.json"])["url"] for key in keys]
        captions = [CaptionSample(key, rows.pop(address)) for key, address in zip(keys, addresses, strict=True)]
        records = label_samples(captions, Settings(**read_header(sidecar).settings))
        assert list(read_sidecar(sidecar)) == records
        expected += [(contents[f"{record.key}.jpg"], list(record.labels)) for record in records if record.labels]
    assert rows == {}

    pairs = list(WebdatasetPairs(shards))

    assert len(pairs) == len(expected) == totals.kept
    assert all(min(pair.image.shape[:2]) == 224 for pair in pairs)
    for image, labels in expected:
        image = decode_image(image)
        assert [pair.labels for pair in pairs if np.array_equal(pair.image, image)] == [labels]

    settings = {
        "data.source": "webdataset",
        "data.shards": shards,
        "batches.image_size": 64,
        "trainer.output": tmp_path / "run",
        "trainer.steps": 2,
        "trainer.batch": 4,
        "trainer.log_every": 1,
        "trainer.accelerator": "cpu",
        "evaluate": 0,
    }
    assert train([f"--{name}={value}" for name, value in settings.items()]) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(log) == 2 and all(np.isfinite(line["total"]) for line in log)
    assert (tmp_path / "run" / "model" / "weights.safetensors").exists()
