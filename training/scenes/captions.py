"""Put a scene into words: many phrasings of what can be seen, lowercase English without a final stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.scenes.vocabulary import NOUNS_PLURAL

_NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)
_OPENINGS = (
    "", "", "", "", "a photo of {}", "a picture of {}", "an image of {}", "photo of {}", "a drawing of {}",
    "a scene with {}", "a small picture with {}", "this picture shows {}", "we can see {}", "you see {}",
    "look, {}",
    "here {is} {}", "there {is} {}", "there {is} {}", "{} can be seen", "a bright picture of {}",
    "a close view of {}",
)
_GROUND_LINKS = (
    "on the {n}", "on the {n}", "lying on the {n}", "standing on the {n}", "over the {n}", "on {a}",
    "and {a}", "with {a}",
)
_BACK_LINKS = (
    "in front of {a}", "in front of the {n}", "before {a}", "with {a} behind", "against the {n}", "and {a}",
)
_SKY_LINKS = ("under the sky", "and the sky", "with sky above", "below the sky", "against the sky", "and sky")
_EMPTY_OPENINGS = (
    "{}", "a photo of {}", "a picture of {}", "nothing but {}", "only {}", "an empty scene with {}",
)
_UPRIGHT = ("wall", "curtain", "mountain")
_MASS = ("grass", "sand", "water", "snow", "sky")


@dataclass(frozen=True)
class SeenThing:
    """Hold one visible object for the captions: what it is and where its visible centre lies (fractions)."""

    color: str
    noun: str
    x: float
    y: float


_Phrase = tuple[str, SeenThing, int]  # the words, one of the objects they name, and how many that are


def article(words: str) -> str:
    """Put a or an before words."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def _stuff_with_article(stuff: str) -> str:
    return stuff if stuff in _MASS else article(stuff)


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.random() * len(choices))]


def _join(parts: Sequence[str], rng: np.random.Generator) -> str:
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        return parts[0] + _pick(rng, (" and ", " and ", " with ", " next to ", " and also ")) + parts[1]
    return ", ".join(parts[:-1]) + _pick(rng, (" and ", " and ", ", and ", " and also ")) + parts[-1]


def _phrases(seen: Sequence[SeenThing], rng: np.random.Generator) -> list[_Phrase]:
    """Name groups of equal objects; a noun in one colour only is sometimes named without it."""
    groups: dict[tuple[str, str], list[SeenThing]] = {}
    for one in seen:
        groups.setdefault((one.color, one.noun), []).append(one)
    nouns = [noun for _, noun in groups]
    phrases = []
    for (color, noun), members in groups.items():
        bare = nouns.count(noun) == 1 and rng.random() < 0.12
        color_word = "" if bare else color + " "
        if len(members) == 1:
            phrases.append((article(color_word + noun), members[0], 1))
        else:
            words = f"{_NUMBERS[len(members)]} {color_word}{NOUNS_PLURAL[noun]}"
            phrases.append((words, members[0], len(members)))
    order = rng.permutation(len(phrases))
    return [phrases[i] for i in order]


def _relation(a: SeenThing, b: SeenThing, rng: np.random.Generator) -> str:
    """Say where a lies seen from b."""
    dx, dy = a.x - b.x, a.y - b.y
    if max(abs(dx), abs(dy)) < 0.12:
        return "close to"
    if abs(dx) > abs(dy):
        return _pick(rng, ("to the left of", "left of") if dx < 0 else ("to the right of", "right of"))
    return _pick(rng, ("above", "over") if dy < 0 else ("below", "under"))


def _tail(stuff: Sequence[str], rng: np.random.Generator) -> str:
    """Name the stuff after the objects, mostly all of it."""
    if rng.random() < 0.1:
        return ""
    named = [s for s in stuff if len(stuff) == 1 or rng.random() < 0.88]
    ground = [s for s in named if s not in _UPRIGHT and s != "sky"]
    parts = []
    if ground:
        last = ground[-1]
        parts.append(_pick(rng, _GROUND_LINKS).format(a=_stuff_with_article(last), n=last))
        parts += ["and " + _stuff_with_article(s) for s in ground[:-1]]
    for s in named:
        if s in _UPRIGHT:
            parts.append(_pick(rng, _BACK_LINKS).format(a=article(s), n=s))
    if "sky" in named:
        parts.append(_pick(rng, _SKY_LINKS))
    return " ".join(parts)


def _listing(phrases: Sequence[_Phrase], stuff: Sequence[str], rng: np.random.Generator) -> str:
    """List things and stuff without a sentence: "red ball, two blue fish, grass"."""
    words = [text.removeprefix("an ").removeprefix("a ") for text, _, _ in phrases]
    words += [s for s in stuff if rng.random() < 0.9]
    return _pick(rng, (", ", ", ", " and ")).join(words)


def _stuff_only(stuff: Sequence[str], rng: np.random.Generator) -> str:
    text = _join([_stuff_with_article(s) for s in stuff], rng)
    return _pick(rng, _EMPTY_OPENINGS).format(text)


def phrase(seen: Sequence[SeenThing], stuff: Sequence[str], rng: np.random.Generator) -> str:
    """Describe visible objects and stuff once, in a random way."""
    if not seen:
        return _stuff_only(stuff, rng)
    phrases = _phrases(seen, rng)
    if rng.random() < 0.1:
        return _listing(phrases, stuff, rng)
    if len(phrases) > 1 and rng.random() < 0.03:
        phrases = phrases[:-1]
    words = [text for text, _, _ in phrases]
    if len(phrases) >= 2 and phrases[0][2] == phrases[1][2] == 1 and rng.random() < 0.3:
        words[:2] = [f"{words[0]} {_relation(phrases[0][1], phrases[1][1], rng)} {words[1]}"]
    things = _join(words, rng)
    tail = _tail(stuff, rng)
    body = f"{things} {tail}" if tail else things
    opening = _pick(rng, _OPENINGS).replace("{is}", "is" if phrases[0][2] == 1 else "are")
    if opening.endswith("be seen"):
        return opening.format(things) + (f" {tail}" if tail else "")
    return opening.format(body) if opening else body


def phrase_many(
    seen: Sequence[SeenThing], stuff: Sequence[str], rng: np.random.Generator, n: int
) -> tuple[str, ...]:
    """Describe a scene in n different ways; fewer only when it allows no more."""
    found: dict[str, None] = {}
    for _ in range(20 * n + 20):
        if len(found) == n:
            break
        found.setdefault(phrase(seen, stuff, rng))
    return tuple(found)
