"""What `--help` of the training programs is made of."""

import dataclasses
import importlib

import docstring_parser
import pytest

SETTINGS = [
    "training.ablate.AblateConfig",
    "training.ablate_photos.AblatePhotosConfig",
    "training.calibrate.CalibrateConfig",
    "training.captions.variations.Variations",
    "training.datasets.augmentation.BatchConfig",
    "training.datasets.caption_masks.CaptionMaskConfig",
    "training.datasets.mask_batches.SceneMaskConfig",
    "training.datasets.photo_batches.MixtureConfig",
    "training.datasets.scene_captions.SceneCaptionConfig",
    "training.datasets.sources.DataConfig",
    "training.evaluate.EvaluateConfig",
    "training.loop.config.TrainerConfig",
    "training.objective.cmpa.CMPAConfig",
    "training.objective.npr.NPRConfig",
    "training.objective.objective.ObjectiveConfig",
    "training.objective.photos.PhotoTerms",
    "training.other_words.OtherWordsConfig",
    "training.prepare.PrepareConfig",
    "training.prepare_photos.PreparePhotosConfig",
    "training.pretrain_clip.PretrainClipConfig",
    "training.pretrain_decoder.PretrainDecoderConfig",
    "training.pretrain_photos.PretrainPhotosConfig",
    "training.pretrain_text.PretrainTextConfig",
    "training.train.TrainConfig",
    "training.train_tagger.TrainTaggerConfig",
]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_the_programs_is_explained_and_nothing_else_is(name):
    module, _, kind = name.rpartition(".")
    settings = getattr(importlib.import_module(module), kind)
    explained = {part.arg_name: part.description for part in docstring_parser.parse(settings.__doc__).params}
    assert list(explained) == [field.name for field in dataclasses.fields(settings)]
    assert all(explained.values())
