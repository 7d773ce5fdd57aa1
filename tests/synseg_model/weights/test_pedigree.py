"""A model says how it met a label, and names the nearest one that it knows."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from synseg_model import ModelError, Segmenter
from synseg_model.cli import main as cli
from synseg_model.engines.load import load_engine
from synseg_model.weights.description import describe
from synseg_model.weights.exported_folder import NAMES_FILE, Export
from synseg_model.weights.find import check_model, read_pedigree
from synseg_model.weights.pedigree import Met, Pedigree

NAMES = {
    "mug": {"masks": 120, "captions": 14, "images": 0},
    "Traffic light": {"masks": 0, "captions": 14, "images": 0},
    "lynx": {"masks": 0, "captions": 0, "images": 3},
    "wall": {"masks": 1, "captions": 0, "images": 0},
    "ghost": {"masks": 0, "captions": 0, "images": 0},
}


def write_names(folder, names=NAMES):
    (folder / NAMES_FILE).write_text(json.dumps({"format": 1, "names": names}), encoding="utf-8")
    return folder


@pytest.fixture
def taught(small_model, tmp_path):
    """A model folder that says what it was taught."""
    return write_names(shutil.copytree(small_model, tmp_path / "taught"))


def test_a_label_is_known_as_it_was_taught_whatever_its_case_and_spaces(tmp_path):
    pedigree = Pedigree.read(write_names(tmp_path))
    assert pedigree.of(" MUG ") == Met(120, 14, 0)
    assert pedigree.of("traffic \n LIGHT") == Met(captions=14)
    assert not pedigree.of("mugs") and not pedigree.of("ghost")


def test_names_that_differ_in_case_alone_are_one_name():
    pedigree = Pedigree({"Mug": Met(masks=2), "mug": Met(masks=1, images=4), "cup ": Met(captions=1)})
    assert pedigree.of("mug") == Met(3, 0, 4)
    assert list(pedigree) == ["Mug", "cup"]


@pytest.mark.parametrize(
    ("met", "text"),
    [
        (Met(120), "taught by masks (120 images)"),
        (Met(1), "taught by masks (1 image)"),
        (Met(captions=14), "met in captions (14)"),
        (Met(images=3), "named whole images (3)"),
        (Met(2, 3, 4), "taught by masks (2 images), met in captions (3), named whole images (4)"),
        (Met(), "never met"),
    ],
)
def test_how_a_name_was_met_is_said_in_words(met, text):
    assert str(met) == text


def test_a_model_without_the_file_says_nothing_of_any_label(tmp_path, color_engine):
    assert not Pedigree.read(tmp_path)
    segmenter = Segmenter(color_engine, pedigree=Pedigree.read(tmp_path))
    assert segmenter.pedigree_of(segmenter.prepare_vocabulary(["mug"])) == ()
    assert color_engine.prompts == ["a photo of a mug."]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ('{"format": 1, "names": {"mug"', "delimiter"),
        ("\x00", "Expecting value"),
        ("[" * 100_000, "recursion"),
        ("[]", "expected"),
        ('{"format": 1}', "expected"),
        ('{"format": 2, "names": {}}', "format 2: this version of synseg reads format 1"),
        ('{"format": 1, "names": {"mug": 3}}', "name 'mug' is 3"),
        ('{"format": 1, "names": {"mug": {"masks": -1}}}', "masks of 'mug' is -1"),
        ('{"format": 1, "names": {"mug": {"captions": 1.5}}}', "captions of 'mug' is 1.5"),
        ('{"format": 1, "names": {"mug": {"images": true}}}', "images of 'mug' is True"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, text, reason):
    (tmp_path / NAMES_FILE).write_text(text)
    with pytest.raises(ModelError, match=reason) as caught:
        Pedigree.read(tmp_path)
    assert str(tmp_path / NAMES_FILE) in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_file_is_noticed_before_the_model_is_loaded(taught):
    check_model(taught)
    (taught / NAMES_FILE).write_text("{")
    with pytest.raises(ModelError, match=NAMES_FILE):
        check_model(taught)


def test_what_a_later_writer_adds_to_a_name_is_passed_over(tmp_path):
    write_names(tmp_path, {"mug": {"masks": 1, "videos": 7}})
    assert Pedigree.read(tmp_path).of("mug") == Met(masks=1)


def test_a_label_never_met_is_given_the_nearest_name_that_was(color_engine, tmp_path):
    segmenter = Segmenter(color_engine, cache_dir=tmp_path, pedigree=Pedigree.read(write_names(tmp_path)))
    labels, known = ["stapler", "MUG", "ghost"], ["mug", "wall", "Traffic light", "lynx"]
    texts = segmenter.pedigree_of(segmenter.prepare_vocabulary(labels))
    unit = [v / np.linalg.norm(v) for v in color_engine.encode_text([f"a photo of a {n}." for n in labels + known])]
    for index in (0, 2):
        cosines = [float(unit[index] @ vector) for vector in unit[3:]]
        best = int(np.argmax(cosines))
        assert texts[index] == f'never met; nearest known: "{known[best]}" ({cosines[best]:.2f})'
    assert texts[1] == "taught by masks (120 images), met in captions (14)"


def test_names_are_embedded_for_the_first_strange_label_and_then_kept(make_color_engine, tmp_path):
    engine, pedigree = make_color_engine(), Pedigree.read(write_names(tmp_path))
    segmenter = Segmenter(engine, cache_dir=tmp_path, pedigree=pedigree)
    segmenter.pedigree_of(segmenter.prepare_vocabulary(["mug"]))
    strange = segmenter.prepare_vocabulary(["stapler"])
    assert segmenter.pedigree_of(strange, nearest=False) == ("never met",)
    assert len(engine.prompts) == 2  # the labels alone
    told = segmenter.pedigree_of(strange)
    assert told[0].startswith("never met; nearest known: ")
    assert len(engine.prompts) == 6
    again = make_color_engine()
    segmenter = Segmenter(again, cache_dir=tmp_path, pedigree=pedigree)
    assert segmenter.pedigree_of(segmenter.prepare_vocabulary(["stapler"])) == told
    assert again.prompts == []


def test_names_can_be_embedded_in_pieces(color_engine, tmp_path):
    pedigree = Pedigree.read(write_names(tmp_path))
    at_once = Segmenter(color_engine, cache_dir=tmp_path / "a", pedigree=pedigree)
    pieces = Segmenter(color_engine, cache_dir=tmp_path / "b", pedigree=pedigree)
    missing = []
    while pieces.nearest_names.missing:
        missing.append(pieces.nearest_names.missing)
        pieces.nearest_names.embed(3)
    assert missing == [4, 1]
    before = len(color_engine.prompts)
    vocabulary = pieces.prepare_vocabulary(["stapler"])
    assert pieces.pedigree_of(vocabulary) == at_once.pedigree_of(at_once.prepare_vocabulary(["stapler"]))
    assert len(color_engine.prompts) == before + 1 + 1 + 4


def test_a_damaged_table_of_names_is_made_again(make_color_engine, tmp_path):
    pedigree = Pedigree.read(write_names(tmp_path))

    def tell(engine):
        segmenter = Segmenter(engine, cache_dir=tmp_path, pedigree=pedigree)
        return segmenter.pedigree_of(segmenter.prepare_vocabulary(["stapler"]))

    told = tell(make_color_engine())
    for path in (tmp_path / "text").iterdir():
        path.write_bytes(path.read_bytes()[:-5])
    engine = make_color_engine()
    assert tell(engine) == told
    assert len(engine.prompts) == 5


def test_a_loaded_model_brings_its_pedigree_and_the_engine_without_a_network_none(taught):
    assert Segmenter.load(taught, device="cpu").pedigree.of("mug")
    assert not Segmenter.load(taught, engine="null").pedigree


def test_an_exported_folder_carries_the_pedigree_under_its_seal(taught, small_graphs, tmp_path):
    from synseg_model.export.folder import export_model

    exported = tmp_path / "exported"
    assert NAMES_FILE in export_model(taught, exported, graphs=small_graphs).files
    assert Segmenter.load(exported, device="cpu").pedigree.of("lynx") == Met(images=3)
    text = (exported / NAMES_FILE).read_text()
    (exported / NAMES_FILE).write_text(text.replace("120", "999"))
    with pytest.raises(ModelError, match=f"{NAMES_FILE} is damaged or of another export"):
        read_pedigree(exported)
    (exported / NAMES_FILE).unlink()
    with pytest.raises(ModelError, match=f"no {NAMES_FILE} in .*incomplete"):
        load_engine(exported, device="cpu")


def test_a_folder_that_was_exported_without_names_works_and_trusts_none_that_are_put_there(exported_small, tmp_path):
    folder = write_names(shutil.copytree(exported_small, tmp_path / "old"))
    assert NAMES_FILE not in Export.read(folder).files
    assert not Segmenter.load(folder, device="cpu").pedigree
    assert load_engine(folder, device="cpu").name


def test_info_counts_the_names(taught):
    (line,) = (line for line in describe(taught) if line.startswith("names "))
    assert line.split(maxsplit=1)[1] == "4 known: 2 taught by masks, 2 met in captions, 1 named whole images"


def test_info_says_how_labels_were_met_without_torch_where_all_were(taught):
    code = (
        "import sys; from synseg_model.cli.main import main; status = main(sys.argv[1:]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "info", str(taught), "--labels", "Mug , traffic light,lynx"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Mug            taught by masks (120 images), met in captions (14)",
        "traffic light  met in captions (14)",
        "lynx           named whole images (3)",
    ]


def test_info_names_the_nearest_name_for_a_label_never_met(taught, capsys):
    assert cli.main(["info", str(taught), "--labels", "mug, stapler"]) == 0
    segmenter = Segmenter.load(taught, device="cpu")
    told = segmenter.pedigree_of(segmenter.prepare_vocabulary(["mug", "stapler"]))
    assert capsys.readouterr().out.splitlines() == [f"mug      {told[0]}", f"stapler  {told[1]}"]
    assert 'never met; nearest known: "' in told[1]


@pytest.mark.parametrize(
    ("labels", "reason"), [(" , ", "no labels: expected at least one"), ("mug, " + "very " * 80, "is too long")]
)
def test_info_refuses_labels_that_are_none(taught, capsys, labels, reason):
    assert cli.main(["info", str(taught), "--labels", labels]) == 2
    assert reason in capsys.readouterr().err


def test_info_on_labels_of_a_model_without_names_says_so(small_model, capsys):
    assert cli.main(["info", str(small_model), "--labels", "mug"]) == 2
    assert "does not say which names it was taught" in capsys.readouterr().err
