"""LLaVA-1.5 and LLaVA-NeXT checkpoints, in the layout of their authors and in that of transformers.

Both take block -2 of CLIP; what stands behind it has no part in the result and is left aside. NeXT cuts pictures by its
pinpoints and ends rows with a learned vector.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.published.checkpoint import Checkpoint
from ommatidia.models.published.family import DECODER_RULES, Family, Reading, decoder
from ommatidia.models.published.names import Rule
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD

_CLIP_L_336 = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "patch_size": 14, "image_size": 336, "projection_dim": 768,
}  # fmt: skip
_FIT = {"pad": "pad_first", "square": "crop_last", "anyres": "stretch"}
_BEHIND = "behind the chosen features"


class _Llava(Family):
    """What both layouts share: one CLIP, block by block, in front of an MLP."""

    def read(self, checkpoint: Checkpoint) -> Reading:
        config = checkpoint.config
        vision, prefix = self.vision(checkpoint)
        layer = self.layer(config)
        depth = vision["num_hidden_layers"]
        kept = layer % (depth + 1) if layer < 0 else layer  # hidden state 0 is what enters the first block
        if not 1 <= kept <= depth:
            raise ConfigError(f"features: hidden state {layer} of {depth} blocks; expected -{depth} to -1")
        encoder: dict[str, Any] = {
            "kind": "hf", "architecture": "CLIPVisionModel", "config": vision, "features": kept - 1 - depth,
            "image_size": vision["image_size"], "mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic",
            "fit": self.fit(checkpoint), "weights": "random",
        }  # fmt: skip
        stored = prefix is not None
        if not stored:
            encoder["weights"] = {"kind": "hub", "id": str(config.get("mm_vision_tower"))}
        rules = [*self.rules(), *(_clip_rules(prefix, kept, depth) if prefix is not None else ())]
        pinpoints = self.pinpoints(config)
        model = {
            "encoders": {"clip": encoder},
            "tiling": _tiling(pinpoints, vision["image_size"]) if pinpoints else "whole",
            "fusion": "none",
            "projector": {"kind": "mlp", "depth": 2},
            "injection": {"kind": "inline", "row_end": bool(pinpoints)},
        }
        language = self.language(checkpoint)
        model["chat"] = config.get("ommatidia_chat") or _chat(language)
        elsewhere = frozenset() if stored else frozenset({"clip"})
        return Reading(model, language, rules, elsewhere, rows=config.get("ommatidia_rows"))

    @abstractmethod
    def vision(self, checkpoint: Checkpoint) -> tuple[dict[str, Any], str | None]:
        """CLIP's config, and the prefix of its tensors; None where the checkpoint does not hold them."""

    @abstractmethod
    def layer(self, config: Mapping[str, Any]) -> int:
        """The hidden state taken, counted as transformers counts: 0 enters the first block, -1 leaves the last."""

    @abstractmethod
    def fit(self, checkpoint: Checkpoint) -> str:
        """How its own processor fits a picture into a square."""

    @abstractmethod
    def pinpoints(self, config: Mapping[str, Any]) -> list[list[int]] | None:
        """(width, height) of NeXT's canvases; None for LLaVA-1.5."""

    @abstractmethod
    def language(self, checkpoint: Checkpoint) -> dict[str, Any]: ...

    @abstractmethod
    def rules(self) -> list[Rule]:
        """Everything but CLIP."""


class Llava(_Llava):
    """The authors' layout: a config of the language model with ``mm_`` fields in it."""

    name = "llava"

    def owns(self, config: Mapping[str, Any]) -> bool:
        kinds = ("llava", "llava_llama", "llava_mistral")
        return config.get("model_type") in kinds and "mm_hidden_size" in config and "text_config" not in config

    def vision(self, checkpoint: Checkpoint) -> tuple[dict[str, Any], str | None]:
        prefix = "model.vision_tower.vision_tower."
        if f"{prefix}vision_model.embeddings.class_embedding" in checkpoint.shards.entries:
            return _vision_of(checkpoint, prefix), prefix
        title = str(checkpoint.config.get("mm_vision_tower"))
        if title.rpartition("/")[2] != "clip-vit-large-patch14-336":
            raise ConfigError(f"mm_vision_tower {title!r}: its weights are not here and its sizes are not known")
        return dict(_CLIP_L_336), None

    def layer(self, config: Mapping[str, Any]) -> int:
        return int(config.get("mm_vision_select_layer", -2))

    def fit(self, checkpoint: Checkpoint) -> str:
        mode = str(checkpoint.config.get("image_aspect_ratio") or "square")
        if mode not in _FIT:
            raise ConfigError(f"image_aspect_ratio: {unknown('mode', mode, _FIT)}")
        return _FIT[mode]

    def pinpoints(self, config: Mapping[str, Any]) -> list[list[int]] | None:
        return config.get("image_grid_pinpoints") if config.get("image_aspect_ratio") == "anyres" else None

    def language(self, checkpoint: Checkpoint) -> dict[str, Any]:
        kind = "mistral" if checkpoint.config["model_type"] == "llava_mistral" else "llama"
        return decoder(checkpoint.config, checkpoint, "model.embed_tokens.weight", kind=kind)

    def rules(self) -> list[Rule]:
        return [
            *DECODER_RULES,
            Rule(r"model\.mm_projector\.(.*)", r"projector.\1"),
            Rule(r"model\.image_newline", "injection.row_end_E"),
        ]


