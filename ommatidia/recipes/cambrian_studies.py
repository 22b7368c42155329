"""Cambrian-1's studies (arXiv 2406.16860): 23 backbones under four recipes, combinations, the aggregator's ablation.

Vicuna-7B and 737k dialogues; LLaVA's projector unless the aggregator is studied. Backbones that nobody released as the
paper names them stand as the catalog's nearest, as EVA-02 for EVA-CLIP; the released code has no MoCo v3 L. The
ablation's other settings (three layers deep, one group, none in the decoder) are inferred, not told.
"""

from __future__ import annotations

from typing import Any, Literal

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.lab.search import Search
from ommatidia.lab.search.study import encoder, listed, llava_captions, sources

BACKBONES = (
    "clip_l_14_336", "dfn_clip_l_14_224", "dfn_clip_h_14_378", "eva02_clip_l_336", "siglip_l_384", "siglip_so400m_384",
    "convnext_l_1024@512", "convnext_l_1024", "convnext_xxl_1024", "dinov2_l@336", "dinov2_l", "moco_v3_b", "moco_v3_l",
    "mae_l", "mae_h", "ijepa_h", "sam_l_raw", "sam_h_raw", "dpt_large_384", "dpt_beit_large_512",
    "stable_diffusion_2_1", "vit_l_in21k", "vit_h_in21k",
)  # fmt: skip
"""The catalog's names of the 23."""
_POOLED = ("convnext_l_1024@512", "convnext_l_1024", "convnext_xxl_1024", "dinov2_l", "sam_l_raw", "sam_h_raw")
"""Those whose maps are interpolated to 576 tokens; the others keep theirs."""
COMBINATIONS = ("S+D", "S+D+X", "S+D+X+C", "S+X", "C+X", "S+D+L", "S+C+L")
ASKED = (
    "mme", "mmbench", "seed", "gqa", "scienceqa", "mmmu", "mathvista", "ai2d", "chartqa", "ocrbench", "textvqa",
    "docvqa", "mmvp", "realworldqa", "cv_bench_2d", "cv_bench_3d",
)  # fmt: skip
Training = Literal["0m", "0.5m", "1.2m", "1.2m_trained"]
_TRAININGS = ("0m", "0.5m", "1.2m", "1.2m_trained")
_LETTERS = {
    "S": ("siglip", "siglip_so400m_384"),
    "D": ("dinov2", "dinov2_l"),
    "X": ("convnext_xxl", "convnext_xxl_1024"),
    "C": ("clip", "clip_l_14_336"),
    "L": ("convnext_l", "convnext_l_1024"),
}
_CONCAT = {"kind": "channel_concat", "grid": [24, 24], "resample": {"kind": "bilinear"}}


def trainings(data: str = "data", backbone: str = "clip_l_14_336") -> Search:
    """No adapter data, half a million and 1.2 million captions, and the encoder trained too; for one backbone."""
    designs = {training: _single(backbone, data, training) for training in _TRAININGS}
    return listed("cambrian_trainings", designs, benchmarks=ASKED)


def backbones(data: str = "data", training: Training = "1.2m") -> Search:
    """Every backbone under one of the four trainings."""
    if training not in _TRAININGS:
        raise ConfigError(unknown("training", training, _TRAININGS))
    designs = {name: _single(name, data, training) for name in BACKBONES}
    return listed(f"cambrian_backbones_{training}", designs, benchmarks=ASKED)


def combinations(data: str = "data") -> Search:
    """Seven sets of encoders joined in the channels on 24 x 24 cells."""
    designs = {}
    for letters in COMBINATIONS:
        named = dict(_LETTERS[letter] for letter in letters.split("+"))
        encoders = {name: encoder(entry, fit="pad_first") for name, entry in named.items()}
        designs[letters] = _design(encoders, data, "1.2m", fusion=_CONCAT)
    return listed("cambrian_combinations", designs, benchmarks=ASKED)


def aggregator(data: str = "data") -> Search:
    """The Spatial Vision Aggregator over CLIP and ConvNeXt-L: its depth, its groups, layers in the decoder; and
    channel concatenation in its place."""
    encoders = {
        "clip": encoder("clip_l_14_336", fit="pad_first"),
        "convnext": encoder("convnext_l_1024_multi", fit="pad_first"),
    }
    inside = {"kind": "deep_sva", "count": 10, "start": 0, "stride": 3}

    def sva(depth: int = 3, groups: int = 1, **model: Any) -> dict[str, Any]:
        fusion = {"kind": "sva", "depth": depth, "groups": [24] * groups, "sides": {"clip": 24, "convnext": 96}}
        return _design(encoders, data, "1.2m", fusion=fusion, **model)

    designs = {f"depth {depth}": sva(depth=depth) for depth in (2, 3, 4)}
    designs |= {f"groups {groups}": sva(groups=groups) for groups in (2, 3)}
    designs |= {"in the decoder": sva(injection=inside), "concat": _design(encoders, data, "1.2m", fusion=_CONCAT)}
    return listed("cambrian_aggregator", designs, benchmarks=ASKED)


def _single(backbone: str, data: str, training: str) -> dict[str, Any]:
    fusion = {**_CONCAT, "kind": "none"} if backbone in _POOLED else {"kind": "none"}
    return _design({"vision": encoder(backbone, fit="pad_first")}, data, training, fusion=fusion)


def _design(encoders: dict[str, Any], data: str, training: str, **model: Any) -> dict[str, Any]:
    fusion = model.pop("fusion", {"kind": "none"})
    parts = ("projector", "fusion", "injection")
    dialogues = sources(data, sft=("Cambrian-10M/jsons/Cambrian737k.jsonl", 737_000))
    common = {"epochs": 1, "schedule": "cosine", "precision": "bf16", "frozen_precision": "bf16", "batch": 512}
    common |= {"longest": 2048}
    captions = llava_captions(data)
    if training.startswith("1.2m"):
        captions = sources(data, captions=("ShareGPT4V/share-captioner_coco_lcs_sam_1246k_1107.json", 1_200_000))
    train = {**dict.fromkeys(parts, 2e-5), "language": 2e-5}
    train |= {"encoders.*": 1e-5} if training.endswith("trained") else {}
    stages: list[dict[str, Any]] = [{"name": "tune", "train": train, "data": dialogues, "warmup": 0.03, **common}]
    if training != "0m":
        first = {"name": "align", "train": dict.fromkeys(parts, 1e-3), "data": captions, "warmup": 0.06, **common}
        stages.insert(0, first)
    projector = {"kind": "mlp", "depth": 2}
    model = {"encoders": encoders, "fusion": fusion, "projector": projector, **model}
    return {"model": {**model, "language": "vicuna_7b", "chat": "vicuna_v1"}, "stages": stages}
