"""Vision encoders: each owns its preprocessing, its trunk and its neck, and returns a grid x_BHWD.

Importing this package registers every kind.
"""

from ommatidia.models.vision.card import Card
from ommatidia.models.vision.catalog import CATALOG
from ommatidia.models.vision.clip import ClipEncoder
from ommatidia.models.vision.craft import CraftEncoder
from ommatidia.models.vision.diffusion import DiffusionEncoder
from ommatidia.models.vision.encoder import EncoderConfig, VisionEncoder
from ommatidia.models.vision.eva02_det import Eva02DetEncoder
from ommatidia.models.vision.hf import HFEncoder
from ommatidia.models.vision.internvit import InternVitEncoder
from ommatidia.models.vision.neck import ConvNeck, LinearNeck, NeckConfig, NoNeck
from ommatidia.models.vision.patches import PatchesEncoder
from ommatidia.models.vision.pix2struct import Pix2StructEncoder
from ommatidia.models.vision.preprocess import Preprocess
from ommatidia.models.vision.sam import SamEncoder
from ommatidia.models.vision.tiling import TilingConfig, Whole
from ommatidia.models.vision.tilings import AnyResolution, Dynamic, FixedGrid, Slices, Unpad, Windows
from ommatidia.models.vision.timm import TimmEncoder
from ommatidia.models.vision.weights import (
    FileWeights,
    FolderWeights,
    HubFileWeights,
    HubWeights,
    PackageWeights,
    RandomWeights,
    WeightsConfig,
)

__all__ = [
    "CATALOG",
    "AnyResolution",
    "Card",
    "ClipEncoder",
    "ConvNeck",
    "CraftEncoder",
    "DiffusionEncoder",
    "Dynamic",
    "EncoderConfig",
    "Eva02DetEncoder",
    "FileWeights",
    "FixedGrid",
    "FolderWeights",
    "HFEncoder",
    "HubFileWeights",
    "HubWeights",
    "InternVitEncoder",
    "LinearNeck",
    "NeckConfig",
    "NoNeck",
    "PackageWeights",
    "PatchesEncoder",
    "Pix2StructEncoder",
    "Preprocess",
    "RandomWeights",
    "SamEncoder",
    "Slices",
    "TilingConfig",
    "TimmEncoder",
    "Unpad",
    "VisionEncoder",
    "WeightsConfig",
    "Whole",
    "Windows",
]
