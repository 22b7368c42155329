"""Tiny twins: a recipe or a search with the same kinds of parts and stages at a size that runs in seconds on a CPU.

Encoders become their catalog twins, the language model a decoder of some ten thousand weights, data drawn images,
and two drawn benchmarks are asked. So every step of a study is walked before a GPU is rented; the scores mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ommatidia.core.config import Config, digest
from ommatidia.core.errors import ConfigError
from ommatidia.core.names import fit_name
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Listed, RoundRobin, Search, Singles, Strategy
from ommatidia.models.config import MLLMConfig
from ommatidia.models.language import CHAT_FORMATS
from ommatidia.models.vision import CATALOG
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.train.stage import Stage

STEPS, BATCH = 2, 2
LANGUAGE: Mapping[str, Any] = {"kind": "scratch", "width": 32, "layers": 2, "heads": 2, "context": 1024}
_LONGEST = 4
"""Times ``STEPS``: a stage of several epochs stays longer than one of a single epoch."""
BENCHMARKS_ASKED = ("attributes", "counts")
PICTURES = 4
"""That a source or a benchmark draws."""

_DRAWN = ("drawn_attributes", "drawn_counts", "drawn_relations")
_TEXT: Mapping[str, Any] = {"kind": "described_scenes", "pictures": 16, "tasks": ["relations"]}
_SMALL: Mapping[str, Mapping[str, Any]] = {
    "sva": {"side": 2, "sides": {}, "width": 16, "heads": 2},
    "mixture_of_resolution": {"adapters": 2},
    "deformable": {"heads": 2, "points": 2},
    "routing": {"heads": 2, "head_dim": 8, "blocks": 1},
    "resampler": {"queries": 4, "dim": 16, "bank": 16, "layers": 2, "heads": 2},
    "c_abstractor": {"hidden": 8, "depth": 1},
    "patch_mining": {"window": 2},
    "perceiver": {"layers": 1, "heads": 2, "head_dim": 8},
    "q_former": {"queries": 4, "dim": 16, "layers": 2, "heads": 2},
    "pixel_shuffle_mlp": {"hidden": 16},
    "dynamic": {"tile": 56, "max_tiles": 4},
    "any_resolution": {"tile": 56},
    "slices": {"side": 56, "max_slices": 2},
    "fixed_grid": {"tile": [56, 56]},
    "windows": {"size": [112, 112], "window": 56},
    "cross_attention": {"layers": 1, "every": 1},
    "hybrid": {"layers": 1, "every": 1},
}
"""By kind of part: what makes it small, whatever the size of the rest."""
_COARSE, _FINE = 2, 3
"""Rows and columns of a grid that a part asks for, and of one of at least ``_MANY`` rows."""
_MANY = 12
_SIZE_OR_LOOK = frozenset({"image_size", "fit", "weights", "neck", "mean", "std", "interpolation"})


@dataclass(frozen=True, slots=True)
class Twin:
    """The small recipe or search, and what a reader must know of how it differs, line by line."""

    value: Recipe | Search
    notes: tuple[str, ...]


def twin(value: Recipe | Search) -> Twin:
    """The tiny twin. A search over a pool stays one; of any other, the twins of its designs are listed.

    Raises ConfigError for an encoder without a catalog entry, and for designs that do not fit when small.
    """
    if isinstance(value, Recipe):
        return Twin(twin_of_recipe(value), (_told(),))
    strategy, lost = _strategy(value.strategy)
    notes = [_told()]
    if lost:
        notes.append(f"{lost} designs differ from others only in what a twin leaves out, such as lengths and sizes")
    return Twin(Search(name=fit_name(f"{value.name}_twin"), strategy=strategy), tuple(notes))


def _told() -> str:
    return (
        f"a tiny twin: catalog twins as encoders, a scratch language model, drawn data, {STEPS} steps of {BATCH} a "
        "stage, frozen weights in fp32, nothing compiled; its scores mean nothing"
    )


def _strategy(strategy: Strategy) -> tuple[Strategy, int]:
    """The twin of a strategy, and how many of its designs coincide with others."""
    if isinstance(strategy, Singles | RoundRobin):
        changes: dict[str, Any] = {
            "recipe": twin_of_recipe(strategy.recipe).to_dict(),
            "pool": {name: _encoder(name, encoder) for name, encoder in strategy.pool.items()},
        }
        if isinstance(strategy, RoundRobin):
            changes["variants"] = {name: _small_value(change) for name, change in strategy.variants.items()}
        return type(strategy).parse(strategy.to_dict() | changes), 0
    whole = strategy.horizon()
    twins = {recipe.digest(): recipe for recipe in map(twin_of_recipe, whole)}
    return Listed(recipes=tuple(twins.values())), len(whole) - len(twins)


def twin_of_recipe(recipe: Recipe) -> Recipe:
    """The same kinds of parts and the same stages, small."""
    return Recipe.parse(
        {
            "name": fit_name(f"{recipe.name}_twin"),
            "model": _model(recipe.model),
            "stages": [_stage(stage) for stage in recipe.stages],
            "benchmarks": [_benchmark(name) for name in BENCHMARKS_ASKED],
            "seed": recipe.seed,
            "modes": recipe.modes,
            "features": recipe.features,
            "threads": 1,
        }
    )


def _model(model: MLLMConfig) -> dict[str, Any]:
    small: dict[str, Any] = {"language": dict(LANGUAGE), "chat": "compact"}
    if not model.encoders:
        return small
    small["encoders"] = {name: _encoder(name, encoder) for name, encoder in model.encoders.items()}
    parts = {name: getattr(model, name) for name in ("tiling", "fusion", "projector", "injection")}
    small |= {name: _small_value(part.to_dict()) for name, part in parts.items()}
    groups = getattr(model.fusion, "groups", None)
    if groups is not None:
        small["fusion"]["groups"] = [_COARSE] * len(groups)
    if small["injection"]["kind"] == "deep_sva":
        small["injection"] |= {"count": 1, "start": 0, "stride": 1}
    return small


def _small_value(value: Any) -> Any:
    """A part's config, or an assignment of configs by path, with what is large in it made small."""
    if not isinstance(value, dict):
        return value
    small = {name: _small_value(one) for name, one in value.items()} | dict(_SMALL.get(str(value.get("kind")), {}))
    if "max_tiles" in value:
        small["max_tiles"] = min(value["max_tiles"], small["max_tiles"])
    if (grid := value.get("grid")) is not None:
        small["grid"] = [min(side, _COARSE if side < _MANY else _FINE) for side in grid]
    if value.get("kind") == "perceiver":
        small["queries"] = max(1, value["queries"] // 16)
    return small


def _parts_of(encoder: EncoderConfig) -> str:
    """What an encoder is made of, whatever the size of its image and where its weights come from."""
    return digest({name: value for name, value in encoder.to_dict().items() if name not in _SIZE_OR_LOOK})


@cache
def _entries(parts: str, what: str) -> tuple[tuple[str, int], ...]:
    """Names in the catalog, and native sizes, of encoders of these parts; ``what`` is their class, so that few are
    looked at."""
    alike = {name: card for name, card in CATALOG.items() if _class_of(card.encoder) == what}
    encoders = {name: EncoderConfig.parse(dict(card.encoder)) for name, card in alike.items()}
    return tuple((name, _side(encoder)) for name, encoder in encoders.items() if _parts_of(encoder) == parts)


def _class_of(encoder: Mapping[str, Any]) -> str:
    return " ".join(str(encoder.get(field, "")) for field in ("kind", "model", "architecture"))


def _side(encoder: EncoderConfig) -> int:
    size = encoder.to_dict()["image_size"]
    return max(size) if isinstance(size, list | tuple) else int(size)


def _encoder(name: str, encoder: EncoderConfig) -> dict[str, Any]:
    """The catalog twin of the entry nearest in size; an image twice the native size stays twice the twin's."""
    side, whole = _side(encoder), encoder.to_dict()
    entries = _entries(_parts_of(encoder), _class_of(whole))
    if not entries:
        raise ConfigError(f"encoders.{name}: no entry of the catalog has these parts, so no tiny twin is known")
    entry, native = min(entries, key=lambda one: abs(one[1] - side))
    if CATALOG[entry].tiny is None:
        return whole  # small as it is
    small = CATALOG[entry].twin() | {"fit": encoder.preprocess().fit, "neck": whole.get("neck")}
    if (times := round(side / native)) > 1:
        small["image_size"] *= times
    return {field: value for field, value in small.items() if value is not None}


def _stage(stage: Stage) -> dict[str, Any]:
    """As many samples as a CPU trains on in a second; rates, schedule, optimiser and what trains stay."""
    whole = stage.to_dict()
    drawn = {"count": None, "epochs": None}
    sources = {
        name: whole["data"]["sources"][name] | drawn | {"source": _source(name, one.source)}
        for name, one in stage.data.sources.items()
    }
    data = whole["data"] | {"sources": sources, "cap": None, "epoch": None}
    steps = STEPS * min(_LONGEST, max(1, round(stage.epochs or 1)))
    small: dict[str, Any] = {
        "epochs": None,
        "steps": steps,
        "batch": BATCH,
        "micro_batch": None,
        "frozen_precision": "fp32",
    }
    if stage.chat is not None:
        small["chat"] = {
            **CHAT_FORMATS["compact"],
            "name": stage.chat.name,
            "drop_user_text": stage.chat.drop_user_text,
        }
    if stage.tiling is not None:
        small["tiling"] = _small_value(stage.tiling.to_dict())
    if stage.encoders is not None:
        small["encoders"] = {name: _encoder(name, encoder) for name, encoder in stage.encoders.items()}
    if stage.precision == "bf16_pure":
        small["precision"] = "bf16"
    if stage.validation is not None:
        small["validation"] = None
    engine = stage.engine.to_dict() | {"compile": [], "workers": 0, "log": []}
    return whole | small | {"engine": engine, "data": data}


def _source(name: str, source: Config) -> dict[str, Any]:
    """Drawn images, another kind for another source; text alone for a source whose name starts with ``text``."""
    if name.startswith("text"):
        return dict(_TEXT)
    kind = _DRAWN[int(digest(source.to_dict())[:8], 16) % len(_DRAWN)]
    return {"kind": kind, "split": "train", "pictures": PICTURES, "per_picture": 1, "size": 40}


def _benchmark(name: str) -> dict[str, Any]:
    source = {**BENCHMARKS[name]["source"], "pictures": PICTURES, "per_picture": 1, "size": 40}
    return {**BENCHMARKS[name], "source": source, "max_new_tokens": 4}
