"""What a blend gives each source: its share, exactly, and how often a stage sees its records. Trains nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ommatidia.core.command_result import CommandResult, Table
from ommatidia.core.config import Config, overridden, read_assignments, read_yaml
from ommatidia.core.errors import ConfigError
from ommatidia.data.blend import Division
from ommatidia.data.manifest import manifests, read
from ommatidia.data.mixture import MixtureConfig
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.recipe import read as read_recipe

_COLUMNS = ("source", "category", "records", "capped", "offered", "asked share", "share", "places", "drawn", "epochs")


def read_blend(reference: str, arguments: list[str], changes: list[str]) -> Recipe | MixtureConfig:
    """A recipe, a mixture in a YAML or JSON file, or a manifest ``NAME`` or ``NAME:MIX`` with ``data=FOLDER``.

    Raises ConfigError.
    """
    named = dict(read_assignments(arguments))
    name, _, mix = reference.partition(":")
    value: Config
    if Path(reference).suffix in (".yaml", ".yml", ".json"):
        data = read_yaml(reference)
        cls: type[Config] = MixtureConfig if isinstance(data, dict) and "sources" in data else Recipe
        value = read_recipe(reference, cls, named)
    elif name in manifests() or "." not in name:
        if extra := [argument for argument in named if argument != "data"]:
            raise ConfigError(f"{reference}: a manifest takes data=FOLDER, not {', '.join(extra)}")
        value = read(name).mixture(Path(str(named.get("data", "data"))), mix=mix or None)
    else:
        value = read_recipe(reference, Config, named)
    if not isinstance(value, Recipe | MixtureConfig):
        raise ConfigError(f"{reference} gives a {type(value).__name__}; expected a Recipe or a mixture")
    value = overridden(value, read_assignments(changes))
    return value


def blend(value: Recipe | MixtureConfig, *, samples: int | None = None, seed: int = 0) -> CommandResult:
    """A table for the mixture over ``samples`` (None: one epoch), or for every stage of a recipe over its steps.

    Sizes are counted where the data is here, and as published where it is not. Raises ConfigError where neither is
    known and a share depends on it.
    """
    told = CommandResult()
    if isinstance(value, MixtureConfig):
        _tell(told, "blend", value, samples=samples, seed=seed)
        return told
    for stage in value.stages:
        sizes, _ = _sizes(stage.data)
        length = stage.total_steps(stage.data.divide(sizes).epoch) * stage.batch
        _tell(told, stage.name, stage.data, samples=length, seed=stage.seed_or(value.seed))
    return told


def _tell(told: CommandResult, title: str, mixture: MixtureConfig, *, samples: int | None, seed: int) -> None:
    sizes, notes = _sizes(mixture)
    division = mixture.divide(sizes)
    wanted = division.epoch if samples is None else samples
    rows = _rows(mixture, division, sizes, notes, division.drawn(wanted, seed=seed))
    told.tables.append(_table(title, rows))
    if mixture.categories:
        told.tables.append(_by_category(title, mixture.categories, rows))
    guessed = {note: sum(told_by == note for told_by in notes.values()) for note in ("published", "unknown")}
    epoch = f"an epoch counts {division.epoch:,}; " if not guessed["unknown"] else ""
    told.lines.append(f"{title}: {wanted:,} samples; {epoch}shares are exact over every {division.block:,}")
    for note, what in (("published", "sizes as published (~)"), ("unknown", "sizes unknown (?)")):
        if guessed[note]:
            told.lines.append(f"{title}: {guessed[note]} of {len(notes)} sources are not here, {what}")
    told.data[title] = {
        "samples": wanted, "epoch": division.epoch, "block": division.block, "seed": seed, "sources": rows,
    }  # fmt: skip


def _rows(
    mixture: MixtureConfig, division: Division, sizes: dict[str, int], notes: dict[str, str], drawn: dict[str, int]
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for name, weighted in mixture.sources.items():
        if name not in division.places:
            rows[name] = {"category": weighted.category, "records": None, "share": 0.0, "drawn": 0, "epochs": 0.0}
            continue
        known = notes[name] != "unknown"
        uncapped = mixture.model_copy(update={"cap": None}).divide(sizes).offered[name]
        rows[name] = {
            "category": weighted.category,
            "records": sizes[name] if known else None,
            "sized": notes[name],
            "capped": uncapped - division.offered[name],
            "offered": division.offered[name] if known else None,
            "asked": division.wanted[name],
            "share": division.places[name] / division.block,
            "places": division.places[name],
            "drawn": drawn[name],
            "epochs": drawn[name] / sizes[name] if known else None,
        }
    return rows


def _by_category(title: str, categories: dict[str, float], rows: dict[str, dict[str, Any]]) -> Table:
    total = sum(categories.values())
    shown = []
    for category, asked in categories.items():
        own = [row for row in rows.values() if row["category"] == category]
        share, drawn = sum(row["share"] for row in own), sum(row["drawn"] for row in own)
        shown.append([category, len(own), f"{asked / total:.3%}", f"{share:.3%}", f"{drawn:,}"])
    return f"{title} by category", ("category", "sources", "asked share", "share", "drawn"), shown


def _table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    shown = []
    for name, row in rows.items():
        mark = "~" if row.get("sized") == "published" else ""
        if "places" not in row:
            shown.append([name, row["category"] or "", "not used", "", "", "0.00%", "0.00%", 0, 0, "0.00"])
            continue
        counts = ["?" if row[key] is None else f"{mark}{row[key]:,}" for key in ("records", "capped", "offered")]
        epochs = "?" if row["epochs"] is None else f"{row['epochs']:.3f}"
        share = [f"{row['asked']:.3%}", f"{row['share']:.3%}", f"{row['places']:,}", f"{row['drawn']:,}"]
        shown.append([name, row["category"] or "", *counts, *share, epochs])
    return title, _COLUMNS, shown


def _sizes(mixture: MixtureConfig) -> tuple[dict[str, int], dict[str, str]]:
    """Records of every used source, and whether they were counted, published or are unknown."""
    sizes: dict[str, int] = {}
    notes: dict[str, str] = {}
    for name, weighted in mixture.used().items():
        if weighted.source.absent() is None:
            one = MixtureConfig(sources={name: weighted.model_copy(update={"category": None, "weight": None})})
            sizes[name], notes[name] = len(one.open().sources[0]), "counted"
        elif (size := weighted.source.published_size()) is not None:
            sizes[name], notes[name] = size, "published"
        elif weighted.weight is not None:
            sizes[name], notes[name] = 1, "unknown"
        else:
            raise ConfigError(
                f"sources.{name}: {weighted.source.absent()} is not here and nobody says how many records it has; "
                "its share depends on that"
            )
    return sizes, notes
