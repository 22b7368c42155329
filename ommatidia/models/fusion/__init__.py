"""Fusions: the grids of several encoders become one. Importing this package registers every kind."""

from ommatidia.models.fusion.concat import ChannelConcat, NoFusion, SequenceAppend
from ommatidia.models.fusion.fusion import Between, Fused, Fusion, FusionConfig, Look
from ommatidia.models.fusion.resample import Auto, Bilinear, Pool, ResampleConfig, Unshuffle

__all__ = [
    "Auto",
    "Between",
    "Bilinear",
    "ChannelConcat",
    "Fused",
    "Fusion",
    "FusionConfig",
    "Look",
    "NoFusion",
    "Pool",
    "ResampleConfig",
    "SequenceAppend",
    "Unshuffle",
]
