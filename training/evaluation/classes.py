"""Class names and prompts, which are data: `training/data/classes/*.txt` and `training/data/prompts/*.txt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
PROMPT_SETS = ("single", "imagenet", "model")


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set in the order of its label files, background left out.

    names: as the data set spells them. prompts: for each class what people say, the usual word first.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def queries(self, aliases: bool) -> tuple[list[str], list[int]]:
        """Return the texts to ask for, and for each the index of its class; one text per class without aliases."""
        chosen = [words if aliases else words[:1] for words in self.prompts]
        return [word for words in chosen for word in words], [i for i, words in enumerate(chosen) for _ in words]


def parse_classes(text: str, where: str = "class list") -> ClassList:
    """Read lines of `name` or `name: prompt, prompt`; `#` starts a comment line.

    Raise ValueError for an empty list, an empty name or prompt, and a name or prompt that stands there twice.
    """
    names, prompts = [], []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, words = (part.strip() for part in line.partition(":"))
        names.append(name)
        prompts.append(tuple(word.strip() for word in words.split(",")) if words else (name,))
    if not names:
        raise ValueError(f"{where} has no classes: expected one per line")
    for kind, texts in (("name", names), ("prompt", [word for words in prompts for word in words])):
        wrong = [text for i, text in enumerate(texts) if not text or text in texts[:i]]
        if wrong:
            raise ValueError(f"{where} has the {kind} {wrong[0]!r} twice or empty: each must be there once")
    return ClassList(tuple(names), tuple(prompts))


def read_classes(stem: str) -> ClassList:
    """Read a class list of `training/data/classes`, for instance "voc"."""
    path = DATA / "classes" / f"{stem}.txt"
    return parse_classes(path.read_text(encoding="utf-8"), path.name)


def read_templates(prompts: str) -> tuple[str, ...]:
    """Read a prompt set: "single" or "imagenet" (the 80 templates of CLIP's own ImageNet evaluation)."""
    return tuple((DATA / "prompts" / f"{prompts}.txt").read_text(encoding="utf-8").splitlines())
