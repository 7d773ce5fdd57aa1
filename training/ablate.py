"""Compare objectives, or optional parts, on generated scenes over several seeds: `python -m training.ablate`.

Every row is one run of `training.train` per seed, measured on held-out scenes of that seed. All rows but one start from
the decoder of the first row. `--parts npr,cmpa,sgc` compares with and without parts of related papers instead, and
draws images. Finished runs are kept and a broken run continues, so the same command can be repeated.
"""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import jsonargparse
import torch
from tqdm import tqdm

from synseg_model.engines.torch import choose_device
from synseg_model.files import write_json
from synseg_model.segmenter import Segmenter
from synseg_model.weights.model_folder import load_model
from training.ablation import cost, report
from training.ablation.images import ImageRows
from training.ablation.rows import Row, chosen_rows
from training.datasets.augmentation import BatchConfig
from training.datasets.batches import BatchSource
from training.datasets.pairs import Pairs
from training.datasets.sources import DataConfig, open_pairs
from training.evaluation.scenes import HeldOut, held_out, measure_scenes
from training.loop.collapse import CollapseError
from training.loop.command_line import INTERRUPTED
from training.loop.config import TrainerConfig
from training.networks.text_embedding import TextEmbedder
from training.objective.objective import CaptionObjective, ObjectiveConfig
from training.train import TrainConfig, open_masks, shown_labels, starting_network, train

IMAGES = 4  # of the figure


def short_run() -> TrainConfig:
    """Return the settings that all rows share: a short run on few labels, as there are many rows."""
    return TrainConfig(
        decoder="masks",
        data=DataConfig(scenes=800),
        batches=BatchConfig(image_size=0, labels=4, absent=3),
        trainer=TrainerConfig(steps=100, batch=8, warmup=10, ema=0.97, save_every=50, image_every=0),
    )


@dataclass
class AblateConfig:
    """What to compare.

    Args:
        train: settings that all runs share. The comparison sets objective, seed and output.
        seeds: seeds of the runs, and of the scenes that each run is measured on.
        variants: words that the names of the rows contain; empty for all rows.
        parts: parts to compare with and without, instead of objectives: npr, cmpa, sgc, separated by commas.
        scenes: held-out scenes for each measurement, 1 or more.
        window: side in pixels of the windows that rows on masks see. They see as many pixels in all as the other rows.
        rounds: steps and frames of each row that are timed, in turn with those of the other rows; 1 or more.
        output: folder for the runs and for `objectives.*` or `parts.*`: numbers (.json), tables (.md), a plot (.png)
            and, of parts, images (.jpg).
    """

    train: TrainConfig = field(default_factory=short_run)
    seeds: tuple[int, ...] = (0, 1, 2)
    variants: tuple[str, ...] = ()
    parts: str = ""
    scenes: int = 40
    window: int = 96
    rounds: int = 5
    output: str = "runs/ablate"

    def __post_init__(self) -> None:
        if not self.seeds or self.scenes < 1 or self.rounds < 1:
            raise ValueError(
                f"seeds {self.seeds}, scenes {self.scenes}, rounds {self.rounds}: expected one or more of each"
            )


class SeedRuns:
    """The runs of one seed, which share the images that they are trained and measured on."""

    def __init__(self, config: AblateConfig, seed: int):
        self.config, self.seed = config, seed
        self.folder = Path(config.output) / f"seed{seed}"

    @cached_property
    def pairs(self) -> Pairs:
        return open_pairs(self.config.train.data, self.seed)

    @cached_property
    def scenes(self) -> HeldOut:
        return held_out(self.config.scenes, seed=self.seed)

    def measured(self, row: Row) -> dict | None:
        """Return a row's measures, from its file or a run; None where a signal ended the run."""
        folder = self.folder / row.folder
        file = folder / "measured.json"
        if file.exists():
            return json.loads(file.read_text())
        folder.mkdir(parents=True, exist_ok=True)
        ended = ""
        if row.objective is not None:
            try:
                if train(self.settings(row), self.pairs) is None:
                    return None
            except (CollapseError, FloatingPointError) as error:  # that is a result, too
                ended = str(error)
        if ended:
            measures = {**dict.fromkeys(report.MEASURES, float("nan")), "ended": ended}
        else:
            measures, _ = measure_scenes(self.segmenter(row), self.scenes)
        write_json(file, measures)
        return measures

    def settings(self, row: Row) -> TrainConfig:
        """Return what a row is trained with."""
        one = copy.deepcopy(self.config.train)
        one.trainer.seed, one.trainer.output = self.seed, str(self.folder / row.folder)
        one.objective, one.evaluate, one.resume = objective_of(self.config, row), 0, True
        one.decoder = row.decoder or one.decoder
        one.keep, one.data.rehearsal = row.keep, row.rehearsal
        if one.objective.masks:
            height, width = one.data.scene_size
            more = math.sqrt(height * width) / self.config.window
            one.batches.window, one.trainer.batch = self.config.window, round(more * one.trainer.batch)
            one.trainer.steps = round(more * one.trainer.steps)
        return one

    def segmenter(self, row: Row) -> Segmenter:
        """Load a row's decoder into the model that all start from, whose text embeddings are computed once."""
        start = self.config.train
        segmenter = Segmenter.load(start.model, "torch", choose_device("auto").type, refine=row.refine)
        trained = row.objective is not None
        network = load_model(self.folder / row.folder / "model")[0] if trained else starting_network(start)
        segmenter.engine.network.decoder.load_state_dict(network.decoder.state_dict())
        return segmenter


