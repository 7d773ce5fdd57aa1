"""Segment images for labels: what the command line, the node and the evaluation call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from synseg_model.config import DEFAULT_MODEL, MAX_LABELS
from synseg_model.engine import DeviceEngine, Engine
from synseg_model.engines.load import load_engine
from synseg_model.refinement import make_refiner
from synseg_model.result import Result
from synseg_model.text.embedding_cache import TextCache
from synseg_model.text.nearest_names import NearestNames
from synseg_model.vocabulary import LARGEST_LIMIT, CheckedLabels, LabelRules, Vocabulary, join
from synseg_model.weights.find import read_pedigree
from synseg_model.weights.pedigree import Pedigree

__all__ = ["Segmenter", "check_image"]


class Segmenter:
    """Segment images for a vocabulary that may change at any time.

    One thread may prepare a vocabulary while another one segments. Each call of `segment` or `segment_batch` uses one
    vocabulary from its beginning to its end.

    Args:
        engine: a loaded engine; `Segmenter.load` finds one by name.
        max_labels: largest number of labels in a vocabulary, 1 to 65535.
        cache_dir: folder for text embeddings; None for the user's cache folder.
        refine: how masks follow the image: "none", "superpixels" or "sgc", see `synseg_model.refinement`.
        pedigree: how the model met names in its training; None where that is not known.

    Raises:
        ValueError: for a number of labels that a label map cannot hold, and for an unknown refinement.

    Example:
        >>> import numpy as np
        >>> from synseg_model import Segmenter
        >>> segmenter = Segmenter.load("synseg-tiny", device="cpu")
        >>> vocabulary = segmenter.set_vocabulary(["red ball", "grass"])
        >>> image = np.zeros((120, 160, 3), np.uint8)
        >>> result = segmenter.segment(image)
        >>> result.labels, result.label_map.shape
        (('red ball', 'grass'), (120, 160))
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
        # The same labels come back, and tokenising them again would take most of the time of a change.
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
        """Load a model by its name.

        Args:
            model: a shipped model, a model folder, an exported folder, a CLIPSeg id of the Hugging Face hub, or an
                original CLIPSeg `.pth` file.
            engine: "auto", "torch", "onnxruntime", "openvino" or "tensorrt".
            device: "auto", "cpu", "cuda" or "cuda:N".
            max_labels: largest number of labels in a vocabulary, 1 to 65535.
            cache_dir: folder for text embeddings; None for the user's cache folder.
            refine: "none", "superpixels" or "sgc", see `synseg_model.refinement`.
            **options: options of the engine, as `load_engine` takes them.

        Returns:
            A Segmenter without a vocabulary.

        Raises:
            ModelError: for a model that is missing or damaged.
            ValueError: for an unknown engine, device, option or refinement.

        Example:
            >>> segmenter = Segmenter.load("synseg-tiny", engine="torch", device="cpu")
            >>> segmenter.engine.name
            'torch'
        """
        loaded = load_engine(model, engine, device, **options)
        pedigree = None if engine.partition(":")[0] == "null" else read_pedigree(model)
        return cls(loaded, max_labels, cache_dir, refine, pedigree)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary in use; None before the first one.

        Example:
            >>> segmenter.vocabulary.labels
            ('red ball', 'grass')
        """
        return self._vocabulary

    def check_vocabulary(self, labels: Iterable[str], thresholds: Sequence[float] | None = None) -> CheckedLabels:
        """Check labels and thresholds without encoding the labels.

        Args:
            labels: texts, such as ["red ball", "grass"].
            thresholds: one per label, in [0, 1]; None or empty for the model's own.

        Returns:
            The labels as a vocabulary has them: tidy, and each of them once.

        Raises:
            VocabularyError: for the first label or threshold that breaks a rule.

        Example:
            >>> segmenter.check_vocabulary(["Car ", "car", "red  ball"]).labels
            ('Car', 'red ball')
        """
        return self._rules.check(labels, thresholds)

    def unknown_labels(self, checked: CheckedLabels) -> list[str]:
        """Return the labels that must still be encoded; the others are in the cache.

        Args:
            checked: what `check_vocabulary` returned.

        Example:
            >>> checked = segmenter.check_vocabulary(["red ball"])
            >>> vocabulary = segmenter.encode_vocabulary(checked)
            >>> segmenter.unknown_labels(checked)
            []
        """
        return self._cache.unknown(checked.labels)

    def encode_labels(self, labels: Sequence[str]) -> None:
        """Encode some checked labels into the cache, which is a part of the work of `encode_vocabulary`.

        Args:
            labels: some of the labels that `check_vocabulary` returned.

        Example:
            >>> checked = segmenter.check_vocabulary(["red ball", "grass"])
            >>> segmenter.encode_labels(checked.labels[:1])
            >>> "red ball" in segmenter.unknown_labels(checked)
            False
        """
        self._cache.embed(labels)

    def encode_vocabulary(self, checked: CheckedLabels) -> Vocabulary:
        """Encode checked labels into a vocabulary, without using it yet.

        Args:
            checked: what `check_vocabulary` returned.

        Example:
            >>> vocabulary = segmenter.encode_vocabulary(segmenter.check_vocabulary(["red ball", "grass"]))
            >>> len(vocabulary), len(vocabulary.embeddings)
            (2, 2)
        """
        return Vocabulary(*checked, self._cache.embed(checked.labels), self.engine.fingerprint)

    def prepare_vocabulary(self, labels: Iterable[str], thresholds: Sequence[float] | None = None) -> Vocabulary:
        """Check and encode labels, without using them yet.

        Args:
            labels: texts, such as ["red ball", "grass"].
            thresholds: one per label, in [0, 1]; None or empty for the model's own.

        Raises:
            VocabularyError: for the first label or threshold that breaks a rule.

        Example:
            >>> vocabulary = segmenter.prepare_vocabulary(["red ball", "grass"], thresholds=[0.5, 0.25])
            >>> vocabulary.thresholds.tolist()
            [0.5, 0.25]
        """
        return self.encode_vocabulary(self.check_vocabulary(labels, thresholds))

    def pedigree_of(self, vocabulary: Vocabulary, nearest: bool = True) -> tuple[str, ...]:
        """Describe how the model met each label of a vocabulary in its training.

        Args:
            vocabulary: one that this Segmenter prepared.
            nearest: for labels that the model never met, add the nearest name that it knows and the cosine of the two
                text embeddings. The first such call embeds all names of the model, which may take seconds.

        Returns:
            One text per label, such as 'taught by masks (120 images)' or 'never met; nearest known: "cup" (0.71)'. The
            tuple is empty where the model does not say what it was taught.

        Example:
            >>> segmenter.pedigree_of(segmenter.prepare_vocabulary(["red ball"]))  # synseg-tiny does not say it
            ()
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
        """Use a prepared vocabulary from the next call on.

        Args:
            vocabulary: one that this Segmenter prepared.

        Raises:
            ValueError: for a vocabulary of another model.

        Example:
            >>> segmenter.use(segmenter.prepare_vocabulary(["sky"]))
            >>> segmenter.vocabulary.labels
            ('sky',)
        """
        self._refuse_foreign(vocabulary)
        self._vocabulary = vocabulary

    def _refuse_foreign(self, vocabulary: Vocabulary) -> None:
        if vocabulary.fingerprint != self.engine.fingerprint:
            raise ValueError("this vocabulary was prepared with another model: prepare it with this Segmenter")

    def set_vocabulary(self, labels: Iterable[str], thresholds: Sequence[float] | None = None) -> Vocabulary:
        """Prepare labels and use them; after a VocabularyError the old vocabulary stays in use.

        Args:
            labels: texts, such as ["red ball", "grass"].
            thresholds: one per label, in [0, 1]; None or empty for the model's own.

        Returns:
            The vocabulary that is now in use.

        Raises:
            VocabularyError: for the first label or threshold that breaks a rule.

        Example:
            >>> segmenter.set_vocabulary(["red ball", "grass"]).ids
            (1, 2)
        """
        vocabulary = self.prepare_vocabulary(labels, thresholds)
        self.use(vocabulary)
        return vocabulary

    def segment(self, image: np.ndarray, vocabulary: Vocabulary | None = None) -> Result:
        """Segment one image.

        Args:
            image: (H,W,3) uint8 RGB, of any size.
            vocabulary: a vocabulary to use for this call; None for the one in use.

        Raises:
            ValueError: for something that is not an image, for a vocabulary of another model, and before the first
                vocabulary.

        Example:
            >>> import numpy as np
            >>> vocabulary = segmenter.set_vocabulary(["red ball", "grass"])
            >>> result = segmenter.segment(np.zeros((120, 160, 3), np.uint8))
            >>> result.activations.shape, result.masks.dtype
            ((2, 120, 160), dtype('bool'))
        """
        return self.segment_batch([image], vocabulary)[0]

    def segment_batch(self, images: Sequence[np.ndarray], vocabulary: Vocabulary | None = None) -> list[Result]:
        """Segment several images in one call of the engine.

        Args:
            images: each (H,W,3) uint8 RGB; their sizes may differ.
            vocabulary: a vocabulary to use for this call; None for the one in use.

        Returns:
            One Result per image, in their order.

        Raises:
            ValueError: for something that is not an image, for a vocabulary of another model, and before the first
                vocabulary.

        Example:
            >>> import numpy as np
            >>> vocabulary = segmenter.set_vocabulary(["red ball", "grass"])
            >>> front, rear = np.zeros((120, 160, 3), np.uint8), np.zeros((90, 120, 3), np.uint8)
            >>> [result.shape for result in segmenter.segment_batch([front, rear])]
            [(120, 160), (90, 120)]
        """
        if vocabulary is not None:
            self._refuse_foreign(vocabulary)
        elif self._vocabulary is None:
            raise ValueError("no vocabulary yet: call set_vocabulary([...]) first")
        else:
            vocabulary = self._vocabulary
        several = len(images) > 1
        frames = [check_image(image, f"image {i}" if several else "image") for i, image in enumerate(images)]
        if not frames:
            return []
        if self._refine:
            maps = self.engine.activations(frames, vocabulary.embeddings)
            maps = [self._refine(frame, m) for frame, m in zip(frames, maps, strict=True)]
        elif self.engine.device != "cpu" and isinstance(self.engine, DeviceEngine):
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
            images: each (H,W,3) uint8 RGB; their sizes may differ.
            vocabularies: prepared by this Segmenter.

        Returns:
            For each vocabulary one Result per image.

        Raises:
            ValueError: for something that is not an image, and for a vocabulary of another model.

        Example:
            >>> import numpy as np
            >>> from synseg_model import Segmenter
            >>> segmenter = Segmenter.load("synseg-tiny")
            >>> vocabularies = [segmenter.prepare_vocabulary(labels) for labels in (["red ball"], ["grass", "sky"])]
            >>> results = segmenter.segment_for_each([np.zeros((90, 120, 3), np.uint8)], vocabularies)
            >>> [result.vocabulary.labels for (result,) in results]
            [('red ball',), ('grass', 'sky')]
        """
        for vocabulary in vocabularies:
            self._refuse_foreign(vocabulary)
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
    """Check an image and return it as a contiguous array.

    Args:
        image: (H,W,3) uint8 RGB.
        name: what the error message calls it.

    Raises:
        ValueError: for anything else; the message names the type, shape or dtype that was given.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{name} is {type(image).__name__}: expected a numpy array (H,W,3) of uint8, RGB")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"{name} has shape {image.shape}: expected (H,W,3), RGB")
    if image.dtype != np.uint8:
        raise ValueError(f"{name} has dtype {image.dtype}: expected uint8, 0 to 255")
    if not image.size:
        raise ValueError(f"{name} of {image.shape[1]}x{image.shape[0]} pixels is empty")
    return np.ascontiguousarray(image)
