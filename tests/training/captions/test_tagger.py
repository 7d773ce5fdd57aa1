"""The tagger that ships is small, as good as it says, free of pickles, and gives the labels that a reader wants."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

spacy = pytest.importorskip("spacy")

from training import train_tagger  # noqa: E402
from training.captions.extraction import head_noun  # noqa: E402
from training.captions.samples import CaptionSample  # noqa: E402
from training.captions.stop_words import stop_list  # noqa: E402
from training.captions.taggers import SHIPPED_TAGGER, load_tagger  # noqa: E402
from training.captions.treebank import read_treebank  # noqa: E402
from training.captions.work import Settings, label_samples  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
TREEBANK = ROOT.parent / "shared" / "data" / "ud-english-ewt"
HAND_LABELLED = ROOT / "tests" / "data" / "coco_mini_labels.json"


@pytest.fixture(scope="module")
def meta():
    return json.loads((SHIPPED_TAGGER / "meta.json").read_text())


def shipped_settings(min_labels=1):
    return Settings("shipped", load_tagger("shipped").name, stop_list().version, min_labels)


def precision_and_recall(expected, found):
    """Micro-averaged over the captions' label sets."""
    hits = sum(len(set(a) & set(b)) for a, b in zip(expected, found, strict=True))
    return hits / sum(map(len, map(set, found))), hits / sum(map(len, map(set, expected)))


@pytest.mark.parametrize(("what", "floor_precision", "floor_recall"), [("labels", 0.90, 0.86), ("nouns", 0.95, 0.92)])
def test_labels_of_hand_checked_captions_are_found(what, floor_precision, floor_recall):
    captions = json.loads(HAND_LABELLED.read_text(encoding="utf-8"))["captions"]
    assert len(captions) == 100
    records = label_samples([CaptionSample(str(c["caption_id"]), c["caption"]) for c in captions], shipped_settings())
    expected, found = [c["labels"] for c in captions], [record.labels for record in records]
    if what == "nouns":
        expected, found = ([[head_noun(label) for label in group] for group in side] for side in (expected, found))
    precision, recall = precision_and_recall(expected, found)
    print(f"{what}: precision {precision:.3f}, recall {recall:.3f}")
    assert precision >= floor_precision
    assert recall >= floor_recall


def test_hand_checked_captions_are_as_coco_has_them():
    source = ROOT.parent / "shared" / "data" / "coco-mini" / "annotations" / "captions_train2017.json"
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    published = {a["id"]: (a["image_id"], a["caption"]) for a in json.loads(source.read_text())["annotations"]}
    for row in json.loads(HAND_LABELLED.read_text(encoding="utf-8"))["captions"]:
        assert published[row["caption_id"]] == (row["image_id"], row["caption"])


def test_shipped_tagger_is_small_and_names_its_licence_origin_and_command(meta):
    assert train_tagger.folder_bytes(SHIPPED_TAGGER) <= 6_000_000
    assert meta["license"] == "CC BY-SA 4.0"
    assert "Attribution-ShareAlike 4.0" in (SHIPPED_TAGGER / "LICENSE.txt").read_text()
    assert meta["training"]["command"].startswith("python -m training.train_tagger")
    assert isinstance(meta["training"]["seed"], int)
    assert meta["performance"]["tag_acc"] >= 0.90


def test_shipped_tagger_holds_no_pickle():
    magic = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    files = [path for path in SHIPPED_TAGGER.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if path.read_bytes()[:2] in magic or path.suffix in {".pkl", ".pickle"}] == []


@pytest.mark.slow
def test_shipped_tagger_is_as_accurate_as_its_meta_says(meta):
    if not TREEBANK.is_dir():
        pytest.skip(f"{TREEBANK} is not there")
    sentences = list(read_treebank(TREEBANK / train_tagger.DEV_FILE))
    measured = train_tagger.evaluate(spacy.load(SHIPPED_TAGGER), sentences)
    assert measured == pytest.approx(meta["performance"], abs=0.002)