class LlavaTransformers(_Llava):
    """The layout of transformers (``LlavaForConditionalGeneration`` and its NeXT), of versions 4 and 5."""

    name = "llava (transformers)"

    def owns(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") in ("llava", "llava_next") and "text_config" in config

    def vision(self, checkpoint: Checkpoint) -> tuple[dict[str, Any], str | None]:
        stated = dict(checkpoint.config.get("vision_config") or {})
        if stated.pop("model_type", "clip_vision_model") != "clip_vision_model":
            raise ConfigError(f"vision_config: {checkpoint.config['vision_config']['model_type']!r} is not CLIP")
        ends = "embeddings.class_embedding"
        prefix = next((name[: -len(ends)] for name in checkpoint.shards if name.endswith(ends)), None)
        if prefix is None:
            raise ConfigError("the checkpoint holds no CLIP; expected tensors of vision_model or vision_tower")
        return {name: stated[name] for name in _CLIP_L_336 if name in stated} | _vision_of(
            checkpoint, prefix.removesuffix("vision_model."), heads=stated.get("num_attention_heads")
        ), prefix.removesuffix("vision_model.")

    def layer(self, config: Mapping[str, Any]) -> int:
        layer = config.get("vision_feature_layer", -2)
        if not isinstance(layer, int) or config.get("vision_feature_select_strategy", "default") != "default":
            raise ConfigError("vision_feature_layer: one number and the strategy 'default' are read here")
        return layer

    def fit(self, checkpoint: Checkpoint) -> str:
        if checkpoint.config["model_type"] == "llava_next":
            return "stretch"
        for name in ("preprocessor_config.json", "processor_config.json"):
            path = checkpoint.folder / name
            stated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if stated.get("image_processor", stated).get("do_pad"):
                return "pad_first"
        return "crop_last"

    def pinpoints(self, config: Mapping[str, Any]) -> list[list[int]] | None:
        # transformers writes (height, width), LLaVA (width, height).
        pairs = config.get("image_grid_pinpoints") if config["model_type"] == "llava_next" else None
        return [[width, height] for height, width in pairs] if pairs else None

    def language(self, checkpoint: Checkpoint) -> dict[str, Any]:
        stated = cast(dict[str, Any], checkpoint.config["text_config"])
        kept = {name: value for name, value in stated.items() if not name.startswith("_") and value is not None}
        for name in ("architectures", "torch_dtype", "dtype", "transformers_version"):
            kept.pop(name, None)
        embeddings = next(name for name in checkpoint.shards if name.endswith("embed_tokens.weight"))
        rows = checkpoint.config.get("ommatidia_rows") or checkpoint.side(embeddings)
        return {"model_type": "llama", **kept, "vocab_size": rows}

    def rules(self) -> list[Rule]:
        return [
            Rule(r"(?:language_model\.)?lm_head\.(.*)", r"language.decoder.lm_head.\1"),
            Rule(r".*rotary_emb\.inv_freq", None, "recomputed rotary frequencies"),
            Rule(
                r"(?:model\.)?language_model\.(?:model\.)?((?:embed_tokens|layers|norm)\..*)",
                r"language.decoder.model.\1",
            ),
            Rule(r"(?:model\.)?multi_modal_projector\.linear_1\.(.*)", r"projector.0.\1"),
            Rule(r"(?:model\.)?multi_modal_projector\.linear_2\.(.*)", r"projector.2.\1"),
            Rule(r"(?:model\.)?image_newline", "injection.row_end_E"),
        ]


def _vision_of(checkpoint: Checkpoint, prefix: str, *, heads: int | None = None) -> dict[str, Any]:
    """CLIP's sizes read off its tensors; attention heads are 64 channels wide where nothing says otherwise."""
    nested = f"{prefix}vision_model."
    inner = nested if f"{nested}embeddings.class_embedding" in checkpoint.shards.entries else prefix
    width, _, patch, _ = checkpoint.shards.shape(f"{inner}embeddings.patch_embedding.weight")
    places = checkpoint.side(f"{inner}embeddings.position_embedding.weight") - 1
    return {
        "hidden_size": width,
        "intermediate_size": checkpoint.side(f"{inner}encoder.layers.0.mlp.fc1.weight"),
        "num_hidden_layers": checkpoint.count(inner + "encoder.layers.{}.layer_norm1.weight"),
        "num_attention_heads": heads or max(1, width // 64),
        "patch_size": patch,
        "image_size": round(places**0.5) * patch,
    }


def _clip_rules(prefix: str, kept: int, depth: int) -> list[Rule]:
    start = prefix.replace(".", r"\.") + r"(?:vision_model\.)?"
    behind = "|".join(str(block) for block in range(kept, depth))
    rules = [Rule(start + rf"encoder\.layers\.(?:{behind})\..*", None, _BEHIND)] if behind else []
    return [
        *rules,
        Rule(start + r"post_layernorm\..*", None, _BEHIND),
        Rule(start + r"embeddings\.position_ids", None, "a counter"),
        Rule(start + r"(.*)", r"encoders.clip.trunk.model.\1"),
    ]


def _tiling(pinpoints: list[list[int]], tile: int) -> dict[str, Any]:
    """Pinpoints are canvases in pixels, (width, height); ours are (rows, columns) of tiles. Raises ConfigError."""
    if any(side % tile for pair in pinpoints for side in pair):
        raise ConfigError(f"image_grid_pinpoints {pinpoints}: sides must be multiples of the tile, {tile}")
    return {
        "kind": "any_resolution", "tile": tile,
        "pinpoints": [[height // tile, width // tile] for width, height in pinpoints],
    }  # fmt: skip


def _chat(language: Mapping[str, Any]) -> str:
    """The template by what tells the language models apart; ``chat`` in the written config may be changed."""
    if language["model_type"] == "mistral":
        return "mistral_instruct"
    if language.get("bos_token_id") == 128000:
        return "llama3"
    return "yi_34b_chatml_direct" if language.get("eos_token_id") == 7 else "vicuna_v1"
