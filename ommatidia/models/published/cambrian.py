"""Cambrian-1 checkpoints (cambrian-mllm/cambrian, arXiv 2406.16860): 8B, 13B, 34B.

What the released code computes, not what the paper says: DINOv2 is the giant at 378 px, the global context is the first
encoder's mean. The encoders were frozen and are not in the checkpoint; each names where its weights come from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ommatidia.core.errors import ConfigError
from ommatidia.models.published.checkpoint import Checkpoint
from ommatidia.models.published.family import DECODER_RULES, Family, Reading, decoder
from ommatidia.models.published.fields import CAMBRIAN
from ommatidia.models.published.names import Rule
from ommatidia.models.vision.catalog import lookup

_HEAD = 64

_ENCODERS = {
    "siglip/CLIP-ViT-SO400M-14-384": ("siglip", "siglip_so400m_384"),
    "openai/clip-vit-large-patch14-336": ("clip", "clip_l_14_336"),
    "facebook/dinov2-giant": ("dinov2", "dinov2_g"),
    "clip-convnext-XXL": ("convnext", "convnext_xxl_1024"),
}
"""Cambrian's names of the encoders of its released models -> our name, and the entry of the catalog."""

_TITLE = re.compile(r"(?P<base>.+?)(?:-res(?P<size>\d+))?(?:-interp(?P<tokens>\d+))?(?P<stages>-multi-stage)?")


class Cambrian(Family):
    """Recognised by its list of encoders; ``model_type`` of early uploads says ``llava_llama``."""

    name = "cambrian"

    def owns(self, config: Mapping[str, Any]) -> bool:
        return "mm_vision_tower_aux_list" in config and "vision_hidden_size" in config

    def read(self, checkpoint: Checkpoint) -> Reading:
        config = checkpoint.config
        CAMBRIAN.check(config)
        if config.get("mm_projector_type") != "sva":
            raise ConfigError(f"mm_projector_type {config.get('mm_projector_type')!r}: Cambrian-1's is 'sva'")
        titles = list(config["mm_vision_tower_aux_list"])
        counts = list(config["mm_vision_tower_aux_token_len_list"])
        if len(titles) != len(counts):
            raise ConfigError(f"{len(titles)} encoders in mm_vision_tower_aux_list, {len(counts)} token counts")
        encoders = dict(_encoder(title, place) for place, title in enumerate(titles))
        strangers = {n: t for (n, data), t in zip(encoders.items(), titles, strict=True) if not data}
        names, width = list(encoders), int(config["vision_hidden_size"])
        heads = max(1, width // _HEAD)
        side = _root(config["image_token_len"], "image_token_len")
        fusion = {
            "kind": "sva", "side": side, "width": width, "depth": config["connector_depth"], "heads": heads,
            "groups": [_root(count, "query_num_list") for count in config["query_num_list"]],
            "sides": {n: _root(count, "token_len_list") for n, count in zip(names, counts, strict=True)},
        }  # fmt: skip
        injection: dict[str, Any] = {"kind": "inline", "row_end": True}
        if not config.get("connector_only"):
            injection = {
                "kind": "deep_sva", "row_end": True,
                "count": config["num_of_vision_sampler_layers"],
                "start": config["start_of_vision_sampler_layers"],
                "stride": config["stride_of_vision_sampler_layers"],
            }  # fmt: skip
        model = {
            "encoders": encoders,
            "tiling": "unpad",
            "fusion": fusion,
            "projector": {"kind": "mlp", "depth": 2},
            "injection": injection,
            "chat": _chat(config),
        }
        language = decoder(config, checkpoint, "model.embed_tokens.weight", kind="llama")
        return Reading(model, language, rules(names), frozenset(names), strangers=strangers)


def _encoder(title: str, place: int) -> tuple[str, dict[str, Any]]:
    """Our name and value of an encoder by Cambrian's: NAME[-resPIXELS][-interpTOKENS][-multi-stage]; no value where
    the name is unknown."""
    found = _TITLE.fullmatch(title)
    assert found is not None
    if found["base"] not in _ENCODERS:
        return f"e{place}", {}
    name, entry = _ENCODERS[found["base"]]
    size = f"@{found['size']}" if found["size"] else ""
    encoder = lookup(f"{entry}_multi{size}" if found["stages"] else f"{entry}{size}") | {"fit": "pad_first"}
    return name, encoder


def _root(count: int, field: str) -> int:
    side = math.isqrt(int(count))
    if side * side != count:
        raise ConfigError(f"{field}: {count} tokens are no square grid")
    return side


def _chat(config: Mapping[str, Any]) -> str:
    if config.get("bos_token_id") == 128000:
        return "cambrian_llama3"
    return "cambrian_chatml" if config.get("eos_token_id") == 7 else "vicuna_v1"


def rules(names: list[str]) -> list[Rule]:
    """The table of ``ommatidia.models.fusion.sva``, encoder by encoder."""
    found = [
        *DECODER_RULES,
        Rule(r"model\.mm_projector\.(.*)", r"projector.\1"),
        Rule(r"model\.vision_query", "fusion.query_GC"),
        Rule(r"model\.image_newline", "injection.row_end_E"),
    ]
    places = ((r"model\.vision_sampler_(\d+)\.layers\.(\d+)", r"fusion.groups.\1.\2"),
              (r"model\.vision_sampler_(l)ayers\.(\d+)\.layers\.0", r"injection.layers.\2"))  # fmt: skip
    for k, name in enumerate(names):
        found.append(Rule(rf"model\.mm_projector_aux_{k}\.(.*)", rf"fusion.adapters.{name}.\1"))
        for theirs, ours in places:
            found += [
                Rule(theirs + rf"\.pos_embed_{k}", rf"{ours}.positions.{name}"),
                Rule(theirs + rf"\.cross_attn\.([kv])_proj_{k}\.(.*)", rf"{ours}.cross_attn.\3_proj.{name}.\4"),
            ]
    for theirs, ours in places:
        found += [
            Rule(theirs + r"\.proj_out\.linear_1\.(.*)", rf"{ours}.proj_out.0.\3"),
            Rule(theirs + r"\.proj_out\.linear_2\.(.*)", rf"{ours}.proj_out.2.\3"),
            Rule(theirs + r"\.((?:proj_context|proj_in|norm|cross_attn)\..*)", rf"{ours}.\3"),
        ]
    return found
