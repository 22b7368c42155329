"""Fusions: the grids of several encoders become one. Importing this package registers every kind."""

from ommatidia.models.fusion.concat import ChannelConcat, NoFusion, SequenceAppend
from ommatidia.models.fusion.fusion import Fusion, FusionConfig
from ommatidia.models.fusion.resample import Auto, Bilinear, Pool, ResampleConfig, Unshuffle

__all__ = [
    "Auto",
    "Bilinear",
    "ChannelConcat",
    "Fusion",
    "FusionConfig",
    "NoFusion",
    "Pool",
    "ResampleConfig",
    "SequenceAppend",
    "Unshuffle",
]
