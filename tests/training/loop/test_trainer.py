import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from synseg_model.files import write_whole
from training.loop.checkpoint import CHECKPOINT_FILE
from training.loop.collapse import CollapseError
from training.loop.config import TrainerConfig
from training.loop.log import LOG_FILE
from training.loop.optimizers import parameter_groups
from training.loop.schedule import rate_factor
from training.loop.trainer import BEST_FILE, Share, Trainer

HEALTHY = {"activation/mean": 0.3, "activation/pixels": 0.2, "activation/labels": 0.2}


class Line(nn.Module):
    """Fit y = 2x + 1 with a decoder of two numbers, over data that the step draws at random."""

    def __init__(self, poison=(), statistics=HEALTHY, at_step=None):
        super().__init__()
        self.decoder = nn.Linear(1, 1)
        nn.init.zeros_(self.decoder.weight)
        nn.init.zeros_(self.decoder.bias)
        self.poison, self.statistics, self.at_step, self.calls = set(poison), statistics, at_step, 0

    @property
    def averaged(self):
        return self.decoder

    def parameter_groups(self, config):
        return [{"params": list(self.decoder.parameters()), "lr": config.learning_rate, "peak": config.learning_rate}]

    def forward(self, part, averaged):
        x = part + 0.1 * torch.rand_like(part)  # randomness that a resumed run must repeat
        total = ((self.decoder(x) - 2 * x - 1) ** 2).mean()
        if self.calls in self.poison:
            total = total * math.nan
        if self.at_step:
            self.at_step(self.calls)
        self.calls += 1
        return {"total": total, **{name: torch.tensor(value) for name, value in self.statistics.items()}}


def batches(share: Share):
    step = share.start
    while True:
        x = torch.rand(share.batch, 1, generator=torch.Generator().manual_seed(step))
        yield list(x[share.rank :: share.world].chunk(share.parts))
        step += 1


def config(folder, **values):
    defaults = {"steps": 30, "batch": 8, "learning_rate": 0.05, "warmup": 3, "save_every": 5, "log_every": 1}
    return TrainerConfig(output=str(folder), accelerator="cpu", precision="32-true", **{**defaults, **values})


def run(folder, objective=None, resume=False, **values):
    objective = objective or Line()
    averaged = Trainer(config(folder, **values)).fit(objective, batches, resume=resume)
    return objective, averaged


def logged(folder):
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def test_training_lowers_the_loss_and_logs_every_step(tmp_path):
    run(tmp_path, learning_rate=0.2)
    lines = logged(tmp_path)
    assert [line["step"] for line in lines] == list(range(30))
    assert lines[-1]["total"] < lines[0]["total"] / 4
    assert {"images_per_second", "data_wait", "learning_rate", "gradient_norm"} <= set(lines[0])


