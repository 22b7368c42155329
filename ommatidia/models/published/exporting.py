"""Export: a folder that stock transformers loads where it has the architecture, the Ommatidia folder itself otherwise.

Tensors stream from shard to shard in the type they are stored in; the numbers do not change.
"""

from __future__ import annotations

import copy
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ommatidia.core.errors import ConfigError
from ommatidia.models.adapters import merge
from ommatidia.models.config import MLLMConfig
from ommatidia.models.injection import Inline
from ommatidia.models.language.hf import HFLanguage
from ommatidia.models.pretrained import check_saved, copy_saved, drafted, load, read_config, save
from ommatidia.models.projector import MLPProjector
from ommatidia.models.published.images import FILTERS
from ommatidia.models.shards import Shards, ShardWriter
from ommatidia.models.vision.hf import HFEncoder
from ommatidia.models.vision.tiling import Whole
from ommatidia.models.vision.tilings import AnyResolution

_IMAGE = "<image>"
_NUMBERS = {name: number for number, name in FILTERS.items()}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    folder: Path
    architecture: str
    """A class of transformers, or ``OmmatidiaModel``."""
    why: str = ""
    """Why it is no stock architecture."""
    merged: tuple[str, ...] = ()
    """Parts whose adapters were added into their matrices."""


def export_checkpoint(folder: Path, out: Path) -> Exported:
    """Write the Ommatidia folder ``folder`` as ``out`` for ``from_pretrained``.

    LLaVA-1.5 and NeXT designs become ``LlavaForConditionalGeneration`` and its NeXT; any other loads with ``AutoModel``
    after ``ommatidia.register_auto_classes()``. ``out`` is written whole or not at all. Raises ConfigError or RunError
    for a folder that is none.
    """
    config = read_config(folder)
    if config.adapters:
        return _without_adapters(folder, config, out)
    try:
        layout = _llava_layout(config)
    except ConfigError as reason:
        with drafted(out, inputs=[folder]) as draft:
            copy_saved(folder, draft)
        return Exported(out, "OmmatidiaModel", str(reason))
    check_saved(folder)
    with drafted(out, "export", inputs=[folder]) as draft:
        _write(folder, config, layout, draft)
    return Exported(out, layout["architectures"][0])


