"""Tilings that cut images. Importing this package registers every kind."""

from ommatidia.models.vision.tilings.any_resolution import AnyResolution
from ommatidia.models.vision.tilings.dynamic import Dynamic
from ommatidia.models.vision.tilings.fixed import FixedGrid, Windows
from ommatidia.models.vision.tilings.slices import Slices
from ommatidia.models.vision.tilings.tiles import Layout, Overview, Tags, Tiles
from ommatidia.models.vision.tilings.unpad import Unpad

__all__ = ["AnyResolution", "Dynamic", "FixedGrid", "Layout", "Overview", "Slices", "Tags", "Tiles", "Unpad", "Windows"]
