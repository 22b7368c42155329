"""Every setting of a published config: used, without effect, the one value that is read, or refused by name.

Each class of config has a table. A setting that no table knows is refused, so that nothing of a checkpoint is left out
without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ommatidia.core.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class Fields:
    """The settings of one class of config."""

    what: str
    """What messages call such a config."""
    used: frozenset[str]
    """Settings that the imported model follows, or that its reader refuses where it cannot."""
    idle: Mapping[str, str] = field(default_factory=dict)
    """Settings without effect on what the model computes: why."""
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Settings that are read with these values alone; null stands for the first."""

    def check(self, config: Mapping[str, Any]) -> None:
        """Raises ConfigError for the first setting that is not known, or has a value that is not read."""
        for name, value in config.items():
            if name in self.used or name in self.idle:
                continue
            if name in self.only:
                if value is not None and not any(_same(value, read) for read in self.only[name]):
                    read = " or ".join(repr(one) for one in self.only[name])
                    raise ConfigError(f"{self.what}: {name} {value!r} is not read here, {read} is; {OUT}")
            elif not name.startswith("_"):
                near = nearest(name, [*self.used, *self.idle, *self.only])
                said = f"; did you mean {near!r}?" if near else ""
                raise ConfigError(
                    f"{self.what}: {name} {value!r} is a setting that is not known here{said}; where it has no effect, "
                    "take it out of a copy of the file"
                )

    def cells(self) -> tuple[str, str, str]:
        """For the docs: settings that are used, those without effect (but for ``PRETRAINED``), those of one value."""
        idle = sorted(self.idle.keys() - PRETRAINED.keys())
        only = sorted(f"`{name}`: {' or '.join(f'`{one!r}`' for one in read)}" for name, read in self.only.items())
        return tuple(", ".join(part) or "–" for part in (_quoted(sorted(self.used)), _quoted(idle), only))  # type: ignore[return-value]


OUT = "convert the checkpoint, or import its vision encoder alone (kind: hf, weights: {kind: folder})"
"""What can be done with a checkpoint whose setting is not read."""


def _quoted(names: list[str]) -> list[str]:
    return [f"`{name}`" for name in names]


def _same(value: Any, read: Any) -> bool:
    return type(value) is type(read) and value == read


_BOOKS = "of transformers' own bookkeeping"
_TEXTS = "of generating, which is asked for with each answer"
PRETRAINED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "architectures", "transformers_version", "model_type", "id2label", "label2id", "num_labels",
            "problem_type", "return_dict", "output_hidden_states", "output_attentions", "use_cache", "use_return_dict",
            "torchscript", "name_or_path", "finetuning_task", "task_specific_params", "tokenizer_class", "prefix",
            "chunk_size_feed_forward", "is_encoder_decoder", "tf_legacy_loss", "use_bfloat16", "pruned_heads",
            "is_decoder", "add_cross_attention", "cross_attention_hidden_size", "tie_encoder_decoder",
            "attn_implementation", "auto_map",
        ),
        _BOOKS,
    ),
    **dict.fromkeys(("dtype", "torch_dtype"), "the tensors' own type is kept"),
    **dict.fromkeys(
        (
            "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "temperature",
            "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
            "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
            "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "diversity_penalty",
            "decoder_start_token_id", "sep_token_id",
        ),
        _TEXTS,
    ),
}  # fmt: skip
"""Settings that every config of transformers may hold."""

_DRAWN = "of how random weights are drawn"
_TRUNK = "a vision encoder runs without dropout"
_VISION_USED = frozenset({
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
    "hidden_act", "layer_norm_eps",
})  # fmt: skip
_VISION_IDLE = {**PRETRAINED, "attention_dropout": _TRUNK, "dropout": _TRUNK, "initializer_range": _DRAWN}
CLIP_VISION = Fields(
    "vision_config",
    _VISION_USED,
    {
        **_VISION_IDLE, "initializer_factor": _DRAWN, "projection_dim": "behind the chosen features",
        "vocab_size": "of CLIP's other half", "bos_token_id": "of CLIP's other half",
        "eos_token_id": "of CLIP's other half", "pad_token_id": "of CLIP's other half",
    },
    {"num_channels": (3,)},
)  # fmt: skip
SIGLIP_VISION = Fields(
    "vision_config",
    _VISION_USED,
    {**_VISION_IDLE, "vision_use_head": "behind the chosen features", "projection_dim": "behind the chosen features"},
    {"num_channels": (3,)},
)

