"""Labels as a user gives them: checked, tidied, and paired with thresholds and text embeddings."""

from __future__ import annotations

import numbers
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import NamedTuple

import numpy as np

from synseg_model.config import MAX_LABELS
from synseg_model.folding import SPACES, case_key

__all__ = ["LARGEST_LIMIT", "CheckedLabels", "LabelRules", "Vocabulary", "VocabularyError", "join", "prompt"]

LARGEST_LIMIT = 65535  # label maps are uint16 and 0 is background

# Cheap limits, checked before labels are tokenised or compared. A token of CLIP's vocabulary is far
# shorter than 16 characters on average, and nobody repeats each label 16 times.
_CHARACTERS_PER_TOKEN = 16
_REPEATS = 16

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class VocabularyError(ValueError):
    """A vocabulary that cannot be used; the text names the label and the rule that it breaks."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Hold labels that are ready to segment with.

    `Segmenter.prepare_vocabulary` makes one. Arrays are read-only.

    Attributes:
        labels: K distinct texts.
        thresholds: (K,) float32 in [0, 1]; a pixel whose activation reaches the threshold belongs to the label.
        embeddings: (K,D) float32, as the model's decoder takes them.
        fingerprint: the fingerprint of the engine that made the embeddings.
        ids: what label maps and messages call the labels: distinct, 1 to 65535; by default 1 to K.

    Raises:
        ValueError: for ids or arrays that do not fit the labels.

    Example:
        >>> import numpy as np
        >>> from synseg_model import Vocabulary
        >>> vocabulary = Vocabulary(("car", "tree"), [0.5, 0.5], np.zeros((2, 512)), fingerprint="example")
        >>> len(vocabulary), vocabulary.ids
        (2, (1, 2))
    """

    labels: tuple[str, ...]
    thresholds: np.ndarray
    embeddings: np.ndarray
    fingerprint: str
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(1, len(self.labels) + 1)))
        distinct = len(set(self.ids)) == len(self.ids) == len(self.labels)
        if not distinct or not all(1 <= number <= LARGEST_LIMIT for number in self.ids):
            raise ValueError(f"ids {self.ids[:10]} for {len(self.labels)} labels: expected distinct ones, from 1")
        for name, ndim, expected in (("thresholds", 1, "(K,)"), ("embeddings", 2, "(K,D)")):
            array = np.array(getattr(self, name), np.float32)
            if array.ndim != ndim or len(array) != len(self.labels):
                raise ValueError(f"{name} of shape {array.shape} for {len(self.labels)} labels: expected {expected}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.labels)

    def same_as(self, other: Vocabulary | None) -> bool:
        """Tell whether another vocabulary has the same labels in the same order, with the same thresholds.

        Args:
            other: the other vocabulary; None is never the same.

        Example:
            >>> vocabulary.same_as(vocabulary), vocabulary.same_as(None)
            (True, False)
        """
        return other is not None and self.labels == other.labels and bool((self.thresholds == other.thresholds).all())

    def following(self, previous: Vocabulary | None) -> Vocabulary:
        """Return this vocabulary with the ids of the previous one: labels that stay keep their ids.

        A new label gets the smallest free id. So no id exceeds the size of the largest vocabulary in a row.

        Args:
            previous: the vocabulary before this one; None for none.

        Example:
            >>> longer = Vocabulary(("dog", "tree", "car"), [0.5] * 3, np.zeros((3, 512)), fingerprint="example")
            >>> longer.following(vocabulary).ids  # "car" was 1 and "tree" was 2
            (3, 2, 1)
        """
        before = zip(previous.labels, previous.ids, strict=True) if previous else ()
        known = {case_key(label): number for label, number in before}
        kept = [known.get(case_key(label)) for label in self.labels]
        taken = {number for number in kept if number}
        free = (number for number in count(1) if number not in taken)
        return replace(self, ids=tuple(number or next(free) for number in kept))


def join(vocabularies: Sequence[Vocabulary]) -> tuple[Vocabulary, list[slice | np.ndarray]]:
    """Join vocabularies of one engine; labels that several have are there once.

    Args:
        vocabularies: At least one.

    Returns:
        The joined vocabulary, and for each of the given ones where its labels are in it, in their order.
    """
    places: dict[str, int] = {}
    rows, parts = [], []
    for vocabulary in vocabularies:
        for label, threshold, embedding in zip(
            vocabulary.labels, vocabulary.thresholds, vocabulary.embeddings, strict=True
        ):
            if label not in places:
                places[label] = len(places)
                rows.append((threshold, embedding))
        parts.append(np.array([places[label] for label in vocabulary.labels]))
    parts[0] = slice(0, len(vocabularies[0]))
    thresholds, embeddings = zip(*rows, strict=True)
    joined = Vocabulary(tuple(places), np.array(thresholds), np.array(embeddings), vocabularies[0].fingerprint)
    return joined, parts


class CheckedLabels(NamedTuple):
    """Hold labels that a model accepts and that are not encoded yet.

    Attributes:
        labels: K distinct texts.
        thresholds: (K,) float32 in [0, 1].
    """

    labels: tuple[str, ...]
    thresholds: np.ndarray


@dataclass(frozen=True)
class LabelRules:
    """Decide which labels a model accepts.

    Attributes:
        count_tokens: counts the tokens of a finished prompt, with start and end marks.
        templates: prompts, each with one "{}" for the label.
        context_length: largest number of tokens that the model reads.
        threshold: the model's own threshold, in [0, 1].
        max_labels: largest number of labels.
    """

    count_tokens: Callable[[str], int]
    templates: tuple[str, ...]
    context_length: int
    threshold: float
    max_labels: int = MAX_LABELS

    def check(self, labels: Iterable[str], thresholds: Sequence[float] | None = None) -> CheckedLabels:
        """Tidy labels and pair them with thresholds.

        Spaces around and inside a label are trimmed, and its Unicode is composed (NFC). Of labels that differ only in
        case, the first spelling stays, with its threshold.

        Args:
            labels: texts.
            thresholds: one per label given, in [0, 1]; None or empty for the model's own.

        Raises:
            VocabularyError: for the first label or threshold that breaks a rule.
        """
        given = self._listed(labels)
        values = self._checked_thresholds(thresholds, given)
        template = max(self.templates, key=lambda text: self.count_tokens(prompt(text, "")))
        kept: dict[str, tuple[str, float]] = {}
        for position, (raw, value) in enumerate(zip(given, values, strict=True), start=1):
            label = self._tidy(raw, position)
            key = case_key(label)
            if key in kept:
                continue
            if len(kept) == self.max_labels:
                raise VocabularyError(
                    f"more than {self.max_labels} labels (the first too many is {_show(label)}): "
                    "send fewer, or raise max_labels"
                )
            tokens = self.count_tokens(prompt(template, label))
            if tokens > self.context_length:
                raise VocabularyError(
                    f"label {_show(label)} is too long: {tokens} tokens as {_show(prompt(template, label))}, "
                    f"the model reads at most {self.context_length}"
                )
            kept[key] = (label, value)
        names, limits = zip(*kept.values(), strict=True)
        return CheckedLabels(names, np.array(limits, np.float32))

    def _listed(self, labels: Iterable[str]) -> list[str]:
        if isinstance(labels, (str, bytes)):
            raise VocabularyError(f"labels are one text, {_show(labels)}: expected a list of texts")
        most = self.max_labels * _REPEATS
        try:
            given = list(islice(labels, most + 1))
        except TypeError:
            raise VocabularyError(f"labels are {type(labels).__name__}: expected a list of texts") from None
        if not given:
            raise VocabularyError("no labels: expected at least one")
        if len(given) > most:
            raise VocabularyError(f"more than {most} labels, repeats included: at most {self.max_labels} are accepted")
        return given

    def _checked_thresholds(self, thresholds: Sequence[float] | None, labels: list[str]) -> list[float]:
        if thresholds is None:
            return [self.threshold] * len(labels)
        try:
            values = list(islice(thresholds, len(labels) + 1))
        except TypeError:
            raise VocabularyError(
                f"thresholds are {type(thresholds).__name__}: expected a list with one number per label"
            ) from None
        if not values:
            return [self.threshold] * len(labels)
        if len(values) != len(labels):
            many = f"more than {len(labels)}" if len(values) > len(labels) else str(len(values))
            raise VocabularyError(f"{many} thresholds for {len(labels)} labels: give none, or one per label")
        for label, value in zip(labels, values, strict=True):
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:  # nan is in no order
                raise VocabularyError(
                    f"threshold {_number(value)} of label {_show(label)}: expected a number from 0 to 1"
                )
        return [float(value) for value in values]

    def _tidy(self, label: str, position: int) -> str:
        if not isinstance(label, str):
            raise VocabularyError(f"label {position} is {type(label).__name__} {_show(label)}: expected a text")
        label = label.strip()
        most = self.context_length * _CHARACTERS_PER_TOKEN
        if len(label) > most:
            raise VocabularyError(
                f"label {_show(label)} is too long: {len(label)} characters, "
                f"the model reads at most {self.context_length} tokens"
            )
        for character in label:
            category = unicodedata.category(character)
            if category == "Cs":
                raise VocabularyError(f"label {_show(label)} is not valid Unicode: it has a lone surrogate")
            if (category == "Cc" and character not in "\t\n\v\f\r\x85") or character in _BIDI_CONTROLS:
                raise VocabularyError(f"label {_show(label)} has the control character U+{ord(character):04X}")
        tidy = unicodedata.normalize("NFC", " ".join(label.translate(SPACES).split()))
        if all(unicodedata.category(character) in ("Cf", "Zs") for character in tidy):
            raise VocabularyError(f"label {position} is empty ({_show(label)}): expected a text")
        return tidy


def prompt(template: str, label: str) -> str:
    """Put a label into a prompt template.

    Args:
        template: a text with one "{}" for the label.
        label: the label, which may hold braces of its own.
    """
    return template.replace("{}", label)  # str.format would read braces elsewhere in the template


def _number(value: object) -> str:
    """Show a threshold as the user gave it: messages hold 1.6 as the float32 1.600000023841858."""
    short = str(np.float32(value)) if isinstance(value, float) and abs(value) < 1e9 else ""
    return short if short and float(np.float32(short)) == value else _show(value)


def _show(value: object, most: int = 60) -> str:
    """Show any value in one line of bounded length, safe for a terminal."""
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= most else f"{value[:most]!r}… ({len(value)} characters)"
    if value is None or isinstance(value, (bool, float, np.number)) or (isinstance(value, int) and abs(value) < 1e9):
        return repr(value)
    return f"of type {type(value).__name__}"
