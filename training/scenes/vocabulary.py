"""Name what a scene can hold, and which of it training must not see.

A *thing* is a noun in a colour ("red ball"); *stuff* fills the background ("grass"). Five nouns and about
15 % of the remaining colour-noun pairs are novel: decoders train on scenes without them and are measured on
them.
"""

from __future__ import annotations

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (212, 30, 38),
    "green": (44, 160, 62),
    "blue": (32, 84, 214),
    "yellow": (252, 220, 40),
    "orange": (246, 128, 14),
    "purple": (122, 42, 172),
    "pink": (250, 142, 192),
    "brown": (118, 70, 36),
    "white": (243, 243, 243),
    "black": (34, 34, 38),
}

# noun -> plural
NOUNS_PLURAL: dict[str, str] = {
    "apple": "apples",
    "arrow": "arrows",
    "ball": "balls",
    "bell": "bells",
    "bird": "birds",
    "boat": "boats",
    "bottle": "bottles",
    "butterfly": "butterflies",
    "car": "cars",
    "chair": "chairs",
    "cloud": "clouds",
    "cross": "crosses",
    "crown": "crowns",
    "cube": "cubes",
    "cup": "cups",
    "fish": "fish",
    "flower": "flowers",
    "hat": "hats",
    "heart": "hearts",
    "house": "houses",
    "key": "keys",
    "leaf": "leaves",
    "moon": "moons",
    "mushroom": "mushrooms",
    "ring": "rings",
    "rocket": "rockets",
    "star": "stars",
    "tree": "trees",
    "triangle": "triangles",
    "umbrella": "umbrellas",
}
NOUNS: tuple[str, ...] = tuple(NOUNS_PLURAL)

STUFF: tuple[str, ...] = (
    "sky", "mountain", "wall", "curtain", "grass", "sand", "water", "floor", "snow", "road",
)

NOVEL_NOUNS: tuple[str, ...] = ("bird", "boat", "cup", "key", "star")
BASE_NOUNS: tuple[str, ...] = tuple(noun for noun in NOUNS if noun not in NOVEL_NOUNS)


def _novel_pairs() -> frozenset[tuple[str, str]]:
    """Hold out one colour of every base noun and a second of every other, spread over the colours."""
    colors = tuple(COLORS)
    pairs = {(colors[3 * i % 10], noun) for i, noun in enumerate(BASE_NOUNS)}
    pairs |= {(colors[(7 * i + 1) % 10], noun) for i, noun in enumerate(BASE_NOUNS[::2])}
    return frozenset(pairs)


NOVEL_PAIRS: frozenset[tuple[str, str]] = _novel_pairs()
SPLITS: tuple[str, ...] = ("all", "base", "novel")


def is_base(color: str, noun: str) -> bool:
    """Tell whether a coloured noun may appear in scenes of the base split."""
    return noun not in NOVEL_NOUNS and (color, noun) not in NOVEL_PAIRS


BASE_PAIRS: tuple[tuple[str, str], ...] = tuple((c, n) for n in NOUNS for c in COLORS if is_base(c, n))
ALL_PAIRS: tuple[tuple[str, str], ...] = tuple((c, n) for n in NOUNS for c in COLORS)
NOVEL_NOUN_OR_PAIR: tuple[tuple[str, str], ...] = tuple(p for p in ALL_PAIRS if not is_base(*p))


def parse_label(label: str) -> tuple[str | None, str]:
    """Split a label such as "ball", "Red ball" or "grass" into (color or None, noun or stuff).

    Raises ValueError for words outside the vocabulary of the scenes.
    """
    words = label.lower().split()
    if len(words) == 1 and (words[0] in NOUNS_PLURAL or words[0] in STUFF):
        return None, words[0]
    if len(words) == 2 and words[0] in COLORS and words[1] in NOUNS_PLURAL:
        return words[0], words[1]
    raise ValueError(
        f"scenes know no label {label!r}; accepted are a noun ({', '.join(NOUNS)}), a colour "
        f"({', '.join(COLORS)}) and a noun, or stuff ({', '.join(STUFF)})"
    )
