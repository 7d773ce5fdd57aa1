"""The one door to segmentation: for the command line, the node and the evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from synseg_model.config import DEFAULT_MODEL
from synseg_model.engine import Engine
from synseg_model.engines.load import load_engine
from synseg_model.refinement import make_refiner
from synseg_model.result import Result
from synseg_model.text.embedding_cache import TextCache
from synseg_model.text.nearest_names import NearestNames
from synseg_model.vocabulary import LARGEST_LIMIT, MAX_LABELS, CheckedLabels, LabelRules, Vocabulary, join
from synseg_model.weights.find import read_pedigree
from synseg_model.weights.pedigree import Pedigree


class Segmenter:
    """Segment images for a vocabulary that may change at any time.

    engine: a loaded Engine; `Segmenter.load` finds one by name. max_labels: longest vocabulary accepted.
    cache_dir: folder for text embeddings, None for the user's cache folder. refine: "none", "superpixels" or "sgc", see
    `synseg_model.refinement`. pedigree: how the model met names in its training; without one it says nothing of that.

    Vocabularies may be prepared on one thread while another segments; each call of `segment` or
    `segment_batch` uses one vocabulary throughout.
    """

    def __init__(
        self,
        engine: Engine,
        max_labels: int = MAX_LABELS,
        cache_dir: str | Path | None = None,
        refine: str = "none",
        pedigree: Pedigree | None = None,
    ) -> None:
        if not 1 <= max_labels <= LARGEST_LIMIT:
            raise ValueError(f"max_labels {max_labels}: expected 1 to {LARGEST_LIMIT}")
        self.engine = engine
        config = engine.config
        # Labels come back: of those that are known, tokenising would be most of the time that a change takes.
        count_tokens = lru_cache(maxsize=8192)(engine.count_tokens)
        self._rules = LabelRules(count_tokens, config.templates, config.context_length, config.threshold, max_labels)
        self._cache = TextCache(engine, cache_dir)
        self._vocabulary: Vocabulary | None = None
        self._refine = make_refiner(refine, engine)
        self.pedigree = pedigree or Pedigree()
        self.nearest_names = NearestNames(list(self.pedigree), self._cache)

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        engine: str = "auto",
        device: str = "auto",
        max_labels: int = MAX_LABELS,
        cache_dir: str | Path | None = None,
        refine: str = "none",
        **options: object,
    ) -> Segmenter:
        """Load a model: a shipped name, a model folder, an exported folder, or a CLIPSeg id.

        options: of the engine, as `load_engine` takes them.
        Raise ModelError for a model that is missing or damaged, ValueError for an unknown engine, device, option or
        refinement.
        """
        loaded = load_engine(model, engine, device, **options)
        pedigree = None if engine.partition(":")[0] == "null" else read_pedigree(model)
        return cls(loaded, max_labels, cache_dir, refine, pedigree)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary in use, None before the first."""
        return self._vocabulary

    def check_vocabulary(self, labels: Iterable[str], thresholds: Sequence[float] | None = None) -> CheckedLabels:
        """Check labels and thresholds without encoding any; raise VocabularyError naming what is wrong."""
        return self._rules.check(labels, thresholds)

    def unknown_labels(self, checked: CheckedLabels) -> list[str]:
        """Return the labels that must still be encoded; the others are in the cache."""
        return self._cache.unknown(checked.labels)

    def encode_labels(self, labels: Sequence[str]) -> None:
        """Encode some of the labels that were checked, into the cache: a part of the work of `encode_vocabulary`."""
        self._cache.embed(labels)

    def encode_vocabulary(self, checked: CheckedLabels) -> Vocabulary:
        """Encode labels that were checked; the vocabulary is not used yet."""
        return Vocabulary(*checked, self._cache.embed(checked.labels), self.engine.fingerprint)

    def prepare_vocabulary(self, labels: Iterable[str], thresholds: Sequence[float] | None = None) -> Vocabulary:
        """Check and encode labels without using them yet; raise VocabularyError naming what is wrong.

        thresholds: one per label in [0, 1]; None or empty for the model's own.
        """
        return self.encode_vocabulary(self.check_vocabulary(labels, thresholds))

    def pedigree_of(self, vocabulary: Vocabulary, nearest: bool = True) -> tuple[str, ...]:
        """Say for people how the model met each label of a vocabulary in its training.

        Args:
            vocabulary: one that this Segmenter prepared.
            nearest: name the nearest name that the model knows, with the cosine of the text embeddings, for labels that
                it never met. The first time, all names of the model are embedded for that, which may take seconds.

        Returns:
            One text per label, such as 'taught by masks (120 images)' or 'never met; nearest known: "cup" (0.71)';
            none at all where the model does not say what it was taught.
        """
        if not self.pedigree:
            return ()
        texts = [str(self.pedigree.of(label)) for label in vocabulary.labels]
        strange = [index for index, label in enumerate(vocabulary.labels) if not self.pedigree.of(label)]
        if strange and nearest:
            found = self.nearest_names.find(vocabulary.embeddings[strange])
            for index, (name, cosine) in zip(strange, found, strict=False):
                texts[index] += f'; nearest known: "{name}" ({cosine:.2f})'
        return tuple(texts)

    def use(self, vocabulary: Vocabulary) -> None:
        """Use a prepared vocabulary from the next call on."""
        if vocabulary.fingerprint != self.engine.fingerprint:
            raise ValueError("this vocabulary was prepared with another model: prepare it with this Segmenter")
        self._vocabulary = vocabulary

    def set_vocabulary(self, labels: Iterable[str], thresholds: Sequence[float] | None = None) -> Vocabulary:
        """Prepare labels and use them; on VocabularyError the running vocabulary stays."""
        vocabulary = self.prepare_vocabulary(labels, thresholds)
        self.use(vocabulary)
        return vocabulary

    def segment(self, image: np.ndarray, vocabulary: Vocabulary | None = None) -> Result:
        """Segment one image (H,W,3) uint8 RGB, for the vocabulary in use unless another is given."""
        return self.segment_batch([image], vocabulary)[0]

    def segment_batch(self, images: Sequence[np.ndarray], vocabulary: Vocabulary | None = None) -> list[Result]:
        """Segment several images, whose sizes may differ, in one call of the engine.

        Raise ValueError for what is not an image, and before the first vocabulary.
        """
        vocabulary = vocabulary or self._vocabulary
        if vocabulary is None:
            raise ValueError("no vocabulary yet: call set_vocabulary([...]) first")
        if vocabulary.fingerprint != self.engine.fingerprint:
            raise ValueError("this vocabulary was prepared with another model: prepare it with this Segmenter")
        several = len(images) > 1
        frames = [check_image(image, f"image {i}" if several else "image") for i, image in enumerate(images)]
        if not frames:
            return []
        if self._refine:
            maps = self.engine.activations(frames, vocabulary.embeddings)
            maps = [self._refine(frame, m) for frame, m in zip(frames, maps, strict=True)]
        elif self.engine.device != "cpu" and hasattr(self.engine, "device_maps"):
            maps = self.engine.device_maps(frames, vocabulary.embeddings, vocabulary)
        else:
            maps = self.engine.activations(frames, vocabulary.embeddings)
        return [Result(vocabulary, m, frame.shape[:2]) for m, frame in zip(maps, frames, strict=True)]

    def segment_for_each(self, images: Sequence[np.ndarray], vocabularies: Sequence[Vocabulary]) -> list[list[Result]]:
        """Segment several images for several vocabularies.

        On a CPU, where encoding takes longest, images are encoded once and all labels are decoded together. On other
        devices, and where the engine or the refinement makes labels depend on each other, each vocabulary is a call of
        its own.

        Args:
            images: As for `segment_batch`.
            vocabularies: Prepared by this Segmenter.

        Returns:
            For each vocabulary one Result per image.

        Raises:
            ValueError: As `segment_batch` does.
        """
        many = sum(map(len, vocabularies)) > LARGEST_LIMIT
        apart = many or self._refine or self.engine.device != "cpu" or not self.engine.independent_labels
        if len(vocabularies) < 2 or apart:
            return [self.segment_batch(images, vocabulary) for vocabulary in vocabularies]
        joined, parts = join(vocabularies)
        whole = self.segment_batch(images, joined)
        return [
            [Result(vocabulary, result.maps[part], result.shape) for result in whole]
            for vocabulary, part in zip(vocabularies, parts, strict=True)
        ]


def check_image(image: np.ndarray, name: str = "image") -> np.ndarray:
    """Return an image (H,W,3) uint8 as a contiguous array; raise ValueError that says what else it is."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{name} is {type(image).__name__}: expected a numpy array (H,W,3) of uint8, RGB")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"{name} has shape {image.shape}: expected (H,W,3), RGB")
    if image.dtype != np.uint8:
        raise ValueError(f"{name} has dtype {image.dtype}: expected uint8, 0 to 255")
    if not image.size:
        raise ValueError(f"{name} of {image.shape[1]}x{image.shape[0]} pixels is empty")
    return np.ascontiguousarray(image)
