"""Train the models of this project: data, pre-training and evaluation."""

import warnings
from pathlib import Path


def _warn_of_a_mixed_package() -> None:
    """Warn where another project has installed a package of this name into the same folder: pip mixes their files."""
    for record in Path(__file__).parents[1].glob("*.dist-info/RECORD"):
        project = record.parent.name.partition("-")[0]
        if project != "synseg" and "\ntraining/__init__.py," in "\n" + record.read_text("utf-8", "replace"):
            warnings.warn(
                f"{project} has installed a package `training`, too, and its files are mixed with SynSeg's in "
                f"{Path(__file__).parent}. Install both again, each in a virtual environment of its own.",
                stacklevel=3,
            )


_warn_of_a_mixed_package()
