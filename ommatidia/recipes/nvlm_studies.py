"""NVLM's study of tile tags (arXiv 2409.11402, section 4): what announces a tile to the decoder."""

from __future__ import annotations

from typing import Any

from ommatidia.lab.search import Search
from ommatidia.lab.search.study import listed
from ommatidia.recipes.nvlm import Tags, d_72b, h, x

ASKED = ("mmmu", "mathvista", "ai2d", "chartqa", "docvqa", "textvqa", "ocrbench", "realworldqa", "vqav2")
_TAGS: tuple[Tags, ...] = ("none", "one_d", "two_d", "box")


def tags(data: str = "data", language: str = "yi_34b") -> Search:
    """No tag, tiles counted, by column and row, or by their box in pixels; before Yi-34B."""
    designs: dict[str, dict[str, Any]] = {kind: d_72b(data, kind, language).to_dict() for kind in _TAGS}
    return listed("nvlm_tags", designs, benchmarks=ASKED)


def designs(data: str = "data", language: str = "yi_34b") -> Search:
    """D, X and H with the same tags, encoder and language model."""
    made = {name: build(data, language=language).to_dict() for name, build in (("d", d_72b), ("x", x), ("h", h))}
    return listed("nvlm_designs", made, benchmarks=ASKED)
