"""MM1's axes (arXiv 2403.09611, section 3): resolution and encoder, tokens and connector, ratio of data.

Before a decoder of 1.3 billion parameters (the encoders: 2.9). Its encoders were not published: OpenAI's and DFN's
CLIP stand for those of DFN-5B and VeCap, and AIM is left out. Attention pooling is a Perceiver of one layer.
"""

from __future__ import annotations

from typing import Any

from ommatidia.lab.search import Search
from ommatidia.lab.search.study import listed
from ommatidia.recipes.mm1 import recipe

ASKED = ("coco_captions", "nocaps", "textvqa", "vqav2", "vizwiz")
"""Those of the paper's eight that omma can ask; TextCaps, OKVQA and TextCore it cannot."""
_BASE = "clip_l_14_336"


def resolution(data: str = "data") -> Search:
    """ViT-L at 224 and 336 px, ViT-H at 378 px, 144 tokens each, before 2.9 billion parameters."""
    looks = ("dfn_clip_l_14_224", "clip_l_14_224", "clip_l_14_336", "dfn_clip_h_14_378")
    designs = {look: recipe("3b", data, look=look).to_dict() for look in looks}
    return listed("mm1_resolution", designs, benchmarks=ASKED)


def connector(data: str = "data") -> Search:
    """Average pooling, attention pooling and the C-Abstractor, 64 and 144 tokens, at 224 and 336 px."""
    designs = {}
    for look, pixels in (("clip_l_14_224", 224), ("clip_l_14_336", 336)):
        for side in (8, 12):
            kinds: dict[str, dict[str, Any]] = {
                "average": {"kind": "pool_mlp", "grid": [side, side], "depth": 1},
                "attention": {"kind": "perceiver", "queries": side * side, "layers": 1},
                "c_abstractor": {"kind": "c_abstractor", "grid": [side, side]},
            }
            for name, projector in kinds.items():
                made = recipe("1b", data, look=look, projector=projector)
                designs[f"{name}, {side * side} tokens, {pixels} px"] = made.to_dict()
    return listed("mm1_connector", designs, benchmarks=ASKED)


def ratio(data: str = "data") -> Search:
    """Captions against documents, from all to none; then text beside each, and the blend that was kept."""
    ratios = [(100, 0, 0), (66, 33, 0), (50, 50, 0), (33, 66, 0), (0, 100, 0), (91, 0, 9), (0, 91, 9), (45, 45, 10)]
    designs = {"-".join(map(str, one)): recipe("1b", data, look=_BASE, ratio=one).to_dict() for one in ratios}
    return listed("mm1_ratio", designs, benchmarks=ASKED)
