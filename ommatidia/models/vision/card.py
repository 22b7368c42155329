"""A card: one named encoder as data, what its name stands for and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Resizing = Literal["fixed", "interpolated", "cropped", "multiple", "any"]

"""How another image size may be asked for; only the native one may leave a rest at the border.

``any``: whatever gives at least one cell. All others but ``fixed`` want multiples of the stride: ``interpolated``
resamples the positions to the new grid, ``cropped`` resamples them to the square of the longer side and cuts it,
``multiple`` has no positions to resample.
"""


@dataclass(frozen=True, slots=True)
class Card:
    """One named encoder: the config its name stands for, and where it comes from."""

    encoder: Mapping[str, Any]
    """The EncoderConfig as plain data."""
    pretraining: str
    source: str
    licence: str
    """As the source states it; read it before you ship anything built on the weights."""
    notes: str = ""
    tiny: Mapping[str, Any] | None = None
    """What makes a small random twin of the same class; None: the encoder itself is small and offline."""
    resizing: Resizing = "interpolated"

    def twin(self) -> dict[str, Any]:
        """The config of a small encoder of the same class that needs no download."""
        if self.tiny is None:
            return dict(self.encoder)
        return {**self.encoder, "weights": {"kind": "random"}, **self.tiny}


def timm_card(
    model: str,
    size: int,
    *,
    pretraining: str,
    licence: str,
    tiny: Mapping[str, Any],
    notes: str = "",
    resizing: Resizing = "interpolated",
    **fields: Any,
) -> Card:
    """The card of a timm model whose weights timm finds by its name."""
    encoder = {"kind": "timm", "model": model, "image_size": size, "weights": {"kind": "hub"}, **fields}
    return Card(encoder, pretraining, f"timm {model}", licence, notes, tiny, resizing)


def hf_card(
    architecture: str,
    repository: str,
    size: int,
    *,
    config: Mapping[str, Any],
    normalisation: tuple[Any, Any],
    pretraining: str,
    licence: str,
    tiny: Mapping[str, Any],
    notes: str = "",
    prefix: str = "",
    **fields: Any,
) -> Card:
    """The card of a transformers model; ``normalisation`` is mean and std, ``tiny`` what its twin's config changes."""
    weights = {"kind": "hub", "id": repository, **({"prefix": prefix} if prefix else {})}
    mean, std = normalisation
    encoder = {
        "kind": "hf", "architecture": architecture, "image_size": size, "config": dict(config),
        "mean": mean, "std": std, "weights": weights, **fields,
    }  # fmt: skip
    small = {**{name: _SMALL_HF.get(name, value) for name, value in config.items()}, **tiny}
    native = config["image_size"]
    # The twin is resampled where the encoder is.
    shown = small["image_size"] if size == native else small["image_size"] + small["patch_size"]
    return Card(encoder, pretraining, repository, licence, notes, {"config": small, "image_size": shown})


_SMALL_HF = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
_SMALL_VIT = {"depth": 3, "embed_dim": 32, "num_heads": 2}
VIT_14: Mapping[str, Any] = MappingProxyType({"args": _SMALL_VIT, "image_size": 56})
VIT_16: Mapping[str, Any] = MappingProxyType({"args": _SMALL_VIT, "image_size": 64})
"""What makes a small twin of timm's plain transformers with patches of 14 and 16."""
