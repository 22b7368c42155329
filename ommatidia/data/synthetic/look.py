"""Fonts, colours and backgrounds of the drawn tasks, each set cut in two: train shows nothing that test shows."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from ommatidia.core.errors import ConfigError
from ommatidia.data.synthetic.task import Split

RGB = tuple[int, int, int]

FONTS: dict[Split, tuple[str, ...]] = {
    "train": (
        "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif",
        "DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBol", "cmr10", "cmss10",
    ),
    "test": (
        "DejaVuSans-BoldOblique", "DejaVuSansMono-Oblique", "DejaVuSerif-Bold", "STIXGeneralBolIta", "cmb10", "cmtt10",
    ),
}  # fmt: skip
"""Files that matplotlib ships (DejaVu, STIX, Computer Modern)."""

_DARK: tuple[RGB, ...] = ((0, 0, 0), (20, 30, 110), (120, 20, 30), (0, 80, 40), (80, 20, 110), (90, 50, 10))
_LIGHT: tuple[RGB, ...] = (
    (255, 255, 255), (255, 250, 225), (205, 228, 250), (222, 222, 222), (250, 215, 220), (210, 240, 205),
)  # fmt: skip


def ink_pairs(split: Split) -> tuple[tuple[RGB, RGB], ...]:
    """(ink, paper) of the split: dark on light and light on dark. A pair and its inverse belong to the same split."""
    pairs = [
        (dark, light)
        for i, dark in enumerate(_DARK)
        for j, light in enumerate(_LIGHT)
        if ((i + j) % 3 == 0) == (split == "test")
    ]
    return (*pairs, *((light, dark) for dark, light in pairs))


COLOURS: dict[str, RGB] = {
    "red": (215, 35, 35),
    "green": (30, 150, 60),
    "blue": (40, 80, 215),
    "yellow": (245, 205, 20),
    "purple": (145, 55, 180),
    "orange": (245, 130, 20),
}
"""Colours with a name, for shapes, bars and points."""

BACKGROUNDS: dict[Split, tuple[RGB, ...]] = {
    "train": ((255, 255, 255), (235, 235, 235), (222, 238, 245), (60, 60, 66), (250, 240, 222), (205, 205, 210)),
    "test": ((240, 226, 240), (224, 240, 222), (35, 45, 60)),
}
"""A coloured shape and its background are a colour pair; the splits share no background, so they share no pair."""


def outline(background: RGB) -> RGB:
    """A thin edge that shows on this background."""
    return (20, 20, 20) if sum(background) > 380 else (245, 245, 245)


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    spec = importlib.util.find_spec("matplotlib")  # finds the folder without importing a plotting library
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the drawn tasks take their fonts from the package matplotlib, which is not installed")
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


@lru_cache(maxsize=2048)
def font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    """A font by file name without ending, with an em of so many pixels. Raises ConfigError when matplotlib lacks it."""
    path = _font_folder() / f"{name}.ttf"
    try:
        # The basic layout engine is part of Pillow itself, so that every machine places letters alike.
        return ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        raise ConfigError(
            f"{path}: cannot be read; the drawn tasks need the fonts of matplotlib 3.10 or later"
        ) from None


@lru_cache(maxsize=8192)
def fitting_font(name: str, text: str, width: int, height: int) -> ImageFont.FreeTypeFont:
    """The largest font in which ``text`` is at most ``width`` x ``height`` pixels, and never below 5 pixels."""
    at_hundred = font(name, 100).getbbox(text)
    wide, tall = max(1.0, at_hundred[2] - at_hundred[0]), max(1.0, at_hundred[3] - at_hundred[1])
    return font(name, max(5, int(100 * min(width / wide, height / tall))))