def _without_adapters(folder: Path, config: MLLMConfig, out: Path) -> Exported:
    """Export the model whose matrices the adapters were added to: nobody else knows how ours are kept."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        model, _ = load(folder)
        merge(model.parts().values())
        plain = config.model_copy(update={"adapters": {}})
        merged = save(model, plain, Path(place) / "merged", notes={"adapters": "merged"})
        return replace(export_checkpoint(merged, out), merged=tuple(config.adapted()))


def _llava_layout(config: MLLMConfig) -> dict[str, Any]:
    """The transformers config of a LLaVA design. Raises ConfigError that says what transformers has no place for."""
    if len(config.encoders) != 1:
        raise ConfigError(f"{len(config.encoders)} encoders; LLaVA has one")
    (encoder,) = config.encoders.values()
    if not isinstance(encoder, HFEncoder) or encoder.architecture != "CLIPVisionModel":
        raise ConfigError(f"the encoder is {encoder.describe()}; LLaVA's is CLIPVisionModel of transformers")
    if not isinstance(encoder.features, int) or encoder.neck.kind_name() != "none":
        raise ConfigError("the features are not one block's output; LLaVA takes one")
    if encoder.image_size != tuple([encoder.config.get("image_size", 224)] * 2):
        raise ConfigError(f"image_size {encoder.image_size} is not the position table's; LLaVA interpolates none")
    if config.fusion.kind_name() != "none" or getattr(config.fusion, "grid", None):
        raise ConfigError("the fusion resamples; LLaVA has none")
    plain = isinstance(config.projector, MLPProjector) and config.projector == MLPProjector()
    if not plain or not isinstance(config.injection, Inline):
        raise ConfigError("LLaVA has a two-layer MLP and inline tokens")
    next_ = isinstance(config.tiling, AnyResolution)
    fits = ("stretch", "stretch_first") if next_ else ("pad_first", "crop_last")
    if not isinstance(config.tiling, Whole | AnyResolution) or encoder.fit not in fits:
        raise ConfigError(f"tiling {config.tiling.kind_name()} with fit {encoder.fit!r}")
    if not isinstance(config.language, HFLanguage):
        raise ConfigError("the language model has no folder of its own")
    blocks = (
        encoder.config["num_hidden_layers"] + encoder.features + 1 if encoder.features < 0 else encoder.features + 1
    )
    text = config.language.transformers_config()
    layout: dict[str, Any] = {
        "architectures": ["LlavaNextForConditionalGeneration" if next_ else "LlavaForConditionalGeneration"],
        "model_type": "llava_next" if next_ else "llava",
        "vision_config": {**encoder.config, "num_hidden_layers": blocks, "model_type": "clip_vision_model"},
        "text_config": text.to_dict(),
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": bool(getattr(text, "tie_word_embeddings", False)),
    }
    if isinstance(config.tiling, AnyResolution):
        tile = config.tiling.tile
        layout["image_grid_pinpoints"] = [[rows * tile, columns * tile] for rows, columns in config.tiling.pinpoints]
    return layout


def _write(folder: Path, config: MLLMConfig, layout: dict[str, Any], draft: Path) -> None:
    shards = Shards(folder)
    (name,) = config.encoders
    tokenizer = copy.deepcopy(config.language.tokenizer().inner)  # the config's own is shared, and gets no new mark
    rows = shards.shape("language.decoder.model.embed_tokens.weight")[0]
    tokenizer.add_special_tokens({"additional_special_tokens": [_IMAGE]})
    image = int(tokenizer.convert_tokens_to_ids(_IMAGE))
    grown = max(rows, image + 1)
    layout["text_config"]["vocab_size"] = grown
    layout |= {"image_token_index": image, "ommatidia_rows": rows, "ommatidia_chat": config.chat.to_dict()}
    (draft / "config.json").write_text(json.dumps(layout, indent=2), encoding="utf-8")
    writer = ShardWriter(draft)
    for ours, tensor in shards.tensors():
        writer.add(_theirs(ours, name), _grown(ours, tensor, grown))
    width = layout["vision_config"]["hidden_size"]
    # transformers holds a norm behind the last block, which LLaVA's features do not pass.
    writer.add("vision_tower.vision_model.post_layernorm.weight", torch.ones(width))
    writer.add("vision_tower.vision_model.post_layernorm.bias", torch.zeros(width))
    writer.close()
    _processor(config, tokenizer, layout).save_pretrained(draft)


def _grown(name: str, tensor: Tensor, rows: int) -> Tensor:
    """Embeddings with a row for the image mark; it stands for nothing, its places are filled with visual tokens."""
    if not name.endswith(("embed_tokens.weight", "lm_head.weight")) or len(tensor) == rows:
        return tensor
    return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), tensor.shape[1])])


def _theirs(name: str, encoder: str) -> str:
    """The name in the layout that transformers of versions 4 and 5 read."""
    starts = {
        f"encoders.{encoder}.trunk.model.": "vision_tower.vision_model.",
        "projector.0.": "multi_modal_projector.linear_1.",
        "projector.2.": "multi_modal_projector.linear_2.",
        "language.decoder.": "language_model.",
        "injection.row_end_E": "image_newline",
    }
    start = next(start for start in starts if name.startswith(start))
    return starts[start] + name[len(start) :]


def _processor(config: MLLMConfig, tokenizer: Any, layout: dict[str, Any]) -> Any:
    """The stock processor that prepares images as this design does."""
    from transformers import CLIPImageProcessor, LlavaNextProcessor, LlavaProcessor

    (encoder,) = config.encoders.values()
    prepare = encoder.preprocess()
    side = prepare.size[0]
    shared: dict[str, Any] = {
        "image_mean": list(prepare.mean), "image_std": list(prepare.std), "resample": _NUMBERS[prepare.interpolation],
        "size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side},
    }  # fmt: skip
    options: dict[str, Any] = {
        "tokenizer": tokenizer, "patch_size": layout["vision_config"]["patch_size"],
        "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1, "image_token": _IMAGE,
    }  # fmt: skip
    if layout["model_type"] == "llava_next":
        from transformers import LlavaNextImageProcessor

        images = LlavaNextImageProcessor(image_grid_pinpoints=layout["image_grid_pinpoints"], **shared)
        return LlavaNextProcessor(image_processor=images, **options)
    if prepare.fit == "pad_first":
        from transformers import LlavaImageProcessor

        return LlavaProcessor(image_processor=LlavaImageProcessor(do_pad=True, **shared), **options)
    return LlavaProcessor(image_processor=CLIPImageProcessor(**shared), **options)