def objective_of(config: AblateConfig, row: Row) -> ObjectiveConfig:
    """Return a row's objective: the common settings with its own."""
    return ObjectiveConfig(**{**asdict(config.train.objective), **row.objective})


def ablate(config: AblateConfig) -> report.Results | None:
    """Run what is missing and write tables and plot after every run.

    Returns results by row and seed; None where a signal ended a run: what was finished before stands.
    """
    rows, output = chosen_rows(config.variants, config.parts), Path(config.output)
    name = "parts" if config.parts else "objectives"
    output.mkdir(parents=True, exist_ok=True)
    check_settings(config, output / "settings.json")
    costs = measured_costs(config, rows, output / f"{name}-cost.json")
    results: report.Results = {}
    with tqdm(total=len(config.seeds) * len(rows), desc="rows of all seeds", unit="run") as bar:
        for seed in config.seeds:
            runs = SeedRuns(config, seed)
            for row in rows:
                measures = runs.measured(row)
                if measures is None:
                    return None
                results.setdefault(row.name, {})[seed] = measures
                write_json(output / f"{name}.json", {"settings": asdict(config), "results": results, "cost": costs})
                (output / f"{name}.md").write_text(report.tables(rows, results, costs))
                report.plot(rows, results, output / f"{name}.png")
                shown = ", ".join(f"{key} {measures[key]}" for key in report.MEASURES)
                bar.write(f"seed {seed}, {row.name}: {shown}")
                bar.update()
    if config.parts:
        draw(SeedRuns(config, config.seeds[0]), rows, output / f"{name}.jpg")
    return results


def check_settings(config: AblateConfig, file: Path) -> None:
    """Write what all rows of a folder share; raise ValueError where the folder's finished rows had other settings."""
    shared = json.loads(json.dumps({"train": asdict(config.train), "scenes": config.scenes}))
    if not file.exists():
        write_json(file, shared)
        return
    before = json.loads(file.read_text())
    changed = [key for key in shared["train"] if shared["train"][key] != before["train"].get(key)]
    changed += ["scenes"] if shared["scenes"] != before["scenes"] else []
    if changed:
        raise ValueError(f"{file.parent} holds runs of other settings ({', '.join(changed)}): choose another --output")


def measured_costs(config: AblateConfig, rows: Sequence[Row], file: Path) -> dict[str, dict[str, float]]:
    """Return milliseconds per image by row: "step" of what is trained, "frame" of what is not; kept in a file."""
    costs = json.loads(file.read_text()) if file.exists() else {}
    if set(costs) == {row.name for row in rows}:
        return costs
    first = SeedRuns(config, config.seeds[0])
    network = starting_network(config.train).to(choose_device("auto"))
    text = TextEmbedder(network)
    torch.manual_seed(0)
    objectives, parts = {}, {}
    for row in rows:
        if row.objective is not None:
            one = first.settings(row)
            objectives[row.name] = CaptionObjective(network, one.objective)
            pairs = open_masks(first.pairs, network, text, one) if one.objective.masks else first.pairs
            batches = BatchSource(pairs, shown_labels(one), network.config.image, text)
            parts[row.name] = batches.first(one.trainer.batch, choose_device("auto"))
    steps = cost.step_costs(objectives, parts, config.train.trainer, config.rounds)
    segmenters = {row.name: first.segmenter(row) for row in rows if row.objective is None}
    frames = cost.frame_costs(segmenters, first.scenes.novel[:IMAGES], config.rounds)
    costs = {name: {"step": round(value, 2)} for name, value in steps.items()}
    costs |= {name: {"frame": round(value, 2)} for name, value in frames.items()}
    write_json(file, costs)
    return costs


def draw(runs: SeedRuns, rows: Sequence[Row], path: Path) -> None:
    """Draw a few held-out scenes with novel things as every row segments them."""
    images = ImageRows(runs.scenes.novel[:IMAGES])
    for row in rows:
        if row.objective is None or (runs.folder / row.folder / "model").exists():
            images.add(row.name, runs.segmenter(row))
    images.write(path)


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and compare; returns 0, 2 for what the user can put right, 130 after Ctrl-C."""
    try:
        config = jsonargparse.auto_cli(AblateConfig, args=arguments, as_positional=False, print_config="--print-config")
        return INTERRUPTED if ablate(config) is None else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run())
