"""The rows of the comparison: what each is trained with, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace

OURS = {"pairs": "distinct", "clamp": "straight-through"}
FROZEN = {**OURS, "features": "frozen"}
NO_MCCL = dict.fromkeys(("align", "cont", "back", "sep"), 0.0)
MASKS = {**NO_MCCL, "masks": 1.0}

ALONE = "(i) mask-pre-trained decoder alone"


@dataclass(frozen=True, eq=False)
class Row:
    """One row.

    name: in tables and figures. objective: settings of the objective's terms, None for a row that is not trained: the
    model that training starts from. decoder: random, or None for what all others start from. keep, rehearsal: see
    `training.train`. refine: see `synseg_model.refinement`. beside: name of the row that differences are taken to, on
    the same seeds and scenes.
    """

    name: str
    objective: dict | None = None
    decoder: str | None = None
    keep: float = 0.0
    rehearsal: float = 0.0
    refine: str = "none"
    beside: str = ALONE

    @property
    def folder(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.name).strip("-")


START = Row(ALONE)
FEATURES = Row("+ frozen CLIP features (ours)", FROZEN)
BEST = Row("masks of captions + scenes with masks, 0.4 of the start kept (ours)", MASKS, keep=0.4, rehearsal=1.0)
WITHOUT_PARTS = (FEATURES, BEST)


def with_part(name: str) -> tuple[Row, ...]:
    """Add a term to the paper's objective on features that no training bends, and to the best objective."""
    part = {"features": "frozen", name: 0.1}
    return (
        Row(f"+ {name.upper()}", {**FROZEN, **part}, beside=FEATURES.name),
        replace(BEST, name=f"masks of captions + {name.upper()}", objective={**MASKS, **part}, beside=BEST.name),
    )


OBJECTIVES = (
    START,
    Row("(ii) random initialisation + MCCL", {}, decoder="random"),
    Row("(iii) pre-trained + MCCL", {}),
    Row("without align", {"align": 0.0}),
    Row("without cont", {"cont": 0.0}),
    Row("without back", {"back": 0.0}),
    Row("without sep", {"sep": 0.0}),
    Row("straight-through clamp, distinct pairs (ours)", OURS),
    FEATURES,
    Row("+ presence of labels (ours)", {**FROZEN, "presence": 1.0}),
    Row("presence alone (ours)", {**NO_MCCL, "presence": 1.0}),
    Row("anchor to CLIP alone (ours)", {**NO_MCCL, "anchor": 1.0}),
    Row("teacher alone (ours)", {**NO_MCCL, "teacher": 1.0}),
    Row("teacher, every pixel named by the caption (ours)", {**NO_MCCL, "teacher": 1.0, "teacher_margin": 0.0}),
    Row("teacher + presence (ours)", {**NO_MCCL, "teacher": 1.0, "presence": 0.1}),
    Row("pixels are named by the caption (ours)", {**NO_MCCL, "named": 1.0}),
    Row("pixels are named + presence (ours)", {**NO_MCCL, "named": 1.0, "presence": 0.1}),
    Row("teacher + MCCL on frozen features (ours)", {**FROZEN, "teacher": 1.0}),
    Row("masks of captions (ours)", MASKS),
    Row("masks of captions, 0.4 of the start kept (ours)", MASKS, keep=0.4),
    Row("masks of captions + scenes with masks (ours)", MASKS, rehearsal=1.0),
    BEST,
)

PARTS = {
    "npr": (*WITHOUT_PARTS, *with_part("npr")),
    "cmpa": (*WITHOUT_PARTS, *with_part("cmpa")),
    "sgc": (START, Row("(i) + averaged in superpixels", refine="superpixels"), Row("(i) + SGC", refine="sgc")),
}


def chosen_rows(variants: tuple[str, ...], parts: str) -> list[Row]:
    """Choose the rows of the objectives whose names contain any of `variants`, or those with and without parts.

    parts: names with commas between, empty for the objectives. Where the decoder starts always comes first. Raises
    ValueError for a name that fits nothing.
    """
    if parts:
        names = [name.strip() for name in parts.split(",")]
        unknown = [name for name in names if name not in PARTS]
        if unknown or variants:
            raise ValueError(f"parts {parts!r}, variants {list(variants)}: expected {', '.join(PARTS)}, or variants")
        return list(dict.fromkeys([START, *(row for name in PARTS if name in names for row in PARTS[name])]))
    rows = [row for row in OBJECTIVES if row.objective is not None]
    chosen = [row for row in rows if not variants or any(word in row.name for word in variants)]
    if not chosen:
        raise ValueError(f"no row's name contains any of {list(variants)}; rows: {[row.name for row in rows]}")
    return [START, *chosen]
