"""A run that learns nothing any more ends with the reason: maps that say nothing, or losses that are not finite."""

from __future__ import annotations

import json
import math


class CollapseError(RuntimeError):
    """Activation maps that say nothing any more: all empty, all full, or the same for every label."""


class CollapseGuard:
    """Count steps in a row whose activation maps say nothing."""

    def __init__(self, patience: int):
        """Set how long maps may say nothing.

        Args:
            patience: steps in a row; 0 for any number.
        """
        self.patience, self.count = patience, 0

    def update(self, values: dict[str, float]) -> None:
        """Take the statistics of one step, if it has any.

        Args:
            values: "activation/mean", and the deviations "activation/pixels" and "activation/labels".

        Raises:
            CollapseError: `patience` is over.
        """
        if "activation/mean" not in values:
            return
        mean, pixels, labels = (values[f"activation/{name}"] for name in ("mean", "pixels", "labels"))
        reason = (
            f"all maps are empty (mean activation {mean:.4f})" if mean < 0.002
            else f"all maps are full (mean activation {mean:.4f})" if mean > 0.998
            else f"every map is flat (deviation over pixels {pixels:.5f})" if pixels < 0.002
            else f"all labels of an image have the same map (deviation over labels {labels:.5f})" if labels < 0.002
            else ""
        )  # fmt: skip
        self.count = self.count + 1 if reason else 0
        if self.patience and self.count >= self.patience:
            raise CollapseError(
                f"training has collapsed: for {self.count} steps {reason}. Lower the learning rate, start from a "
                "pre-trained decoder, or add the terms 'presence' or 'teacher' to the objective"
            )


class FiniteGuard:
    """Count steps in a row whose losses are not finite.

    One bad batch must not spoil the weights: its step is skipped. Many in a row mean that they are spoilt.

    Attributes:
        skipped: steps in a row that were skipped.
    """

    MOST = 10

    def __init__(self) -> None:
        self.skipped = 0

    def update(self, values: dict[str, float], step: int) -> bool:
        """Take the losses of one step.

        Args:
            values: losses and statistics.
            step: number of the step, for the message.

        Returns:
            Whether the weights may follow.

        Raises:
            FloatingPointError: `MOST` steps in a row were not finite.
        """
        if all(math.isfinite(value) for value in values.values()):
            self.skipped = 0
            return True
        self.skipped += 1
        if self.skipped == self.MOST:
            raise FloatingPointError(
                f"the loss was not finite for {self.skipped} steps up to step {step}: {json.dumps(values)}; "
                "lower the learning rate or use --trainer.precision 32-true"
            )
        return False
