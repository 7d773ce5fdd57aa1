"""A Result as ROS messages, made with any library's classes: rclpy's for the node, rosbags' for recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from synseg_model.io.drawing import colors_of, overlay
from synseg_model.result import Cutout, Result
from synseg_model.vocabulary import Vocabulary
from synseg_ros.interfaces.image_encodings import image_fields

MONO8_LABELS = 254  # larger ids than this need a mono16 label map; 255 is "unlabeled" to some consumers

# What a MessageMaker builds, by package.
MESSAGES = {
    "sensor_msgs": ("Image", "RegionOfInterest"),
    "std_msgs": ("ColorRGBA",),
    "synseg_ros": ("ClassMask", "ClassMasks", "FrameInfo", "VocabularyStatus"),
}


class MessageMaker:
    """Make messages that say what a Result says.

    types: the classes of MESSAGES by name; each is called with all of its fields as keywords. sequence: turns (N)
    uint8, uint16 or float32 into what those classes hold in fields of that element type. Headers and stamps are the
    library's own and are passed on as they are.
    """

    def __init__(self, types: Mapping[str, type], sequence: Callable[[np.ndarray], Any]) -> None:
        self._types, self._sequence = types, sequence

    def outputs(
        self, image: np.ndarray, result: Result, header: Any, version: int, inference_ms: float
    ) -> dict[str, Callable[[], Any]]:
        """Return what makes each output of a frame, by its name, in the order in which they are published.

        image: the image (H,W,3) uint8 RGB that the result is of.
        """
        return {
            "info": lambda: self.frame_info(result, header, version, inference_ms),
            "masks": lambda: self.class_masks(result, header, version),
            "label_map": lambda: self.label_map(result, header),
            "confidence": lambda: self.confidence(result, header),
            "overlay": lambda: self.overlay(image, result, header),
        }

    def image(self, pixels: np.ndarray, encoding: str, header: Any) -> Any:
        """Make an Image of (H, W) or (H, W, C) samples; ValueError where they are not those of the encoding."""
        fields = image_fields(pixels, encoding)
        return self._types["Image"](header=header, **{**fields, "data": self._sequence(fields["data"])})

    def class_masks(self, result: Result, header: Any, version: int) -> Any:
        """Make the ClassMasks of one frame: an entry with a cropped mono8 mask per label that has a pixel."""
        height, width = result.shape
        return self._types["ClassMasks"](
            header=header,
            vocabulary_version=version,
            height=height,
            width=width,
            labels=list(result.labels),
            ids=self._ids(result.vocabulary),
            masks=[self.class_mask(result, cutout, header) for cutout in result.cutouts()],
        )

    def class_mask(self, result: Result, cutout: Cutout, header: Any) -> Any:
        """Make the ClassMask of one of a Result's cutouts."""
        x, y, width, height = cutout.roi
        return self._types["ClassMask"](
            id=result.vocabulary.ids[cutout.index],
            label=result.labels[cutout.index],
            score=cutout.score,
            presence=float(result.presence[cutout.index]),
            area=cutout.area,
            roi=self._types["RegionOfInterest"](x_offset=x, y_offset=y, width=width, height=height, do_rectify=False),
            mask=self.image(cutout.mask, "mono8", header),
        )

    def label_map(self, result: Result, header: Any) -> Any:
        """Make the label map: mono8, or mono16 where the vocabulary has an id over 254; 0 is background."""
        if max(result.vocabulary.ids) <= MONO8_LABELS:
            return self.image(result.label_map.astype(np.uint8), "mono8", header)
        return self.image(result.label_map, "mono16", header)

    def confidence(self, result: Result, header: Any) -> Any:
        """Make the confidence as mono8: activation 0 to 1 is 0 to 255."""
        return self.image(cv2.convertScaleAbs(result.confidence, alpha=255), "mono8", header)

    def overlay(self, image: np.ndarray, result: Result, header: Any) -> Any:
        """Make the image (H,W,3) uint8 RGB with colours and names drawn over it, as rgb8."""
        return self.image(overlay(image, result), "rgb8", header)

    def frame_info(self, result: Result, header: Any, version: int, inference_ms: float) -> Any:
        """Make the message that tells which vocabulary the images with the same header were made with."""
        return self._types["FrameInfo"](
            header=header,
            vocabulary_version=version,
            labels=list(result.labels),
            ids=self._ids(result.vocabulary),
            inference_ms=float(inference_ms),
        )

    def vocabulary_status(
        self,
        vocabulary: Vocabulary | None,
        version: int,
        stamp: Any,
        refusal: str = "",
        pedigree: Sequence[str] = (),
        wanted_by: Sequence[Sequence[str]] = (),
    ) -> Any:
        """Make the status of the vocabulary in use (None at version 0) and of the last request.

        pedigree: one text per label, or none, as `Segmenter.pedigree_of` gives them. wanted_by: per label the names of
        the clients that want it, or none.
        """
        return self._types["VocabularyStatus"](
            stamp=stamp,
            version=version,
            labels=list(vocabulary.labels) if vocabulary else [],
            ids=self._ids(vocabulary),
            thresholds=self._sequence(vocabulary.thresholds if vocabulary else np.zeros(0, np.float32)),
            colors=self._colors(colors_of(vocabulary)) if vocabulary else [],
            pedigree=list(pedigree),
            wanted_by=[", ".join(clients) for clients in wanted_by],
            accepted=not refusal,
            message=refusal,
        )

    def _ids(self, vocabulary: Vocabulary | None) -> Any:
        return self._sequence(np.array(vocabulary.ids if vocabulary else (), np.uint16))

    def _colors(self, palette_rgb: np.ndarray) -> list[Any]:
        color = self._types["ColorRGBA"]
        return [color(r=r / 255, g=g / 255, b=b / 255, a=1.0) for r, g, b in palette_rgb.tolist()]