@pytest.mark.parametrize("step", [4, 12, 29])
def test_a_run_that_stops_and_goes_on_ends_with_the_very_weights_of_an_unbroken_one(tmp_path, step):
    whole, whole_averaged = run(tmp_path / "whole")

    def interrupt(call):
        if call == step:
            os.kill(os.getpid(), signal.SIGINT)

    _, averaged = run(tmp_path / "broken", Line(at_step=interrupt))
    assert (averaged is None) == (step != 29), "the last step is a finished run"
    again, averaged = run(tmp_path / "broken", resume=True)
    for one, other in ((whole.decoder, again.decoder), (whole_averaged, averaged)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    keep = ("step", "total", "learning_rate", "gradient_norm")
    lines = [[{name: line[name] for name in keep} for line in logged(tmp_path / x)] for x in ("whole", "broken")]
    assert lines[0] == lines[1]


class Remembering(Line):
    """Weigh the loss by a memory of the images seen so far, which is a buffer."""

    def __init__(self, **values):
        super().__init__(**values)
        self.register_buffer("memory", torch.zeros(()))
        self.frozen = nn.Linear(1, 1).requires_grad_(False)

    def forward(self, part, averaged):
        losses = super().forward(part, averaged)
        self.memory.mul_(0.9).add_(0.1 * part.mean())
        return {**losses, "total": losses["total"] * (1 + self.memory.clone())}


def test_what_an_objective_remembers_is_kept_and_what_is_frozen_is_not(tmp_path):
    whole, _ = run(tmp_path / "whole", Remembering())
    stop = Remembering(at_step=lambda call: os.kill(os.getpid(), signal.SIGINT) if call == 12 else None)
    run(tmp_path / "broken", stop)
    saved = torch.load(tmp_path / "broken" / CHECKPOINT_FILE, weights_only=True)["weights"]
    assert set(saved) == {"decoder.weight", "decoder.bias", "memory"}
    again, _ = run(tmp_path / "broken", Remembering(), resume=True)
    assert again.memory.equal(whole.memory) and again.decoder.weight.equal(whole.decoder.weight)


def test_the_averaged_decoder_follows_the_trained_one(tmp_path):
    objective, averaged = run(tmp_path, ema=0.5)
    difference = (averaged.weight - objective.decoder.weight).abs().item()
    assert 0 < difference < objective.decoder.weight.abs().item() / 2


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    class Plain(Line):
        def forward(self, part, averaged):
            total = ((self.decoder(part) - 2 * part - 1) ** 2).mean()
            return {"total": total, **{name: torch.tensor(value) for name, value in HEALTHY.items()}}

    (one, _), (parts, _) = run(tmp_path / "one", Plain()), run(tmp_path / "parts", Plain(), accumulate=4)
    torch.testing.assert_close(one.decoder.weight, parts.decoder.weight)


def test_one_bad_batch_is_skipped_and_counted(tmp_path):
    objective, _ = run(tmp_path, Line(poison=[7]))
    assert math.isfinite(objective.decoder.weight.item())
    assert [line["step"] for line in logged(tmp_path) if line["skipped"]] == [7]


def test_a_loss_that_stays_broken_ends_the_run_with_advice(tmp_path):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        run(tmp_path, Line(poison=range(3, 30)))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"activation/mean": 0.0001}, "empty"),
        ({"activation/mean": 0.9999}, "full"),
        ({"activation/pixels": 0.0}, "flat"),
        ({"activation/labels": 0.0}, "same map"),
    ],
)
def test_maps_that_say_nothing_end_the_run_and_say_why(tmp_path, values, reason):
    with pytest.raises(CollapseError, match=reason):
        run(tmp_path, Line(statistics=HEALTHY | values), patience=5)
    assert len(logged(tmp_path)) == 4
    run(tmp_path / "endless", Line(statistics=HEALTHY | values), patience=0)


def test_an_older_run_is_not_overwritten(tmp_path):
    run(tmp_path, steps=5)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(ValueError, match="--resume"):
        run(tmp_path, steps=5)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


def test_checkpoints_of_another_seed_or_network_are_refused(tmp_path):
    run(tmp_path, steps=5)
    with pytest.raises(ValueError, match="seed 0"):
        run(tmp_path, steps=9, seed=1, resume=True)

    class Other(Line):
        def __init__(self):
            super().__init__()
            self.extra = nn.Linear(1, 1)

    with pytest.raises(ValueError, match=r"extra\.bias"):
        run(tmp_path, Other(), steps=9, resume=True)


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"batch": 6, "accumulate": 4}, "multiple of 4"),
        ({"steps": 0}, "steps is 0"),
        ({"ema": 1.0}, "ema is 1"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"budget_minutes": -1}, "budget_minutes is -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        TrainerConfig(**values)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("tpu9", "accelerator is 'tpu9': expected auto, cpu, cuda or mps"), ("cuda", "finds none here")],
)
def test_an_accelerator_that_is_not_there_is_refused(name, reason):
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match=reason):
        Trainer(TrainerConfig(accelerator=name))


def test_muon_needs_blocks(tmp_path):
    with pytest.raises(ValueError, match="no transformer blocks"):
        run(tmp_path, optimizer="muon")


def test_without_statistics_of_maps_nothing_collapses_and_without_an_average_the_last_weights_are_kept(tmp_path):
    objective, averaged = run(tmp_path, Line(statistics={}), patience=1, ema=0.0)
    assert averaged.weight.equal(objective.decoder.weight) and averaged.bias.equal(objective.decoder.bias)


class Block(Line):
    """Train a matrix with Muon."""

    def __init__(self, **values):
        super().__init__(**values)
        torch.manual_seed(0)
        self.decoder = nn.Linear(4, 4)

    def parameter_groups(self, config):
        return parameter_groups(self, 0.0, config.learning_rate, [self.decoder])

    def forward(self, part, averaged):
        return super().forward(part.expand(-1, 4), averaged)


def test_a_run_with_muon_goes_on_to_the_very_weights_of_an_unbroken_one(tmp_path):
    whole, _ = run(tmp_path / "whole", Block(), optimizer="muon")
    stop = Block(at_step=lambda call: os.kill(os.getpid(), signal.SIGINT) if call == 12 else None)
    assert run(tmp_path / "broken", stop, optimizer="muon")[1] is None
    again, _ = run(tmp_path / "broken", Block(), resume=True, optimizer="muon")
    assert again.decoder.weight.equal(whole.decoder.weight) and again.decoder.bias.equal(whole.decoder.bias)


