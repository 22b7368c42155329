"""LLaVA-1.5 and LLaVA-NeXT checkpoints, in the layout of their authors and in that of transformers.

Both take block -2 of CLIP; what stands behind it has no part in the result and is left aside. NeXT cuts images by its
pinpoints and ends rows with a learned vector.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.published.checkpoint import Checkpoint
from ommatidia.models.published.family import DECODER_RULES, Family, Reading, decoder, text_fields, tied_or_not
from ommatidia.models.published.fields import (
    CLIP_VISION,
    LLAVA,
    LLAVA_AUTHORS,
    LLAVA_NEXT,
    OUT,
    PRETRAINED,
    SIGLIP_VISION,
    Fields,
)
from ommatidia.models.published.images import preparing, stated
from ommatidia.models.published.names import Rule
from ommatidia.models.vision.preprocess import HALF

_CLIP_L_336 = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "patch_size": 14, "image_size": 336, "projection_dim": 768,
}  # fmt: skip
_COMPUTED = ("hidden_act", "layer_norm_eps")
_PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
"""(height, width) of the canvases of a NeXT that states none: the default of its config class."""
_FIT = {"pad": "pad_first", "square": "crop_last", "anyres": "stretch_first"}
_SEEING = {
    "clip_vision_model": ("clip", "CLIPVisionModel", CLIP_VISION),
    "siglip_vision_model": ("siglip", "SiglipVisionModel", SIGLIP_VISION),
}
"""Model type of the vision encoder -> our name, its class, and the table of its settings."""
_STRATEGY = {"clip": "default", "siglip": "full"}
"""The strategy by which a LLaVA takes the places of the image and nothing else."""
_BEHIND = "behind the chosen features"


@dataclass(frozen=True, slots=True)
class _Vision:
    """The vision encoder of a LLaVA."""

    name: str
    """What it is called here: clip or siglip."""
    architecture: str
    config: dict[str, Any]
    prefix: str | None
    """Of its tensors; None where the checkpoint does not hold them."""


class _Llava(Family):
    """What both layouts share: one vision encoder, block by block, in front of an MLP."""

    def read(self, checkpoint: Checkpoint) -> Reading:
        config = checkpoint.config
        self.fields(config).check(config)
        vision = self.vision(checkpoint)
        depth, side = vision.config["num_hidden_layers"], vision.config["image_size"]
        kept = [_kept(layer, depth) for layer in self.layers(config, vision)]
        pinpoints = self.pinpoints(config)
        features = [number - 1 - depth for number in kept]
        encoder: dict[str, Any] = {
            "kind": "hf", "architecture": vision.architecture, "config": vision.config,
            "features": features[0] if len(features) == 1 else features, "image_size": side, "weights": "random",
            **self.prepared(checkpoint, vision, pinpoints),
        }  # fmt: skip
        stored = vision.prefix is not None
        if not stored:
            encoder["weights"] = {"kind": "hub", "id": str(config.get("mm_vision_tower"))}
        rules = [*self.rules(), *(_vision_rules(vision, max(kept), depth) if stored else ())]
        model = {
            "encoders": {vision.name: encoder},
            "tiling": _tiling(pinpoints, side) if pinpoints else "whole",
            "fusion": "none",
            "projector": {"kind": "mlp", "depth": 2},
            "injection": {"kind": "inline", "row_end": bool(pinpoints)},
        }
        language = self.language(checkpoint)
        model["chat"] = config.get("ommatidia_chat") or _chat(language)
        elsewhere = frozenset() if stored else frozenset({vision.name})
        return Reading(model, language, rules, elsewhere, rows=config.get("ommatidia_rows"))

    @abstractmethod
    def fields(self, config: Mapping[str, Any]) -> Fields:
        """The table of its config."""

    @abstractmethod
    def vision(self, checkpoint: Checkpoint) -> _Vision:
        """The vision encoder. Raises ConfigError for one that is not read."""

    @abstractmethod
    def layers(self, config: Mapping[str, Any], vision: _Vision) -> list[int]:
        """The hidden states taken, counted as transformers counts: 0 enters the first block, -1 leaves the last."""

    @abstractmethod
    def prepared(self, checkpoint: Checkpoint, vision: _Vision, pinpoints: list[list[int]] | None) -> dict[str, Any]:
        """How its own processor prepares an image, in the words of an encoder's config."""

    @abstractmethod
    def pinpoints(self, config: Mapping[str, Any]) -> list[list[int]] | None:
        """(width, height) of NeXT's canvases; None for LLaVA-1.5."""

    @abstractmethod
    def language(self, checkpoint: Checkpoint) -> dict[str, Any]: ...

    @abstractmethod
    def rules(self) -> list[Rule]:
        """Everything but the vision encoder."""


