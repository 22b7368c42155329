"""Eagle-1 checkpoints (NVlabs/EAGLE, arXiv 2408.15998): X2 to X5, on Vicuna, Llama-3 or Yi.

What the released code computes, not what the paper says: CLIP sees 336 px, rotary tables are the stored 16-bit ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.published.checkpoint import Checkpoint
from ommatidia.models.published.family import DECODER_RULES, Family, Reading, decoder
from ommatidia.models.published.fields import EAGLE
from ommatidia.models.published.names import Rule
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD

_HEAD = 64
"""Channels of an attention head, in all of Eagle's encoders."""
_SIDE = 32
"""Rows and columns of the common grid."""

_FIT = {"pad": "pad_first", "square": "crop_last"}


class Eagle(Family):
    """Recognised by ``model_type`` ``eagle_llama``."""

    name = "eagle"

    def owns(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == "eagle_llama"

    def read(self, checkpoint: Checkpoint) -> Reading:
        config = checkpoint.config
        EAGLE.check(config)
        fit = _FIT.get(str(config.get("image_aspect_ratio") or "square"))
        if fit is None:
            raise ConfigError(f"image_aspect_ratio: {unknown('mode', str(config['image_aspect_ratio']), _FIT)}")
        if config.get("mm_projector_type") != "mlp2x_gelu":
            raise ConfigError(f"mm_projector_type {config.get('mm_projector_type')!r}: Eagle's is 'mlp2x_gelu'")
        encoders: dict[str, Any] = {}
        rules = [*DECODER_RULES, Rule(r"model\.mm_projector\.(.*)", r"projector.\1")]
        names = str(config.get("mm_vision_tower") or "").split(";")
        for place, title in enumerate(names):
            if title not in _ENCODERS:
                raise ConfigError(f"mm_vision_tower: {unknown('encoder', title, _ENCODERS)}")
            name, make = _ENCODERS[title]
            prefix = f"model.vision_tower.vision_towers.{place}.vision_tower."
            seen = {
                "image_size": 1024, "fit": fit, "interpolation": "bicubic", "mean": CLIP_MEAN, "std": CLIP_STD,
                "weights": "random",
            }  # fmt: skip
            made, own = make(checkpoint, prefix)
            encoders[name] = seen | made
            start = prefix.replace(".", r"\.")
            rules += [
                Rule(start + rule.pattern, rule.ours and f"encoders.{name}.trunk.{rule.ours}", rule.reason)
                for rule in own
            ]
        model = {
            "encoders": encoders,
            "fusion": {
                "kind": "channel_concat",
                "grid": [_SIDE, _SIDE],
                "resample": {"kind": "bilinear", "align_corners": True},
            },
            "projector": {"kind": "mlp", "depth": 2},
            "injection": "inline",
            "chat": chat_of(config),
        }
        embeddings = "model.embed_tokens.weight"
        return Reading(model, decoder(config, checkpoint, embeddings, kind="llama"), rules)


def chat_of(config: Mapping[str, Any]) -> str:
    """The template the checkpoint was trained with, by what tells the three language models apart: their marks."""
    if config.get("bos_token_id") == 128000:
        return "llama3_two_bos"
    return "yi_34b_chatml_direct" if config.get("eos_token_id") == 7 else "vicuna_v1"


def _clip(checkpoint: Checkpoint, prefix: str) -> tuple[dict[str, Any], list[Rule]]:
    vision = f"{prefix}vision_model."
    width, _, patch, _ = checkpoint.shards.shape(f"{vision}embeddings.patch_embedding.weight")
    places = checkpoint.side(f"{vision}embeddings.position_embedding.weight") - 1
    made = {
        "kind": "clip", "width": width, "patch": patch, "heads": max(1, width // _HEAD),
        "depth": checkpoint.count(vision + "encoder.layers.{}.layer_norm1.weight"),
        "hidden": checkpoint.side(f"{vision}encoder.layers.0.mlp.fc1.weight"),
        "pretrained_size": round(places**0.5) * patch, "input_size": round(places**0.5) * patch,
    }  # fmt: skip
    unused = "takes no part in Eagle's features"
    return made, [
        Rule(r"vision_model\.(?:embeddings\.class_embedding|post_layernorm\..*)", None, unused),
        Rule(r".*\.position_ids", None, "a counter"),
        Rule(r"(.*)", r"\1"),
    ]


def _convnext(checkpoint: Checkpoint, prefix: str) -> tuple[dict[str, Any], list[Rule]]:
    depths = [checkpoint.count(f"{prefix}stages.{s}.blocks.{{}}.norm.weight") for s in range(4)]
    dims = [checkpoint.side(f"{prefix}stages.{s}.blocks.0.norm.weight") for s in range(4)]
    made = {
        "kind": "timm", "model": "convnext_xxlarge.clip_laion2b_soup",
        "args": {"depths": depths, "dims": dims, "norm_eps": 1e-5},
    }  # fmt: skip
    return made, [
        Rule(r"head\..*", None, "ConvNeXt's classifier"),
        # transformers renames every parameter called gamma; the layer scale was published as weight.
        Rule(r"(stages\.\d+\.blocks\.\d+)\.weight", r"model.\1.gamma"),
        Rule(r"(.*)", r"model.\1"),
    ]


def _sam(checkpoint: Checkpoint, prefix: str) -> tuple[dict[str, Any], list[Rule]]:
    width, _, patch, _ = checkpoint.shards.shape(f"{prefix}patch_embed.projection.weight")
    depth = checkpoint.count(prefix + "layers.{}.layer_norm1.weight")
    side = checkpoint.shards.shape(f"{prefix}pos_embed")[1]
    reaches = [checkpoint.side(f"{prefix}layers.{i}.attn.rel_pos_h") for i in range(depth)]
    windows = {reach for reach in reaches if reach != 2 * side - 1} or {2 * 14 - 1}
    made = {
        "kind": "sam", "width": width, "patch": patch, "heads": max(1, width // _HEAD), "depth": depth,
        "hidden": checkpoint.side(f"{prefix}layers.0.mlp.lin1.weight"), "window": (min(windows) + 1) // 2,
        "global_blocks": [i for i, reach in enumerate(reaches) if reach == 2 * side - 1],
        "pretrained_size": side * patch, "end": "short", "end_dim": checkpoint.side(f"{prefix}neck.conv1.weight"),
        "unshuffle": 2,
    }  # fmt: skip
    return made, [Rule(r"(.*)", r"\1")]


def _eva02(checkpoint: Checkpoint, prefix: str) -> tuple[dict[str, Any], list[Rule]]:
    width, _, patch, _ = checkpoint.shards.shape(f"{prefix}patch_embed.proj.weight")
    depth = checkpoint.count(prefix + "blocks.{}.norm1.weight")
    places = checkpoint.shards.shape(f"{prefix}pos_embed")[1] - 1
    stored = f"{prefix}rope_glb.freqs_cos" in checkpoint.shards.entries
    copies = r"blocks\.\d+\.attn\.rope\.freqs_(?:cos|sin)"
    rules = [Rule(copies, None, "copies of the rotary tables"), Rule(r"(.*)", r"\1")]
    made = {
        "kind": "eva02_det", "width": width, "patch": patch, "heads": max(1, width // _HEAD), "depth": depth,
        "pretrained_size": round(places**0.5) * patch, "rope": "stored" if stored else "computed",
        "global_blocks": _global_blocks(checkpoint, prefix, depth),
    }  # fmt: skip
    return made, rules


def _global_blocks(checkpoint: Checkpoint, prefix: str, depth: int) -> list[int]:
    """By the size of each block's rotary table, where the file has them; every third block otherwise."""
    tables = [f"{prefix}blocks.{i}.attn.rope.freqs_cos" for i in range(depth)]
    if all(table in checkpoint.shards.entries for table in tables):
        sizes = [checkpoint.side(table) for table in tables]
        window = checkpoint.side(f"{prefix}rope_win.freqs_cos")
        return [i for i, size in enumerate(sizes) if size != window]
    return list(range(2, depth, 3))


def _pix2struct(checkpoint: Checkpoint, prefix: str) -> tuple[dict[str, Any], list[Rule]]:
    width, values = checkpoint.shards.shape(f"{prefix}embeddings.patch_projection.weight")
    made = {
        "kind": "pix2struct", "width": width, "patch": round((values / 3) ** 0.5), "heads": max(1, width // _HEAD),
        "depth": checkpoint.count(prefix + "encoder.layer.{}.mlp.wo.weight"),
        "hidden": checkpoint.side(f"{prefix}encoder.layer.0.mlp.wi_0.weight"),
        "positions": checkpoint.side(f"{prefix}embeddings.row_embedder.weight"),
    }  # fmt: skip
    return made, [Rule(r"(.*)", r"\1")]


_Make = Callable[[Checkpoint, str], tuple[dict[str, Any], list[Rule]]]
_ENCODERS: dict[str, tuple[str, _Make]] = {
    "clip-448": ("clip", _clip),
    "convnext-1024": ("convnext", _convnext),
    "sam-1024": ("sam", _sam),
    "det-1024": ("eva02_det", _eva02),
    "pix2struct-1024": ("pix2struct", _pix2struct),
}
"""Eagle's names of its encoders -> our name, and how its sizes are read off the shapes."""
