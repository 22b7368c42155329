"""Fusions: the grids of several encoders become one. Importing this package registers every kind."""

from ommatidia.models.fusion.concat import ChannelConcat, NoFusion, SequenceAppend
from ommatidia.models.fusion.deformable import Deformable
from ommatidia.models.fusion.fusion import BlockEdits, Fused, Fusion, FusionConfig, RunEncoder
from ommatidia.models.fusion.gated_sum import GatedSum
from ommatidia.models.fusion.interleave import Interleave
from ommatidia.models.fusion.mixture_of_resolution import MixtureOfResolution
from ommatidia.models.fusion.patch_mining import PatchMining
from ommatidia.models.fusion.resample import Auto, Bilinear, Pool, ResampleConfig, Unshuffle
from ommatidia.models.fusion.resampler import Resampler
from ommatidia.models.fusion.routing import Routing
from ommatidia.models.fusion.sketch import Box, Sketch
from ommatidia.models.fusion.sva import SVA

__all__ = [
    "SVA",
    "Auto",
    "Bilinear",
    "BlockEdits",
    "Box",
    "ChannelConcat",
    "Deformable",
    "Fused",
    "Fusion",
    "FusionConfig",
    "GatedSum",
    "Interleave",
    "MixtureOfResolution",
    "NoFusion",
    "PatchMining",
    "Pool",
    "ResampleConfig",
    "Resampler",
    "Routing",
    "RunEncoder",
    "SequenceAppend",
    "Sketch",
    "Unshuffle",
]
