"""A card: one named encoder as data, what its name stands for and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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

    def twin(self) -> dict[str, Any]:
        """The config of a small encoder of the same class that needs no download."""
        if self.tiny is None:
            return dict(self.encoder)
        return {**self.encoder, "weights": {"kind": "random"}, **self.tiny}
