"""Which images a model is for, and a warning where it gets others."""

from __future__ import annotations

from synseg_model.config import DEFAULT_MODEL, ModelConfig

PHOTOGRAPHS, GENERATED_SCENES = "photographs", "generated scenes"  # domains: what cameras see, and the player's own


def domain_warning(config: ModelConfig, expected: str = PHOTOGRAPHS) -> str:
    """Say that a model was made for other images than it gets; "" where it was not, or does not say what it is for.

    expected: what the images are, as a config's `domain` has it; "": do not warn.
    """
    if not config.domain or not expected or config.domain.casefold() == expected.casefold():
        return ""
    return (
        f"the model {config.name!r} is for {config.domain}; its masks mean little on other images: "
        f"for photographs choose the model {DEFAULT_MODEL!r}"
    )