def _kept(layer: int, depth: int) -> int:
    """How many blocks a hidden state stands behind. Raises ConfigError."""
    kept = layer % (depth + 1) if layer < 0 else layer  # hidden state 0 is what enters the first block
    if not 1 <= kept <= depth or layer < -depth - 1:
        raise ConfigError(f"vision_feature_layer: hidden state {layer} of {depth} blocks; expected -{depth} to -1")
    return kept


class Llava(_Llava):
    """The authors' layout: a config of the language model with ``mm_`` fields in it."""

    name = "llava"

    def owns(self, config: Mapping[str, Any]) -> bool:
        kinds = ("llava", "llava_llama", "llava_mistral")
        return config.get("model_type") in kinds and "mm_hidden_size" in config and "text_config" not in config

    def fields(self, config: Mapping[str, Any]) -> Fields:
        return LLAVA_AUTHORS

    def vision(self, checkpoint: Checkpoint) -> _Vision:
        prefix = "model.vision_tower.vision_tower."
        if f"{prefix}vision_model.embeddings.class_embedding" in checkpoint.shards.entries:
            return _Vision("clip", "CLIPVisionModel", _vision_of(checkpoint, prefix), prefix)
        title = str(checkpoint.config.get("mm_vision_tower"))
        if title.rpartition("/")[2] != "clip-vit-large-patch14-336":
            raise ConfigError(f"mm_vision_tower {title!r}: its weights are not here and its sizes are not known; {OUT}")
        return _Vision("clip", "CLIPVisionModel", dict(_CLIP_L_336), None)

    def layers(self, config: Mapping[str, Any], vision: _Vision) -> list[int]:
        return [int(config.get("mm_vision_select_layer", -2))]

    def prepared(self, checkpoint: Checkpoint, vision: _Vision, pinpoints: list[list[int]] | None) -> dict[str, Any]:
        mode = str(checkpoint.config.get("image_aspect_ratio") or "square")
        if mode not in _FIT:
            raise ConfigError(f"image_aspect_ratio: {unknown('mode', mode, _FIT)}")
        side = vision.config["image_size"]
        return {**preparing(stated(checkpoint.folder), side=side, kind="clip"), "fit": _FIT[mode]}

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

    def fields(self, config: Mapping[str, Any]) -> Fields:
        return LLAVA_NEXT if config["model_type"] == "llava_next" else LLAVA

    def vision(self, checkpoint: Checkpoint) -> _Vision:
        given = dict(checkpoint.config.get("vision_config") or {})
        kind = given.get("model_type", "clip_vision_model")
        if kind not in _SEEING:
            raise ConfigError(f"vision_config: {unknown('vision encoder of a LLaVA', str(kind), _SEEING)}; {OUT}")
        name, architecture, fields = _SEEING[kind]
        fields.check(given)
        ends = "embeddings.patch_embedding.weight"
        prefix = next((one[: -len(ends)] for one in checkpoint.shards if one.endswith(ends)), None)
        if prefix is None:
            raise ConfigError(
                "the checkpoint holds no vision encoder; expected tensors of vision_model or vision_tower"
            )
        prefix = prefix.removesuffix("vision_model.")
        read = {key: given[key] for key in (*_CLIP_L_336, *_COMPUTED) if key in given and key in fields.used}
        sizes = _vision_of(checkpoint, prefix, heads=given.get("num_attention_heads"), marks=int(name == "clip"))
        return _Vision(name, architecture, read | sizes, prefix)

    def layers(self, config: Mapping[str, Any], vision: _Vision) -> list[int]:
        strategy, wanted = config.get("vision_feature_select_strategy") or "default", _STRATEGY[vision.name]
        if strategy != wanted:
            why = "its class token is no place of the image" if vision.name == "clip" else "it has no class token"
            raise ConfigError(
                f"config.json: vision_feature_select_strategy {strategy!r} is not read here with {vision.name}, "
                f"{wanted!r} is: {why}; {OUT}"
            )
        layers = config.get("vision_feature_layer")
        layers = -2 if layers is None else layers
        found = [layers] if isinstance(layers, int) else list(layers)
        if not found or not all(type(layer) is int for layer in found):
            raise ConfigError(f"config.json: vision_feature_layer {layers!r}; expected a number or a list of numbers")
        return found

    def prepared(self, checkpoint: Checkpoint, vision: _Vision, pinpoints: list[list[int]] | None) -> dict[str, Any]:
        kind = "next" if pinpoints else vision.name
        # Theirs are (height, width).
        listed = checkpoint.config.get("image_grid_pinpoints")
        settings = stated(checkpoint.folder)
        if kind == "next" and vision.name == "siglip":
            settings = {"image_mean": HALF, "image_std": HALF, **settings}
        return preparing(settings, side=vision.config["image_size"], kind=kind, pinpoints=listed)

    def pinpoints(self, config: Mapping[str, Any]) -> list[list[int]] | None:
        # transformers writes (height, width), LLaVA (width, height).
        if config["model_type"] != "llava_next":
            return None
        pairs = config.get("image_grid_pinpoints") or _PINPOINTS
        return [[width, height] for height, width in pairs]

    def language(self, checkpoint: Checkpoint) -> dict[str, Any]:
        given = cast(dict[str, Any], checkpoint.config["text_config"])
        kind = str(given.get("model_type", "llama"))
        text_fields(kind).check(given)
        kept = {name: value for name, value in given.items() if name not in PRETRAINED and not name.startswith("_")}
        embeddings = next(name for name in checkpoint.shards if name.endswith("embed_tokens.weight"))
        rows = checkpoint.config.get("ommatidia_rows") or checkpoint.side(embeddings)
        tied = bool(checkpoint.config.get("tie_word_embeddings")) or bool(given.get("tie_word_embeddings"))
        return tied_or_not({"model_type": kind, **kept, "vocab_size": rows}, checkpoint, embeddings, stated=tied)

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


