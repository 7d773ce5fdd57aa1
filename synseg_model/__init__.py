"""Images and labels in, masks out: open-vocabulary segmentation. Knows nothing of ROS.

    from synseg_model import Segmenter
    segmenter = Segmenter.load()                        # synseg-everyday
    segmenter.set_vocabulary(["person", "sofa"])
    result = segmenter.segment(image)                   # (H,W,3) uint8 RGB
    result.masks, result.label_map, result.confidence

Importing this package loads nothing: each name is imported where it is first used, and torch only with an
engine that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synseg_model.config import ModelError
    from synseg_model.result import Result
    from synseg_model.segmenter import Segmenter
    from synseg_model.vocabulary import Vocabulary, VocabularyError

__version__ = "0.1.0"
__all__ = ["ModelError", "Result", "Segmenter", "Vocabulary", "VocabularyError", "__version__"]

_HOMES = {
    "ModelError": "config",
    "Result": "result",
    "Segmenter": "segmenter",
    "Vocabulary": "vocabulary",
    "VocabularyError": "vocabulary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