def test_a_budget_of_time_ends_a_run_with_rates_that_fell_over_it(tmp_path):
    objective, averaged = run(tmp_path, steps=10**9, budget_minutes=0.01, warmup=1, learning_rate=0.1, save_every=10**9)
    rates = [line["learning_rate"] for line in logged(tmp_path)]
    assert averaged is not None and rates == sorted(rates, reverse=True) and rates[-1] < 0.01 < rates[0]
    saved = torch.load(tmp_path / CHECKPOINT_FILE, weights_only=True)
    assert saved["step"] == len(rates) and saved["seconds"] >= 0.6
    again = Line()
    assert run(tmp_path, again, steps=10**9, budget_minutes=0.01, resume=True)[1] is not None
    assert again.calls == 0 and again.decoder.weight.equal(objective.decoder.weight)


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    torch.save({"module": {}, "step": 3}, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(ValueError, match="of another program"):
        run(tmp_path, resume=True)


def test_rate_rises_linearly_and_falls_along_a_cosine():
    factors = [rate_factor(step / 100, step, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] > 0.97
    assert factors[50] == pytest.approx(0.5)
    assert factors[99] < 0.001


def test_a_time_limit_stops_with_a_checkpoint_and_resuming_ends_as_an_unbroken_run(tmp_path, capsys):
    whole, whole_averaged = run(tmp_path / "whole", steps=6)
    for step in range(1, 6):
        _, averaged = run(tmp_path / "limited", resume=True, steps=6, max_minutes=1e-9, save_every=100)
        assert averaged is None
        assert f"stopped after step {step}; go on with --resume" in capsys.readouterr().out
        assert torch.load(tmp_path / "limited" / CHECKPOINT_FILE, weights_only=True)["step"] == step
    again, averaged = run(tmp_path / "limited", resume=True, steps=6, max_minutes=1e-9)
    assert averaged is not None, "a run that is late in its last step is finished"
    for one, other in ((whole.decoder, again.decoder), (whole_averaged, averaged)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    totals = [[line["total"] for line in logged(tmp_path / name)] for name in ("whole", "limited")]
    assert totals[0] == totals[1]


def test_no_time_limit_is_the_default_and_a_long_one_does_not_stop(tmp_path):
    assert TrainerConfig().max_minutes == 0
    _, averaged = run(tmp_path, steps=5, max_minutes=60)
    assert averaged is not None


def validated(folder, scores, **values):
    """Run with a validation that gives the scores one after the other; returns the averages it was given."""
    given = []

    def validate(averaged):
        given.append({name: value.clone() for name, value in averaged.state_dict().items()})
        return {"nyu": 1.0, "score": scores[len(given) - 1]}

    return given, Trainer(config(folder, **values)).fit(Line(), batches, validate=validate)


def test_validation_keeps_the_weights_of_the_best_score(tmp_path):
    given, _ = validated(tmp_path, [10.0, 30.0, 20.0], steps=10, validate_every=4)
    assert len(given) == 3, "after steps 4 and 8, and after the last"
    best = load_file(tmp_path / BEST_FILE)
    assert all(torch.equal(best[name], given[1][name]) for name in best)
    assert not torch.equal(best["weight"], given[2]["weight"])
    measured = [(line["step"], line["validation/score"]) for line in logged(tmp_path) if "validation/score" in line]
    assert measured == [(3, 10.0), (7, 30.0), (9, 20.0)]


def test_the_best_score_outlives_a_stop(tmp_path):
    def fit(validate, **values):
        return Trainer(config(tmp_path, steps=6, validate_every=1, save_every=100, **values)).fit(
            Line(), batches, resume=True, validate=validate
        )

    fit(lambda _: {"score": 50.0}, max_minutes=1e-9)
    first = (tmp_path / BEST_FILE).read_bytes()
    fit(lambda _: {"score": 40.0})
    assert (tmp_path / BEST_FILE).read_bytes() == first


@pytest.mark.parametrize("every", [0, 100])
def test_validation_is_off_at_zero_and_otherwise_measures_the_end(tmp_path, every):
    given, averaged = validated(tmp_path, [1.0], steps=5, validate_every=every)
    assert len(given) == (every > 0)
    assert (tmp_path / BEST_FILE).exists() == (every > 0)
    assert averaged is not None


def test_images_are_drawn_from_the_averaged_module_every_so_many_steps(tmp_path):
    drawn = []

    def images(averaged):
        drawn.append(averaged)
        return {"maps": np.zeros((8, 8, 3), np.uint8)}

    averaged = Trainer(config(tmp_path, steps=7, image_every=3)).fit(Line(), batches, images)
    assert drawn == [averaged, averaged]
