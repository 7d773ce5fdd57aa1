"""Text embeddings: computed once, kept on disk, and correct whatever lies there."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from synseg_model.files import default_folder
from synseg_model.text.embedding_cache import TextCache

LABELS = ["car", "tree", "天空"]


@pytest.fixture
def warnings_of_cache(caplog):
    caplog.set_level(logging.WARNING, "synseg_model.text.embedding_cache")
    return lambda: [record for record in caplog.records if record.levelno >= logging.WARNING]


def files(folder: Path) -> list[Path]:
    return sorted((folder / "text").iterdir())


def test_labels_are_put_into_the_models_template(color_engine, tmp_path):
    embeddings = TextCache(color_engine, tmp_path).embed(["car"])
    assert color_engine.prompts == ["a photo of a car."]
    np.testing.assert_array_equal(embeddings, color_engine.encode_text(["a photo of a car."]))


def test_braces_in_labels_are_text(color_engine, tmp_path):
    TextCache(color_engine, tmp_path).embed(["{} {0} {x}"])
    assert color_engine.prompts == ["a photo of a {} {0} {x}."]


def test_templates_are_averaged_as_they_are_without_normalisation(make_color_engine, tmp_path):
    engine = make_color_engine(templates=("{}", "a {}"), normalize_text=False)
    expected = engine.encode_text(["car", "a car"]).mean(axis=0)
    np.testing.assert_allclose(TextCache(engine, tmp_path).embed(["car"])[0], expected, rtol=1e-6)


def test_with_normalisation_unit_vectors_are_averaged_and_made_unit_again(make_color_engine, tmp_path):
    engine = make_color_engine(templates=("{}", "a {}"), normalize_text=True)
    raw = engine.encode_text(["car", "a car"]).astype(np.float64)
    mean = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(TextCache(engine, tmp_path).embed(["car"])[0], mean / np.linalg.norm(mean), rtol=1e-5)


def test_each_label_is_encoded_once_in_a_process(color_engine, tmp_path):
    cache = TextCache(color_engine, tmp_path)
    first = cache.embed(LABELS)
    second = cache.embed(["sky", *LABELS[::-1]])
    assert len(color_engine.prompts) == 4
    np.testing.assert_array_equal(second[1:], first[::-1])


def test_another_process_finds_the_embeddings_on_disk(make_color_engine, tmp_path):
    first = TextCache(make_color_engine(), tmp_path).embed(LABELS)
    engine = make_color_engine()
    np.testing.assert_array_equal(TextCache(engine, tmp_path).embed(LABELS), first)
    assert engine.prompts == []
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize(
    "change",
    [{"fingerprint": "11"}, {"templates": ("{}",)}, {"normalize_text": True}],
    ids=["fingerprint", "templates", "normalisation"],
)
def test_embeddings_of_another_model_are_not_used(make_color_engine, tmp_path, change):
    TextCache(make_color_engine(), tmp_path).embed(LABELS)
    engine = make_color_engine(**change)
    TextCache(engine, tmp_path).embed(LABELS)
    assert len(engine.prompts) == 3


def _zeros(path: Path) -> None:
    np.save(path, np.zeros(16, np.float32))


def _not_a_number(path: Path) -> None:
    np.save(path, np.full(16, np.nan, np.float32))


def _objects(path: Path) -> None:
    np.save(path, np.array([print], dtype=object), allow_pickle=True)


def _other_width(path: Path) -> None:
    np.save(path, np.ones(7, np.float32))


def _huge_claim(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"(16,), }           ", b"(160000000000,), } "))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(os.urandom(200)),
        lambda path: path.write_bytes(b"\x93NUMPY" + bytes(3 * 2**20)),
        _zeros,
        _not_a_number,
        _objects,
        _other_width,
        _huge_claim,
    ],
    ids=["empty", "cut", "noise", "large", "zeros", "nan", "pickle", "other-width", "huge-claim"],
)
def test_a_damaged_file_is_computed_again_and_replaced(make_color_engine, tmp_path, damage):
    expected = TextCache(make_color_engine(), tmp_path).embed(LABELS)
    before = files(tmp_path)[1].read_bytes()
    damage(files(tmp_path)[1])
    assert files(tmp_path)[1].read_bytes() != before
    engine = make_color_engine()
    np.testing.assert_array_equal(TextCache(engine, tmp_path).embed(LABELS), expected)
    assert engine.prompts
    assert files(tmp_path)[1].read_bytes() == before
    assert len(files(tmp_path)) == 3


def test_a_folder_that_cannot_be_made_costs_one_warning(color_engine, tmp_path, warnings_of_cache):
    (tmp_path / "file").write_text("in the way")
    cache = TextCache(color_engine, tmp_path / "file")
    first = cache.embed(LABELS)
    cache.embed(["more"])
    np.testing.assert_array_equal(cache.embed(LABELS), first)
    assert len(color_engine.prompts) == 4
    assert len(warnings_of_cache()) == 1
    assert "in memory only" in warnings_of_cache()[0].getMessage()


def test_a_full_disk_costs_one_warning_and_leaves_no_rubbish(color_engine, tmp_path, warnings_of_cache, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert TextCache(color_engine, tmp_path).embed(LABELS).shape == (3, 16)
    assert files(tmp_path) == []
    assert [record.getMessage() for record in warnings_of_cache()] == [
        f"text cache: cannot write to {tmp_path / 'text'} (No space left on device): embeddings are kept in memory only"
    ]


def test_memory_is_bounded(color_engine, tmp_path, monkeypatch):
    monkeypatch.setattr("synseg_model.text.embedding_cache.REMEMBERED", 2)
    cache = TextCache(color_engine, tmp_path)
    expected = cache.embed(LABELS)
    assert len(cache._memory) == 2
    np.testing.assert_array_equal(cache.embed(LABELS), expected)


def test_many_threads_get_the_same_embeddings_and_encode_each_label_once(color_engine, tmp_path):
    cache = TextCache(color_engine, tmp_path)
    labels = [f"label {i}" for i in range(40)]
    start, results = threading.Barrier(8), []

    def work(offset: int) -> None:
        start.wait()
        mine = labels[offset:] + labels[:offset]
        results.append(np.roll(cache.embed(mine), offset, axis=0))

    threads = [threading.Thread(target=work, args=(5 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all((result == results[0]).all() for result in results)
    assert sorted(color_engine.prompts) == sorted(f"a photo of a {label}." for label in labels)


WRITER = """
import sys
import numpy as np
from types import SimpleNamespace
from synseg_model.text.embedding_cache import TextCache
config = SimpleNamespace(templates=("{}",), normalize_text=False)
engine = SimpleNamespace(
    config=config, fingerprint="aa", encode_text=lambda texts: np.array([[len(t), 1.5] for t in texts], np.float32)
)
print("ready", flush=True)
sys.stdin.readline()
labels = [f"label {i}" for i in range(100)]
assert (TextCache(engine, sys.argv[1]).embed(labels) == engine.encode_text(labels)).all()
"""


def test_several_processes_share_a_folder(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(files(tmp_path)) == 100
    assert all(path.suffix == ".npy" for path in files(tmp_path))


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNSEG_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "own"
    monkeypatch.delenv("SYNSEG_CACHE_DIR")
    assert default_folder() == tmp_path / "xdg" / "synseg"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "synseg"
