"""Projectors: visual features to the width of the language model. Importing this package registers every kind."""

from ommatidia.models.projector.c_abstractor import CAbstractor, LDPv2
from ommatidia.models.projector.mlp import Identity, LinearProjector, MLPProjector, PixelShuffleMLP, PoolMLP
from ommatidia.models.projector.perceiver import Perceiver
from ommatidia.models.projector.projector import ProjectorConfig
from ommatidia.models.projector.q_former import QFormer

__all__ = [
    "CAbstractor",
    "Identity",
    "LDPv2",
    "LinearProjector",
    "MLPProjector",
    "Perceiver",
    "PixelShuffleMLP",
    "PoolMLP",
    "ProjectorConfig",
    "QFormer",
]
