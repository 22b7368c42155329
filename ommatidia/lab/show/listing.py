"""What there is, read off the registries: the tables behind ``omma ls`` and the generated page docs/design-space.md."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ommatidia.core.command_result import Table
from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.grid import Grid
from ommatidia.core.source import SourceConfig
from ommatidia.data.curation import Operation
from ommatidia.data.manifest import manifests
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.benchmarks import Published
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.eval.scoring.judged import JudgedScorer
from ommatidia.eval.scoring.scorer import ScorerConfig
from ommatidia.lab.recipe import recipe_modules, recipes_of
from ommatidia.lab.search.strategy import Strategy
from ommatidia.lab.show.designs import designs
from ommatidia.models.fusion.fusion import FusionConfig
from ommatidia.models.fusion.resample import ResampleConfig
from ommatidia.models.injection import InjectionConfig
from ommatidia.models.language import CHAT_FORMATS, LanguageConfig
from ommatidia.models.projector import ProjectorConfig
from ommatidia.models.vision.catalog import CATALOG
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.models.vision.measure_catalog import known
from ommatidia.models.vision.neck import NeckConfig
from ommatidia.models.vision.tiling import TilingConfig, VisualTokens
from ommatidia.models.vision.weights import WeightsConfig

FAMILIES: dict[str, type[Config]] = {
    "encoder-kinds": EncoderConfig,
    "necks": NeckConfig,
    "weights": WeightsConfig,
    "tilings": TilingConfig,
    "resamples": ResampleConfig,
    "fusions": FusionConfig,
    "projectors": ProjectorConfig,
    "injections": InjectionConfig,
    "languages": LanguageConfig,
    "sources": SourceConfig,
    "operations": Operation,
    "benchmark-kinds": BenchmarkConfig,
    "scorers": ScorerConfig,
    "strategies": Strategy,
}


PICTURE_SIZES = ((336, 336), (480, 640), (768, 1024), (1080, 1920), (2000, 500))
"""(height, width) in pixels: images of which tables tell what a tiling makes of them."""

_VIEW = Grid(24, 24, 1)
"""What one view brings in the table of tilings: CLIP-L at 336 px."""


def _family(name: str) -> Table:
    rows = []
    for kind, member in FAMILIES[name].kinds().items():
        fields = [field for field in member.model_fields if field not in ("kind", *FAMILIES[name].model_fields)]
        rows.append([kind, _first_line(member), ", ".join(fields)])
    return name, ("kind", "what", "fields"), sorted(rows)


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _encoders() -> Table:
    columns = (
        "name", "kind", "pixels", "other sizes", "grid", "tokens", "width", "stride", "features", "M parameters",
        "GFLOP",
    )  # fmt: skip
    rows = []
    for name, card in CATALOG.items():
        measure = known(name, card)
        kind = str(card.encoder["kind"])
        rows.append(
            [
                name,
                kind,
                "x".join(map(str, measure.pixels)),
                card.resizing,
                f"{measure.grid.height}x{measure.grid.width}",
                str(measure.grid.tokens),
                str(measure.grid.dim),
                f"{measure.stride:g}",
                _features(kind, card.encoder),
                f"{measure.cost.parameters / 1e6:.1f}",
                f"{measure.cost.flops / 1e9:.2f}",
            ]
        )
    return "encoders", columns, rows


def _encoder_sources() -> Table:
    rows = [[name, card.pretraining, card.source, card.licence, card.notes] for name, card in CATALOG.items()]
    return "encoder-sources", ("name", "pre-training", "source", "licence", "notes"), rows


def _features(kind: str, encoder: Mapping[str, Any]) -> str:
    field = EncoderConfig.kinds()[kind].model_fields.get("features")
    chosen = encoder.get("features", field.default if field else "all")
    return ", ".join(map(str, chosen)) if isinstance(chosen, list | tuple) else str(chosen)


def _tilings() -> Table:
    """What every tiling's default makes of some image sizes, in visual tokens."""
    name, columns, rows = _family("tilings")
    for row in rows:
        tiling = TilingConfig.kinds()[row[0]]()
        for size in PICTURE_SIZES:
            script = tiling.token_layout(*size, _VIEW)
            row.append(sum(len(piece.numbers) for piece in script if isinstance(piece, VisualTokens)))
    sizes = [f"tokens of {width}x{height}" for height, width in PICTURE_SIZES]
    return name, (*columns, *sizes), rows


