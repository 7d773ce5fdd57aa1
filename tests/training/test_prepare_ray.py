"""The same work on a Ray cluster of two machines, here two node processes with one CPU each."""

import pytest

pytest.importorskip("spacy")
ray = pytest.importorskip("ray")

from training.captions.runners import run_ray  # noqa: E402
from training.captions.sidecars import read_sidecar  # noqa: E402
from training.captions.sources import find_shards  # noqa: E402
from training.captions.stop_words import stop_list  # noqa: E402
from training.captions.work import Settings  # noqa: E402
from training.prepare import PrepareConfig, prepare  # noqa: E402


@pytest.mark.slow
def test_cluster_of_two_workers_writes_the_bytes_that_one_process_writes(ray_cluster, tmp_path):
    path = tmp_path / "cc12m.tsv"
    path.write_text("".join(f"http://x/{i}\ta brown dog on a sofa by table {i}\n" for i in range(60)))
    written = {}
    for runner in ("local", "ray"):
        totals = prepare(
            PrepareConfig(
                str(path),
                str(tmp_path / runner),
                tagger="shipped",
                runner=runner,
                workers=1 if runner == "local" else 0,
                ray_address=ray_cluster.address,
                shard_size=10,
            )
        )
        assert (totals.shards, totals.fresh, totals.kept) == (6, 60, 60)
        written[runner] = {p.name: p.read_bytes() for p in (tmp_path / runner).glob("*.labels.jsonl")}
    assert written["ray"] == written["local"]
    first = next(read_sidecar(tmp_path / "ray" / "00000.labels.jsonl"))
    assert first.labels == ("brown dog", "sofa", "table")


@pytest.mark.slow
def test_shard_that_fails_on_the_cluster_ends_the_work_with_its_reason(ray_cluster, tmp_path):
    path = tmp_path / "cc12m.tsv"
    path.write_text("http://x/1\ta dog\n")
    settings = Settings("shipped", "another tagger 1.0", stop_list().version, 2)
    with pytest.raises(RuntimeError, match=r"(?s)gave up on a shard.*install the same on every machine"):
        list(run_ray(find_shards(str(path))[0], settings, 0, ray_cluster.address))


def test_address_where_no_cluster_answers_is_refused(tmp_path):
    path = tmp_path / "cc12m.tsv"
    path.write_text("http://x/1\ta dog\n")
    with pytest.raises(ValueError, match="no Ray cluster answers at"):
        prepare(PrepareConfig(str(path), tagger="shipped", runner="ray", ray_address="127.0.0.1:1"))
