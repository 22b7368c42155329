"""Vision encoders: each owns its preprocessing, its trunk and its neck, and returns a grid x_BHWD.

Importing this package registers every kind.
"""

from ommatidia.models.vision.catalog import CATALOG, Card
from ommatidia.models.vision.craft import CraftEncoder
from ommatidia.models.vision.encoder import EncoderConfig, VisionEncoder
from ommatidia.models.vision.hf import HFEncoder
from ommatidia.models.vision.neck import ConvNeck, LinearNeck, NeckConfig, NoNeck
from ommatidia.models.vision.patches import PatchesEncoder
from ommatidia.models.vision.preprocess import Preprocess
from ommatidia.models.vision.tiling import TilingConfig, Whole
from ommatidia.models.vision.timm import TimmEncoder
from ommatidia.models.vision.weights import (
    FileWeights,
    FolderWeights,
    HubWeights,
    PackageWeights,
    RandomWeights,
    WeightsConfig,
)

__all__ = [
    "CATALOG",
    "Card",
    "ConvNeck",
    "CraftEncoder",
    "EncoderConfig",
    "FileWeights",
    "FolderWeights",
    "HFEncoder",
    "HubWeights",
    "LinearNeck",
    "NeckConfig",
    "NoNeck",
    "PackageWeights",
    "PatchesEncoder",
    "Preprocess",
    "RandomWeights",
    "TilingConfig",
    "TimmEncoder",
    "VisionEncoder",
    "WeightsConfig",
    "Whole",
]
