"""The consumer's side, for any Python node: masks of every frame, and questions to the node."""

from synseg_ros.client.calls import RequestRefusedError
from synseg_ros.client.lease import VocabularyLease
from synseg_ros.client.locations import Location, Thing
from synseg_ros.client.masks import FrameMasks, LabelMasks, MaskClient
from synseg_ros.client.services import SynSegClient

__all__ = [
    "FrameMasks",
    "LabelMasks",
    "Location",
    "MaskClient",
    "RequestRefusedError",
    "SynSegClient",
    "Thing",
    "VocabularyLease",
]
