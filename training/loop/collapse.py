"""A run whose activation maps say nothing any more ends with a word on why."""

from __future__ import annotations


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
