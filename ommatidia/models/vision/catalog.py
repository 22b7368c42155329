"""The catalog: every named encoder. An encoder that timm or transformers knows is one card in a file of its family.

Weights of ``hub`` entries are fetched when the encoder is built, never to show, plan or price it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ommatidia.core.errors import ConfigError, unknown
from ommatidia.models.vision.card import Card
from ommatidia.models.vision.cards_eagle import EAGLE
from ommatidia.models.vision.cards_language import LANGUAGE
from ommatidia.models.vision.cards_offline import OFFLINE
from ommatidia.models.vision.cards_other import OTHER
from ommatidia.models.vision.cards_self_supervised import SELF_SUPERVISED


def _merged(*families: Mapping[str, Card]) -> Mapping[str, Card]:
    cards: dict[str, Card] = {}
    for family in families:
        if taken := cards.keys() & family.keys():
            raise ValueError(f"the catalog has two encoders of the name {min(taken)!r}")
        cards |= family
    return MappingProxyType(cards)


CATALOG: Mapping[str, Card] = _merged(
    OFFLINE,
    LANGUAGE,
    SELF_SUPERVISED,
    OTHER,
    EAGLE,
)
"""Every named encoder. Read-only; another encoder needs no entry here, see ``docs/add-an-encoder.md``."""


def lookup(name: str) -> dict[str, Any]:
    """The config of a catalog name as plain data; ``name@128`` or ``name@96x128`` (rows x columns) sets the image size.

    Raises ConfigError with the nearest name.
    """
    base, at, size = name.partition("@")
    if base not in CATALOG:
        hint = "; any other timm or transformers model: {kind: timm, model: NAME} or {kind: hf, architecture: CLASS}"
        raise ConfigError(unknown("encoder", base, CATALOG) + hint)
    encoder = dict(CATALOG[base].encoder)
    if at:
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", size)
        if found is None:
            raise ConfigError(f"encoder {name!r}: expected NAME@SIZE or NAME@ROWSxCOLUMNS, for example {base}@128")
        encoder["image_size"] = [int(found[1]), int(found[2] or found[1])]
    return encoder
