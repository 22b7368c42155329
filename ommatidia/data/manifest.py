"""Manifests: the data of published studies as lists that ship with the package: sources, counts, categories, mixes.

``read("eagle_1_8m").mixture(Path("data"))`` is a mixture of LLaVA-format files below that folder, one a source, named
after it: ``docvqa.jsonl`` or ``docvqa.json``, image paths relative to the folder. The images and questions are their
owners' and not here.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ommatidia.core.config import Config, read_yaml
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.data.mixture import MixtureConfig


class Listed(Config):
    """One source of a manifest."""

    title: str
    """As its publishers call it."""
    category: str
    records: Annotated[int, Field(ge=1)] | None = None
    """About how many were used; None: nobody says."""
    removed: Annotated[int, Field(ge=0)] = 0
    """About how many more were collected and then taken out."""


class Mix(Config):
    """One published way to blend the sources of a manifest."""

    about: str
    sources: tuple[str, ...] | None = None
    """None: all of them."""
    weights: dict[str, float] | None = None
    epochs: dict[str, float] = Field(default_factory=dict)
    """How often each record of a source comes in one epoch, where that is not once: a source's quality, as a weight."""
    removed: bool = False
    """Whether a source's file also holds what its publishers took out."""
    cap: int | None = None
    categories: dict[str, float] | None = None
    epoch: int | None = None


class Manifest(Config):
    """Sources by name, and mixes of them by name; the first mix is the one meant when none is named."""

    title: str
    about: str
    link: str
    sources: dict[str, Listed]
    mixes: Annotated[dict[str, Mix], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for mix in self.mixes.values():
            for name in (*(mix.sources or ()), *(mix.weights or ()), *mix.epochs):
                if name not in self.sources:
                    raise ConfigError(unknown("source", name, self.sources))
        return self

    def mixture(self, data: Path, *, mix: str | None = None) -> MixtureConfig:
        """The named mix of files below ``data``. Raises ConfigError for an unknown mix."""
        if mix is not None and mix not in self.mixes:
            raise ConfigError(unknown("mix", mix, self.mixes))
        chosen = self.mixes[mix or next(iter(self.mixes))]
        sources = {name: self._weighted(name, chosen, data) for name in chosen.sources or self.sources}
        return MixtureConfig.parse(
            {"sources": sources, "cap": chosen.cap, "categories": chosen.categories, "epoch": chosen.epoch}
        )

    def _weighted(self, name: str, mix: Mix, data: Path) -> dict[str, Any]:
        listed = self.sources[name]
        about = listed.records and listed.records + (listed.removed if mix.removed else 0)
        path = data / f"{name}.json"
        return {
            "source": {
                "kind": "llava_json",
                "path": str(path if path.is_file() else path.with_suffix(".jsonl")),
                "about": about,
                "task": name,
            },
            "weight": None if mix.weights is None else mix.weights[name],
            "epochs": mix.epochs.get(name),
            "category": listed.category,
        }


def manifests() -> dict[str, Manifest]:
    """Every manifest of the package by name."""
    folder = files("ommatidia.data").joinpath("manifests")
    names = sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
    return {name: read(name) for name in names}


def read(name: str) -> Manifest:
    """The manifest of this name. Raises ConfigError with the nearest one."""
    path = Path(str(files("ommatidia.data").joinpath("manifests", f"{name}.json")))
    if not path.is_file():
        known = [entry.stem for entry in path.parent.glob("*.json")]
        raise ConfigError(unknown("manifest", name, known))
    return Manifest.parse(read_yaml(path))
