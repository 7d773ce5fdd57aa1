"""Images of a source in a viewer: files by their names, frames of a video by their time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from synseg_model.instances import find_instances
from synseg_model.io.sources import Source
from synseg_model.result import Result
from synseg_model.viewer.frame import ViewedFrame

if TYPE_CHECKING:
    from synseg_model.viewer.viewer import Viewer

__all__ = ["ImageView"]


class ImageView:
    """Show the images of one source.

    Args:
        viewer: where they are shown.
        source: the source.
    """

    def __init__(self, viewer: Viewer, source: Source) -> None:
        self._viewer, self._fps, self._number = viewer, source.fps, 0
        self._files = source.kind == "images"
        named = {"images": "images", "device": "camera"}
        self._camera = named.get(source.kind) or source.path.stem

    def show(self, name: str, image: np.ndarray, result: Result) -> None:
        """Show an image.

        Args:
            name: name of the image; of a video's frame its number.
            image: (H,W,3) uint8 RGB.
            result: what was found in it.
        """
        number = self._number if self._files or not name.isdecimal() else int(name)
        self._number += 1
        self._viewer.show(
            ViewedFrame(
                self._camera,
                number,
                image,
                result,
                find_instances(result.label_map, result.confidence, result.labels, result.ids),
                seconds=number / self._fps if self._fps else None,
                name=name if self._files else "",
            )
        )
