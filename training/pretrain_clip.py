"""Train synseg-tiny's CLIP on captions of generated scenes: `python -m training.pretrain_clip`.

The loss is open_clip's own. The CLIP sees captions alone: no mask and no list of labels. Which images it sees is in
`training.datasets.scene_captions`.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save
from torch import nn

from synseg_model.files import write_json, write_whole
from synseg_model.network.clip_encoder import ClipEncoder
from training.datasets.scene_captions import SceneCaptionBatches, SceneCaptionConfig
from training.evaluation.zero_shot import ZeroShot
from training.loop.command_line import run_training
from training.loop.config import TrainerConfig
from training.loop.initialization import mimetic_attention
from training.loop.trainer import Trainer
from training.networks.tiny_clip import ABOUT_FILE, CLIP_FILE, TINY_CLIP, tokenizer, write_merges
from training.objective.contrast import ContrastObjective, limit_scale


@dataclass
class PretrainClipConfig:
    """All settings of CLIP's training.

    Args:
        data: which scenes it sees.
        trainer: device, steps, learning rates, checkpoints. `trainer.batch` counts close views: each is compared with
            all captions of the batch. A batch of parts of scenes has half as many images, one of whole scenes an
            eighth.
        held_out: scenes that zero-shot classification is measured on every `trainer.validate_every` steps.
        resume: continue from the last checkpoint in `trainer.output`.
    """

    data: SceneCaptionConfig = field(default_factory=SceneCaptionConfig)
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            output="runs/clip", steps=1_100, batch=256, precision="fast", optimizer="muon", betas=(0.9, 0.98),
            learning_rate=3e-3, weight_decay=0.1, clip_norm=1.0, ema=0.0, validate_every=100, image_every=0,
        )
    )  # fmt: skip
    held_out: int = 300
    resume: bool = False


def train(config: PretrainClipConfig) -> Path | None:
    """Train and return the path of the weights; None where a signal or the time limit ended the run before."""
    trainer = Trainer(config.trainer)
    fabric, output = trainer.fabric, trainer.output
    if fabric.is_global_zero:
        output.mkdir(parents=True, exist_ok=True)
        write_merges(output)
    fabric.barrier()
    torch.manual_seed(config.trainer.seed)
    encoder = ClipEncoder(open_clip.CLIP(**TINY_CLIP), tokenizer(output)).to(fabric.device)
    objective = ContrastObjective(encoder)
    mimetic_attention(encoder.clip.visual)
    batches = trainer.first_alone(lambda: SceneCaptionBatches(config.data, config.trainer.seed, config.trainer.steps))
    zero_shot = ZeroShot(config.held_out)

    def validate(clip: nn.Module) -> dict[str, float]:
        return zero_shot(ClipEncoder(clip, encoder.tokenizer), fabric.device)

    clip = trainer.fit(objective, batches, resume=config.resume, validate=validate)
    if clip is None:
        return None
    limit_scale(clip)
    path = output / CLIP_FILE
    if fabric.is_global_zero:
        weights = {name: value.detach().cpu().contiguous() for name, value in clip.state_dict().items()}
        write_whole(path, lambda file: file.write(save(weights, metadata={"format": "pt"})))
        write_json(output / ABOUT_FILE, {"training": asdict(config), "zero_shot": validate(clip)})
        print(f"wrote {path}")
    fabric.barrier()
    return path


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and train; returns 0, 2 for what the user can put right, 130 where it was stopped."""
    return run_training(PretrainClipConfig, train, arguments)


if __name__ == "__main__":
    sys.exit(run())