_PLACES = "a mark of transformers' processor; here a visual token stands at no id"
_LLAVA_USED = frozenset({
    "vision_config", "text_config", "vision_feature_layer", "vision_feature_select_strategy", "tie_word_embeddings",
    "ommatidia_rows", "ommatidia_chat",
})  # fmt: skip
_LLAVA_IDLE = {
    **PRETRAINED,
    **dict.fromkeys(("image_token_index", "image_token_id", "image_seq_length", "ignore_index"), _PLACES),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), "the language model's config states them"),
    "vocab_size": "the language model's config states it",
    "initializer_range": _DRAWN,
}
_LLAVA_ONLY: Mapping[str, tuple[Any, ...]] = {
    "projector_hidden_act": ("gelu",),
    "multimodal_projector_bias": (True,),
}
LLAVA = Fields("config.json", _LLAVA_USED, _LLAVA_IDLE, _LLAVA_ONLY)
LLAVA_NEXT = Fields(
    "config.json",
    _LLAVA_USED | {"image_grid_pinpoints"},
    _LLAVA_IDLE,
    {**_LLAVA_ONLY, "use_image_newline_parameter": (True,)},
)

DECODER = frozenset({
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
    "rope_parameters", "attention_bias", "attention_dropout", "mlp_bias", "tie_word_embeddings", "bos_token_id",
    "eos_token_id", "pad_token_id", "initializer_range", "head_dim", "sliding_window",
})  # fmt: skip
"""Settings of a Llama-like decoder, where a config mixes them with others."""
_TRAINING = "of how it was trained"
_AUTHORS_IDLE = {
    **PRETRAINED,
    "pretraining_tp": "of how it was trained; the result is the same",
    **dict.fromkeys(
        (
            "freeze_mm_mlp_adapter", "freeze_mm_vision_resampler", "tune_mm_mlp_adapter", "tune_mm_vision_resampler",
            "unfreeze_mm_vision_tower", "mm_projector_lr", "mm_vision_tower_lr", "mm_use_im_patch_token",
            "tokenizer_model_max_length", "tokenizer_padding_side", "pretrain_mm_mlp_adapter", "max_sequence_length",
            "mm_tunable_parts", "mm_vision_sampler_lr", "freeze_vision", "image_processor", "model_max_length",
            "delay_load", "input_size", "is_tp", "mm_vision_resolution",
        ),
        _TRAINING,
    ),
    **dict.fromkeys(("use_mm_proj", "mm_hidden_size"), "the projector's tensors say so"),
    **dict.fromkeys(("image_crop_resolution", "image_split_resolution"), "not read by the released code either"),
}  # fmt: skip
_AUTHORS_ONLY: Mapping[str, tuple[Any, ...]] = {
    "mm_use_im_start_end": (False,),
    "mm_resampler_type": (None,),
    "quantization_config": (None,),
}
LLAVA_AUTHORS = Fields(
    "config.json",
    DECODER | {
        "mm_vision_tower", "mm_vision_select_layer", "image_aspect_ratio", "image_grid_pinpoints", "ommatidia_rows",
        "ommatidia_chat",
    },
    _AUTHORS_IDLE,
    {
        **_AUTHORS_ONLY, "mm_projector_type": ("mlp2x_gelu",), "mm_vision_select_feature": ("patch",),
        "mm_patch_merge_type": ("flat", "spatial_unpad"), "mm_variable_length": (False,),
    },
)  # fmt: skip
EAGLE = Fields(
    "config.json",
    DECODER | {"mm_vision_tower", "mm_projector_type", "image_aspect_ratio"},
    {
        **_AUTHORS_IDLE,
        **dict.fromkeys(
            ("mm_vision_select_layer", "mm_vision_select_feature"), "not read by any of Eagle's encoders"
        ),
        **dict.fromkeys(("image_grid_pinpoints", "mm_patch_merge_type"), "of LLaVA-NeXT's tiles, which Eagle has not"),
    },
    _AUTHORS_ONLY,
)  # fmt: skip
CAMBRIAN = Fields(
    "config.json",
    DECODER | {
        "mm_projector_type", "mm_vision_tower_aux_list", "mm_vision_tower_aux_token_len_list", "vision_hidden_size",
        "image_token_len", "connector_depth", "query_num_list", "connector_only", "num_of_vision_sampler_layers",
        "start_of_vision_sampler_layers", "stride_of_vision_sampler_layers",
    },
    {
        **_AUTHORS_IDLE,
        **dict.fromkeys(
            ("mm_vision_select_layer", "mm_vision_select_feature"), "not read by any of Cambrian's encoders"
        ),
        "image_aspect_ratio": "pictures are padded whatever it says",
        "image_position": "a place of the training's batches; pictures stand where the text has them",
        "num_query_group": "query_num_list says it",
        "mm_vision_tower": "the list of encoders says it",
        "mm_patch_merge_type": "of LLaVA-NeXT's tiles, which Cambrian has not",
        "image_grid_pinpoints": "of LLaVA-NeXT's tiles, which Cambrian has not",
        "unfreeze_mm_vision_tower_aux": _TRAINING,
    },
    _AUTHORS_ONLY,
)  # fmt: skip