def _vision_of(checkpoint: Checkpoint, prefix: str, *, heads: int | None = None, marks: int = 1) -> dict[str, Any]:
    """Sizes read off the tensors; attention heads are 64 channels wide where nothing says otherwise. ``marks``: rows of
    the position table that are no places of the image."""
    nested = f"{prefix}vision_model."
    inner = nested if f"{nested}embeddings.patch_embedding.weight" in checkpoint.shards.entries else prefix
    width, _, patch, _ = checkpoint.shards.shape(f"{inner}embeddings.patch_embedding.weight")
    places = checkpoint.side(f"{inner}embeddings.position_embedding.weight") - marks
    side = round(places**0.5) * patch
    return {
        "hidden_size": width,
        "intermediate_size": checkpoint.side(f"{inner}encoder.layers.0.mlp.fc1.weight"),
        "num_hidden_layers": checkpoint.count(inner + "encoder.layers.{}.layer_norm1.weight"),
        "num_attention_heads": heads or max(1, width // 64),
        "patch_size": patch,
        "image_size": side,
    }


def _vision_rules(vision: _Vision, kept: int, depth: int) -> list[Rule]:
    start = str(vision.prefix).replace(".", r"\.") + r"(?:vision_model\.)?"
    behind = "|".join(str(block) for block in range(kept, depth))
    rules = [Rule(start + rf"encoder\.layers\.(?:{behind})\..*", None, _BEHIND)] if behind else []
    return [
        *rules,
        Rule(start + r"(?:post_layernorm|head)\..*", None, _BEHIND),
        Rule(start + r"embeddings\.position_ids", None, "a counter"),
        Rule(start + r"(.*)", rf"encoders.{vision.name}.trunk.model.\1"),
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