def _chats() -> Table:
    return "chats", ("name", "end of turn"), [[name, repr(fields["end"])] for name, fields in CHAT_FORMATS.items()]


def _recipes() -> Table:
    rows = []
    for name in recipe_modules():
        for recipe, function in recipes_of(importlib.import_module(name)).items():
            annotation = inspect.signature(function).return_annotation
            if annotation in ("Recipe", "Search"):
                reference = f"{name}:{recipe}"
                rows.append([reference, annotation, designs(reference, function), _first_line(function)])
    return "recipes", ("reference", "gives", "designs", "what"), rows


def _benchmarks() -> Table:
    rows = []
    for name, data in BENCHMARKS.items():
        config = BenchmarkConfig.parse(data)
        if isinstance(config, Published):
            facts = config.facts
            told = [config.split, config.expected() or "", facts.metric, scored_by(config)]
            told += [", ".join(config.versions), facts.traps]
        else:
            told = [data["source"].get("split", ""), "", data["scorer"]["kind"], "rules", "", ""]
        rows.append([name, config.group, *told])
    return "benchmarks", ("name", "group", "split", "size", "metric", "scored by", "prompts", "traps"), rows


def _manifests() -> Table:
    rows = []
    for name, manifest in manifests().items():
        known = sum(listed.records or 0 for listed in manifest.sources.values())
        counts = [len(manifest.sources), f"{known:,}" if known else ""]
        rows.append([name, manifest.title, *counts, ", ".join(manifest.mixes), manifest.link])
    return "manifests", ("name", "what", "sources", "records", "mixes", "link"), rows


def scored_by(config: Published) -> str:
    """Who reads the answers: rules, a judge, or the server that alone has some split's references."""
    judged = isinstance(config.scorer, JudgedScorer)
    needs = isinstance(config.scorer, JudgedScorer) and config.scorer.needs_judge
    who = "a judge" if needs else "rules, then a judge if one is named" if judged else "rules"
    return f"{who}; a server for {', '.join(sorted(config.served))}" if config.served else who


_TABLES: dict[str, Callable[[], Table]] = {
    "encoders": _encoders,
    "encoder-sources": _encoder_sources,
    **{name: (lambda name=name: _family(name)) for name in FAMILIES},  # type: ignore[misc]
    "tilings": _tilings,
    "chats": _chats,
    "recipes": _recipes,
    "manifests": _manifests,
    "benchmarks": _benchmarks,
}


def listing(what: str | None) -> list[Table]:
    """One family's table (two for the encoders: what they are, where they come from), or all of them.

    Raises ConfigError for an unknown family.
    """
    if what is not None and what not in _TABLES:
        raise ConfigError(unknown("family", what, _TABLES))
    wanted = list(_TABLES) if what is None else [what]
    if what == "encoders":
        wanted.append("encoder-sources")
    return [_TABLES[name]() for name in wanted]


def markdown() -> str:
    """All tables as one Markdown page: what the registries hold, not what somebody remembered to write down."""
    lines = [
        "# The design space",
        "",
        "Made from the registries by `python -m ommatidia.lab.show.listing`; do not edit by hand.",
        "",
    ]
    for title, columns, rows in listing(None):
        family = f" `{FAMILIES[title].__name__}`" if title in FAMILIES else ""
        lines += [f"## {title}{family}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        for name, *cells in rows:
            lines.append(f"| `{name}` | " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
