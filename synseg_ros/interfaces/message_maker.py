"""Results as ROS messages, with any library's classes: rclpy's for the node, rosbags' for recordings."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from synseg_model.io.drawing import colors_of
from synseg_model.result import Cutout, Result
from synseg_model.vocabulary import Vocabulary
from synseg_ros.interfaces.compressed_images import jpeg_fields
from synseg_ros.interfaces.image_encodings import image_fields
from synseg_ros.interfaces.mask_encodings import PNG_FORMAT, check_mask_encoding, encode_png, encode_rle
from synseg_ros.interfaces.mask_kinds import MONO8, PNG, RLE

MONO8_LABELS = 254  # larger ids than this need a mono16 label map; 255 is "unlabeled" to some consumers

# What a MessageMaker builds, by package.
MESSAGES = {
    "sensor_msgs": ("CompressedImage", "Image", "RegionOfInterest"),
    "std_msgs": ("ColorRGBA",),
    "synseg_ros": ("ClassMask", "ClassMasks", "FrameInfo", "VocabularyStatus"),
}


class MessageMaker:
    """Make messages from results.

    Headers and stamps are of the library's own classes and are passed on as they are.

    Args:
        types: The classes of MESSAGES by name; each is called with all of its fields as keywords.
        sequence: Turns an array (N) of uint8, uint16, uint32 or float32 into what those classes hold in such fields.
    """

    def __init__(self, types: Mapping[str, type], sequence: Callable[[np.ndarray], Any]) -> None:
        self._types, self._sequence = types, sequence
        self._mask_encoding = MONO8

    def with_masks(self, encoding: str) -> MessageMaker:
        """Return a maker like this one that encodes masks in another way.

        Args:
            encoding: One of MASK_ENCODINGS; a new maker encodes them as mono8.

        Raises:
            ValueError: The encoding is unknown.
        """
        check_mask_encoding(encoding)
        maker = copy.copy(self)
        maker._mask_encoding = encoding
        return maker

    def type(self, name: str) -> type:
        """Return the class of a message type.

        Args:
            name: Such as "sensor_msgs/msg/Image"; one of MESSAGES.
        """
        return self._types[name.rpartition("/")[2]]

    def image(self, pixels: np.ndarray, encoding: str, header: Any) -> Any:
        """Make an Image.

        Args:
            pixels: (H, W) or (H, W, C) samples.
            encoding: Their encoding, see `image_fields`.
            header: Header of the image.

        Raises:
            ValueError: The encoding does not fit the samples.
        """
        fields = image_fields(pixels, encoding)
        return self._types["Image"](header=header, **{**fields, "data": self._sequence(fields["data"])})

    def class_masks(self, result: Result, header: Any, version: int) -> Any:
        """Make the ClassMasks of one frame: a cropped mask for each label that has a pixel.

        Args:
            result: What was found in the image.
            header: Header of the frame.
            version: Version of the vocabulary.
        """
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
        """Make the ClassMask of one cutout of a result.

        Args:
            result: What was found in the image.
            cutout: One of its cutouts.
            header: Header of the frame.
        """
        x, y, width, height = cutout.roi
        return self._types["ClassMask"](
            id=result.vocabulary.ids[cutout.index],
            label=result.labels[cutout.index],
            score=cutout.score,
            presence=float(result.presence[cutout.index]),
            area=cutout.area,
            roi=self._types["RegionOfInterest"](x_offset=x, y_offset=y, width=width, height=height, do_rectify=False),
            **self.mask_fields(cutout.mask, header),
        )

    def mask_fields(self, pixels: np.ndarray, header: Any) -> dict[str, Any]:
        """Make the fields of a ClassMask or an Instance that hold its mask, in this maker's encoding.

        Args:
            pixels: (h, w) uint8, 0 or 255.
            header: Header of the frame.
        """
        encoding, none = self._mask_encoding, np.zeros((0, 0), np.uint8)
        runs = encode_rle(pixels) if encoding == RLE else np.zeros(0, np.uint32)
        file = encode_png(pixels) if encoding == PNG else none.reshape(-1)
        return {
            "mask": self.image(pixels if encoding == MONO8 else none, MONO8, header),
            "mask_encoding": encoding,
            "mask_png": self._types["CompressedImage"](
                header=header, format=PNG_FORMAT if encoding == PNG else "", data=self._sequence(file)
            ),
            "mask_rle": self._sequence(runs),
        }

    def label_map(self, result: Result, header: Any) -> Any:
        """Make the label map, where 0 is background: mono8, or mono16 if the vocabulary has an id over 254.

        Args:
            result: What was found in the image.
            header: Header of the frame.
        """
        if max(result.vocabulary.ids) <= MONO8_LABELS:
            return self.image(result.label_map.astype(np.uint8), "mono8", header)
        return self.image(result.label_map, "mono16", header)

    def confidence(self, result: Result, header: Any) -> Any:
        """Make the confidence as mono8: 0 to 1 becomes 0 to 255.

        Args:
            result: What was found in the image.
            header: Header of the frame.
        """
        return self.image(cv2.convertScaleAbs(result.confidence, alpha=255), "mono8", header)

    def overlay(self, drawn: np.ndarray, header: Any) -> Any:
        """Make the overlay as an rgb8 image.

        Args:
            drawn: (H, W, 3) uint8 RGB, the image with colours and names drawn over it.
            header: Header of the frame.
        """
        return self.image(drawn, "rgb8", header)

    def compressed_overlay(self, drawn: np.ndarray, header: Any) -> Any:
        """Make the overlay as a JPEG, as image_transport compresses it.

        Args:
            drawn: (H, W, 3) uint8 RGB, the image with colours and names drawn over it.
            header: Header of the frame.
        """
        fields = jpeg_fields(drawn)
        return self._types["CompressedImage"](header=header, **{**fields, "data": self._sequence(fields["data"])})

    def frame_info(self, result: Result, header: Any, version: int, inference_ms: float) -> Any:
        """Make the FrameInfo, which says what the images with the same header were made with.

        Args:
            result: What was found in the image.
            header: Header of the frame.
            version: Version of the vocabulary.
            inference_ms: Milliseconds that the engine took.
        """
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
        """Make the status of the vocabulary in use and of the last request.

        Args:
            vocabulary: The vocabulary in use, None at version 0.
            version: Its version.
            stamp: The time now, of the library's own class.
            refusal: Why the last request was refused, "" where it was not.
            pedigree: One text per label, or none, see `Segmenter.pedigree_of`.
            wanted_by: Per label the names of the clients that want it, or none.
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