def test_spacys_own_pipeline_is_taken_where_it_is_installed(tmp_path, monkeypatch):
    package = tmp_path / "en_core_web_sm"
    shutil.copytree(SHIPPED_TAGGER, package)
    meta = json.loads((package / "meta.json").read_text()) | {"name": "core_web_sm", "version": "3.8.0"}
    (package / "meta.json").write_text(json.dumps(meta))
    folder = tmp_path / "en_core_web_sm-3.8.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: en_core_web_sm\nVersion: 3.8.0\n")
    (package / "__init__.py").write_text(
        "from pathlib import Path\nfrom spacy.util import load_model_from_path\n"
        "def load(**overrides):\n    return load_model_from_path(Path(__file__).parent, **overrides)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    load_tagger.cache_clear()
    try:
        assert load_tagger("auto").name == "en_core_web_sm 3.8.0"
        assert load_tagger("auto").source == "en_core_web_sm"
    finally:
        load_tagger.cache_clear()


def test_shipped_tagger_is_taken_where_spacys_is_not_installed(monkeypatch):
    monkeypatch.setattr(spacy.util, "is_package", lambda name: False)
    load_tagger.cache_clear()
    try:
        assert load_tagger("auto").source == "shipped"
    finally:
        load_tagger.cache_clear()


def test_tagger_that_is_not_there_is_refused_with_what_is_accepted():
    with pytest.raises(ValueError, match="Accepted: auto, shipped"):
        load_tagger("no_such_pipeline")


def test_pipeline_without_tags_and_lemmas_is_refused(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(ValueError, match="gives no tags and no lemmas"):
        load_tagger(str(tmp_path / "blank"))


def test_worker_with_another_tagger_refuses_the_work():
    settings = Settings("shipped", "en_core_web_sm 3.8.0", stop_list().version, 2)
    with pytest.raises(ValueError, match="install the same on every machine"):
        label_samples([CaptionSample("0", "a dog")], settings)


CONLLU = """\
# text = I don't know 8 dogs.
1\tI\tI\tPRON\tPRP\t_\t0\t_\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t0\t_\t_\t_
3\tn't\tnot\tPART\tRB\t_\t0\t_\t_\t_
4\tknow\tknow\tVERB\tVB\t_\t0\t_\t_\t_
4.1\tof\tof\tADP\tIN\t_\t_\t_\t_\t_
5\tdogs\tdog\tNOUN\tNNS\t_\t0\t_\t_\tSpaceAfter=No
6\t.\t.\tPUNCT\t.\t_\t0\t_\t_\t_
"""


def test_treebank_gives_the_parts_of_contractions_and_no_invisible_words(tmp_path):
    path = tmp_path / "x.conllu"
    path.write_text(CONLLU)  # no empty line at its end
    (sentence,) = read_treebank(path)
    assert sentence.words == ["I", "do", "n't", "know", "dogs", "."]
    assert sentence.tags == ["PRP", "VBP", "RB", "VB", "NNS", "."]
    assert sentence.lemmas == ["I", "do", "not", "know", "dog", "."]
    assert sentence.spaces == [True, False, True, True, False, True]


def test_damaged_treebank_is_refused_by_its_line(tmp_path):
    path = tmp_path / "x.conllu"
    path.write_text("1\tdog\n")
    with pytest.raises(ValueError, match="line 1: 2 columns"):
        list(read_treebank(path))


@pytest.mark.slow
def test_training_writes_a_tagger_that_knows_what_it_was_shown_and_does_so_again(tmp_path):
    treebank = tmp_path / "treebank"
    treebank.mkdir()
    rows = [
        ("A", "DT", "a"),
        ("red", "JJ", "red"),
        ("dog", "NN", "dog"),
        ("sees", "VBZ", "see"),
        ("cats", "NNS", "cat"),
    ]
    sentence = "".join(f"{i}\t{w}\t{lemma}\t_\t{t}\t_\t0\t_\t_\t_\n" for i, (w, t, lemma) in enumerate(rows, 1)) + "\n"
    for name in (train_tagger.TRAIN_FILE, train_tagger.DEV_FILE):
        with gzip.open(treebank / name, "wt") as file:
            file.write(sentence * 20)
    (treebank / train_tagger.LICENCE_FILE).write_text("licence")
    models = []
    for name in ("a", "b"):
        config = train_tagger.TrainTaggerConfig(str(treebank), str(tmp_path / name), epochs=10)
        train_tagger.train(config, ["--epochs", "10"])
        models.append((tmp_path / name / "tok2vec" / "model").read_bytes())
    meta = json.loads((tmp_path / "a" / "meta.json").read_text())
    assert meta["performance"]["tag_acc"] == 1.0
    assert meta["performance"]["plural_lemma_acc"] == 1.0
    assert meta["training"]["command"] == "python -m training.train_tagger --epochs 10"
    assert models[0] == models[1]


def test_training_without_the_treebank_says_which_files_lack(tmp_path):
    config = train_tagger.TrainTaggerConfig(str(tmp_path), str(tmp_path / "out"))
    with pytest.raises(ValueError, match="lacks en_ewt-ud-train"):
        train_tagger.train(config)
