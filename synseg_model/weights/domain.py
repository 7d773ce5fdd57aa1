"""The domain of a model: which images it is for, and a warning where it gets others."""

from __future__ import annotations

from synseg_model.config import DEFAULT_MODEL, ModelConfig

__all__ = ["GENERATED_SCENES", "PHOTOGRAPHS", "domain_warning"]

PHOTOGRAPHS, GENERATED_SCENES = "photographs", "generated scenes"  # domains of the shipped models


def domain_warning(config: ModelConfig, expected: str = PHOTOGRAPHS) -> str:
    """Warn of a model that was made for other images than it gets.

    Args:
        config: the model's config.
        expected: what the images are, in the words of a config's `domain`; "" for no warning.

    Returns:
        One line; "" where the model fits, and where it does not say what it is for.
    """
    if not config.domain or not expected or config.domain.casefold() == expected.casefold():
        return ""
    return (
        f"the model {config.name!r} is for {config.domain}; its masks mean little on other images: "
        f"for photographs choose the model {DEFAULT_MODEL!r}"
    )
