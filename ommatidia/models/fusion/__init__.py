"""Fusions: the grids of several encoders become one. Importing this package registers every kind."""

from ommatidia.models.fusion.concat import ChannelConcat, NoFusion, SequenceAppend
from ommatidia.models.fusion.fusion import Between, Fused, Fusion, FusionConfig, Look
from ommatidia.models.fusion.mixture_of_resolution import MixtureOfResolution
from ommatidia.models.fusion.resample import Auto, Bilinear, Pool, ResampleConfig, Unshuffle
from ommatidia.models.fusion.sva import SVA

__all__ = [
    "SVA",
    "Auto",
    "Between",
    "Bilinear",
    "ChannelConcat",
    "Fused",
    "Fusion",
    "FusionConfig",
    "Look",
    "MixtureOfResolution",
    "NoFusion",
    "Pool",
    "ResampleConfig",
    "SequenceAppend",
    "Unshuffle",
]
