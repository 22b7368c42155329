"""Eagle-1's design studies (arXiv 2408.15998, section 3): resolution, experts, fusion, pre-alignment, round robin.

Vicuna-7B, the 934k exploration mixture, two stages as in LLaVA-1.5 (section 3.1). Not published, and chosen here: which
weights and size of DINOv2 (L at 448 px, which gives the common grid), how three encoders meet in LLaVA-HR's adapters
(one adapter sees them all), the sizes of the deformable attention (those of its own default), the rates of
pre-alignment (those of ``eagle.py``), the longest sample (4096, for 672 px bring 2304 visual tokens).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ommatidia.data.manifest import read as manifest
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.lab.price.cost import training_price
from ommatidia.lab.price.lengths import assumed_tokens
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.plan import alone
from ommatidia.lab.search import Search
from ommatidia.lab.search.study import encoder, listed, llava_captions, plain

POOL: dict[str, dict[str, Any]] = {
    "clip": encoder("eagle_clip_448"),
    "convnext": encoder("eagle_convnext_xxl"),
    "sam": encoder("eagle_sam_l"),
    "dinov2": encoder("dinov2_l@448", fit="pad_first"),
    "pix2struct": encoder("eagle_pix2struct_l"),
    "eva02_det": encoder("eagle_eva02_l_det"),
}
ASKED = ("gqa", "mme", "mmmu", "ocrbench", "scienceqa", "pope", "textvqa", "vizwiz", "seed", "chartqa", "docvqa")
_GRID: dict[str, Any] = {"grid": [32, 32], "resample": {"kind": "bilinear", "align_corners": True}}
_FUSIONS: dict[str, dict[str, Any]] = {
    "sequence append": {"kind": "sequence_append", **_GRID},
    "channel concat": {"kind": "channel_concat", **_GRID},
    "llava-hr": {"kind": "mixture_of_resolution"},
    "mini-gemini": {"kind": "patch_mining"},
    "deformable": {"kind": "deformable"},
}
_FIRST, _LAST = 1e-3, 2e-5


def resolution(data: str = "data") -> Search:
    """CLIP-L at 224 and 336 px as it was trained, at 448 and 672 px interpolated, and in tiles; frozen and trained."""
    looks: dict[str, tuple[str, dict[str, Any]]] = {
        "224": ("clip_l_14_224", {}),
        "336": ("clip_l_14_336", {}),
        "448": ("clip_l_14_448", {}),
        "672": ("clip_l_14_672", {}),
        "672 in tiles": ("clip_l_14_336", {"tiling": {"kind": "fixed_grid", "overview": None}}),
    }
    designs = {
        f"{name} {'trained' if trained else 'frozen'}": _design(
            {"clip": encoder(entry, fit="pad_first")}, data, trained=trained, fusion={"kind": "none"}, **model
        )
        for name, (entry, model) in looks.items()
        for trained in (False, True)
    }
    return listed("eagle_resolution", designs, benchmarks=ASKED)


def singles(data: str = "data") -> Search:
    """Each of the six experts alone, frozen and trained."""
    designs = {
        f"{name} {'trained' if trained else 'frozen'}": _design(
            {name: expert}, data, trained=trained, fusion={"kind": "none", **_GRID}
        )
        for name, expert in POOL.items()
        for trained in (False, True)
    }
    return listed("eagle_singles", designs, benchmarks=ASKED)


def fusion(data: str = "data") -> Search:
    """Five ways to join CLIP and ConvNeXt, and CLIP, ConvNeXt and SAM."""
    sets = (("clip", "convnext"), ("clip", "convnext", "sam"))
    designs = {
        f"{' + '.join(names)}, {how}": _design(_experts(names), data, trained=True, fusion=config)
        for names in sets
        for how, config in _FUSIONS.items()
    }
    return listed("eagle_fusion", designs, benchmarks=ASKED)


def pre_alignment(data: str = "data", experts: str = "sam,dinov2,eva02_det,pix2struct") -> Search:
    """CLIP and an expert, frozen or trained, with and without pre-alignment; and the control that Eagle lacks.

    ``longer`` spends what pre-alignment costs on more of the last stage instead: equal operations, not equal samples.
    """
    designs: dict[str, dict[str, Any]] = {}
    for name in (one.strip() for one in experts.split(",")):
        pair = _experts(("clip", name))
        for how, trained in (("frozen", False), ("trained", True)):
            plain = _design(pair, data, trained=trained)
            before = _design(pair, data, trained=trained, pre_aligned=True)
            longer = _design(pair, data, trained=trained, epochs=1 + extra_epochs(before))
            designs |= {
                f"clip + {name}, {how}": plain,
                f"clip + {name}, {how}, pre-aligned": before,
                f"clip + {name}, {how}, longer": longer,
            }
    return listed("eagle_pre_alignment", designs, benchmarks=ASKED)


def round_robin(data: str = "data") -> Search:
    """From CLIP and ConvNeXt, each round the expert that adds most, until five see together or none adds anything."""
    start = ("clip", "convnext")
    recipe = _design(_experts(start), data, trained=True, pre_aligned=True)
    return Search.parse(
        {
            "name": "eagle_round_robin",
            "strategy": {
                "kind": "round_robin",
                "recipe": {**recipe, "benchmarks": [BENCHMARKS[name] for name in ASKED]},
                "pool": POOL,
                "start": start,
                "max_experts": 5,
                "finalists": 1,
                "blind": False,
            },
        }
    )


def extra_epochs(pre_aligned: dict[str, Any]) -> float:
    """Epochs of the last stage that take as many operations as pre-aligning every expert, for samples of assumed
    lengths, so that a design does not depend on which data is at hand."""
    recipe = Recipe.parse(pre_aligned)
    first, _, last = recipe.stages
    spent = sum(
        training_price(model, first, frozenset(), assumed_tokens(model), 1).flops
        for model in (alone(recipe.model, name) for name in recipe.model.encoders)
    )
    return round(spent / training_price(recipe.model, last, frozenset(), assumed_tokens(recipe.model), 1).flops, 3)


def _experts(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {name: POOL[name] for name in names}


def _design(
    encoders: dict[str, Any],
    data: str,
    *,
    trained: bool,
    fusion: dict[str, Any] | None = None,
    pre_aligned: bool = False,
    epochs: float = 1,
    **model: Any,
) -> dict[str, Any]:
    common = {"schedule": "cosine", "warmup": 0.03, "clip": None, "precision": "bf16", "longest": 4096}
    mix = manifest("eagle_1_8m").mixture(Path(data), mix="exploration").to_dict()
    rest: dict[str, float] = {"projector": _LAST, "fusion": _LAST, "language": _LAST}
    rest |= {"encoders.*": _LAST} if trained else {}
    stages: list[dict[str, Any]] = [
        {"name": "align", "train": {"projector": _FIRST, "fusion": _FIRST}, "data": llava_captions(data), "batch": 256,
         "epochs": 1, "chat": plain(), **common},
        {"name": "tune", "train": rest, "data": mix, "batch": 128, "epochs": epochs, **common},
    ]  # fmt: skip
    if pre_aligned:
        own = {"encoders.*": _LAST, "projector": _FIRST}
        stages.insert(
            0, {"name": "pre-align", "scope": "expert", "train": own, "data": mix, "batch": 128, "epochs": 1, **common}
        )
    return {
        "model": {
            "encoders": encoders,
            "fusion": fusion or {"kind": "channel_concat", **_GRID},
            "projector": {"kind": "mlp", "depth": 2},
            "language": "vicuna_7b",
            "chat": "vicuna_v1",
            **model,
        },
        "stages": stages,
    }
