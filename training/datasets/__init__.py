"""Data sets: what yields samples, and what makes batches of them.

Images with the labels of captions come as `Pair` from any of four data sets (`pairs.py`), photographs with masks,
captions or names as `Photo` (`photos/`). `batches.py` and `photo_batches.py` turn samples into batches for an
objective, as a function of seed and step.

Example:
    >>> from training.datasets.coco_captions import CocoCaptions
    >>> pairs = CocoCaptions("train2017", "captions_train2017.json")   # after python -m training.prepare
    >>> pair = next(iter(pairs))
    >>> pair.image.shape, pair.labels
    ((480, 640, 3), ['brown dog', 'grass'])

Train MCCL on them:
    >>> from synseg_model.weights.model_folder import load_model
    >>> from training.datasets.augmentation import BatchConfig
    >>> from training.datasets.batches import BatchSource
    >>> from training.loop.trainer import Trainer, TrainerConfig
    >>> from training.networks.text_embedding import TextEmbedder
    >>> from training.objective.objective import CaptionObjective, ObjectiveConfig
    >>> network, _ = load_model("synseg-tiny")
    >>> batches = BatchSource(pairs, BatchConfig(), network.config.image, TextEmbedder(network))
    >>> trainer = Trainer(TrainerConfig(output="runs/mccl", steps=100))
    >>> decoder = trainer.fit(CaptionObjective(network, ObjectiveConfig()), batches)
"""
