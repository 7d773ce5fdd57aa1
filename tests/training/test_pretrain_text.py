"""The small text encoder learns from a teacher, here a random one."""

from __future__ import annotations

import gzip
import json

import pytest
import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import load_file
from torch.nn import functional as F

from training.loop.config import TrainerConfig
from training.loop.schedule import rate_factor
from training.networks import text_student as student
from training.objective.distillation import loss_of
from training.pretrain_text import PretrainTextConfig, train
from training.words import lesson, teacher
from training.words.lesson import draw
from training.words.merges import MERGES_FILE, learn_merges, write_merges
from training.words.phrases import MEASURED_FILE, PHRASES_FILE

transformers = pytest.importorskip("transformers")

NOUNS = ["sofa", "couch", "settee", "dog", "cat", "car", "tree", "lamp", "road", "cup"]
COLORS = ["red", "green", "blue", "white"]


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    """A random BERT of two layers that knows the words of these tests."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("teacher")
    words = ["[PAD]", "[UNK]", *NOUNS, *COLORS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    lines = ["name\tsofa\tcouch", "name\tcouch\tsofa", *(f"name\t{noun}" for noun in NOUNS[2:])]
    lines += [f"adjective\t{color} {noun}" for color in COLORS for noun in NOUNS]
    (folder / PHRASES_FILE).write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    pairs = {"trained": [["sofa", "couch"]], "held_out": [["sofa", "settee"]]}
    names = [noun for noun in NOUNS if noun not in ("couch", "settee")]
    (folder / MEASURED_FILE).write_text(json.dumps({"names": names, "pairs": pairs}))
    write_merges(folder / MERGES_FILE, learn_merges(dict.fromkeys([*NOUNS, *COLORS], 3), 560))
    return folder


@pytest.fixture
def config(teacher_folder, data_folder, tmp_path):
    trainer = TrainerConfig(
        output=str(tmp_path / "text"), steps=60, batch=32, warmup=5, learning_rate=5e-3, least_rate=0.01,
        clip_norm=1.0, ema=0.0, betas=(0.9, 0.98), accelerator="cpu", precision="fast",
    )  # fmt: skip
    return PretrainTextConfig(
        teacher=str(teacher_folder), data=str(data_folder), width=32, heads=2, layers=1, context_length=8, held_out=6,
        trainer=trainer,
    )  # fmt: skip


def tower_of(folder):
    made = json.loads((folder / "text.json").read_text())
    tower = TextTransformer(**made["text_cfg"])
    tower.load_state_dict(load_file(folder / "text.safetensors"))
    return tower.float().eval(), made


def test_the_student_comes_near_its_teacher_and_pulls_synonyms_together(config):
    folder = train(config)
    tower, made = tower_of(folder)
    results = made["results"]
    assert results["held_out"]["all"]["phrases"] == 6
    assert results["held_out"]["all"]["cosine"] > 0.5
    trained = results["synonyms"]["trained"]
    assert trained["student"]["cosine"] > trained["teacher"]["cosine"] + 0.1
    tokenizer = student.load_tokenizer(folder / MERGES_FILE, 8)
    sofa, couch = student.embed(tower, tokenizer, ["sofa", "couch"])
    assert sofa @ couch == pytest.approx(trained["pairs"]["sofa - couch"]["student"], abs=1e-3)
    assert load_file(folder / "text.safetensors")["token_embedding.weight"].dtype == torch.float16


def test_the_same_seed_gives_the_same_student(config):
    config.trainer.steps = 5
    first = (train(config) / "text.safetensors").read_bytes()
    config.trainer.output += "-again"
    assert (train(config) / "text.safetensors").read_bytes() == first


def test_a_resumed_run_ends_as_one_that_was_never_stopped(config, monkeypatch):
    config.trainer.steps, config.trainer.save_every = 8, 1
    whole = load_file(train(config) / "text.safetensors")
    config.trainer.output += "-stopped"
    batches = []

    def draw_five(*arguments):
        if len(batches) == 5:
            raise KeyboardInterrupt
        batches.append(draw(*arguments))
        return batches[-1]

    monkeypatch.setattr(lesson, "draw", draw_five)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    config.resume = True
    resumed = load_file(train(config) / "text.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_ends_when_its_time_is_over(config):
    config.trainer.steps, config.trainer.budget_minutes = 1_000_000, 0.01
    _, made = tower_of(train(config))
    assert made["results"]["steps"] < 1_000_000
    assert made["results"]["seconds"] < 30


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("heads", 3, "--width 32 is no multiple of --heads 3"),
        ("prefixes", 2.0, "--prefixes is 2.0; it is a share"),
        ("teacher", "nowhere", r"--teacher nowhere: no config\.json there"),
        ("data", "nowhere", r"nowhere has no phrases\.txt\.gz"),
    ],
)
def test_settings_that_cannot_be_used_are_named(config, name, value, message):
    setattr(config, name, value)
    with pytest.raises(ValueError, match=message):
        train(config)


def test_the_teacher_is_averaged_over_its_tokens(teacher_folder):
    texts = ["red sofa", "dog", "blue tree cup", "car"]
    embedded = teacher.embed(teacher_folder, texts, torch.device("cpu"), batch=3)
    model = transformers.BertModel.from_pretrained(teacher_folder).eval()
    with torch.no_grad():
        ids = torch.tensor([[2 + len(NOUNS), 2]])
        expected = F.normalize(model(input_ids=ids).last_hidden_state[0].mean(dim=0), dim=0)
    torch.testing.assert_close(embedded[0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(4))


def test_kept_embeddings_serve_only_the_texts_that_they_are_of(teacher_folder, tmp_path):
    device = torch.device("cpu")
    first = teacher.embed_once(teacher_folder, ["dog", "cat"], device, tmp_path)
    torch.testing.assert_close(
        teacher.embed_once(teacher_folder, ["dog", "cat"], device, tmp_path), first, atol=1e-3, rtol=0
    )
    other = teacher.embed_once(teacher_folder, ["cat", "dog"], device, tmp_path)
    torch.testing.assert_close(other, first.flip(0), atol=1e-3, rtol=0)


def test_targets_pull_synonyms_and_leave_other_words():
    embedded = F.normalize(torch.eye(3) + 0.1, dim=1)
    mean = torch.zeros(3)
    pulled = teacher.targets(embedded, mean, [[0, 1], [1, 0], [2]], alpha=1.0)
    plain = teacher.targets(embedded, mean, [[0], [1], [2]], alpha=1.0)
    torch.testing.assert_close(plain, embedded)
    torch.testing.assert_close(pulled[2], embedded[2])
    assert pulled[0] @ pulled[1] > embedded[0] @ embedded[1] + 0.2
    torch.testing.assert_close(pulled[0], F.normalize(1.5 * embedded[0] + 0.5 * embedded[1], dim=0))


def test_the_loss_is_zero_for_the_target_itself_and_counts_wrong_similarities():
    target = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    loss, cosine = loss_of(3 * target, target, relational=1.0, related=6)
    assert loss.item() == pytest.approx(0, abs=1e-6) and cosine.item() == pytest.approx(1)
    collapsed = target[:1].expand(6, -1)
    assert loss_of(collapsed, target, 1.0, 6)[0] > loss_of(collapsed, target, 0.0, 6)[0]


def test_the_rate_rises_and_falls():
    assert rate_factor(0.0, 0, 10, 0.01) == pytest.approx(0.1)
    assert rate_factor(0.5, 500, 10, 0.01) == pytest.approx(0.5)
    assert rate_factor(1.0, 1000, 10, 0.01) == pytest.approx(0.01)


def test_cut_texts_embed_as_open_clip_embeds_them():
    torch.manual_seed(0)
    tower = TextTransformer(context_length=8, vocab_size=50, width=16, heads=2, layers=2, output_dim=12).eval()
    tokens = torch.tensor([[48, 5, 49, 0, 0, 0, 0, 0], [48, 5, 6, 7, 49, 0, 0, 0]])
    torch.testing.assert_close(student.encode(tower, tokens), tower(tokens))


def test_prefixes_stand_behind_the_start_mark_and_never_push_out_the_end():
    tokens = torch.tensor([[8, 1, 9, 0], [8, 1, 2, 9]])
    assert student.prefixed(tokens, torch.tensor([5])).tolist() == [[8, 5, 1, 9], [8, 1, 2, 9]]
