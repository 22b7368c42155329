"""A recipe, a search and a plan in tables: what ``show`` and ``plan`` print. Nothing here needs weights.

Where the data or the tokenizer of a recipe are not on this machine, ``show`` assumes a sample, and a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ommatidia.core.config import Config
from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.cost import SampleTokens, largest_cost
from ommatidia.lab.price.hardware import Machine
from ommatidia.lab.price.lengths import (
    ASSUMED_SUPERVISED,
    ASSUMED_TEXT,
    absent,
    assumed_tokens,
    mean_tokens,
    published_records,
    unread,
)
from ommatidia.lab.price.memory import FROZEN, TRAINED, held, parameters
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.plan import Plan, check_patterns, seconds_per_flop
from ommatidia.lab.run.workers import cores
from ommatidia.lab.search import Search
from ommatidia.lab.show.detectable import detectable
from ommatidia.lab.show.listing import PICTURE_SIZES, Table
from ommatidia.lab.show.pricing import price_tables, stage_prices
from ommatidia.models.cost import cost_by_part
from ommatidia.models.vision.tiling import Mark, TilingConfig, Whole
from ommatidia.train.stage import Stage

_MANY = 1e11
"""Operations from which on they are told in GFLOP."""


def describe(value: Config, machine: Machine | None = None) -> list[Table]:
    """Tables of a recipe; of a search, those of the designs it starts with. Priced where a machine is named.

    Raises ConfigError for what is neither, or where a stage trains a part that the model has not.
    """
    if isinstance(value, Recipe):
        for stage in value.stages:
            check_patterns(stage, value.model)
        tables = [_parts(value), *_pictures(value), _memory(value), _stages(value), *_notes(value)]
        return tables + _priced((value,), machine)[0]
    if isinstance(value, Search):
        first = value.strategy.first()
        stages = _stages(max(first, key=lambda recipe: len(recipe.stages)))
        return [_designs(first), stages, *_priced(value.strategy.horizon(), machine)[0], *_power(value)]
    raise ConfigError(f"a {type(value).__name__} cannot be shown; expected a Recipe or a Search")


def _power(value: Search) -> list[Table]:
    """How small a difference the questions can show; nothing where their data is not here."""
    found = detectable(value)
    return [("power", ("what", "found four times in five"), [list(row) for row in found.items()])] if found else []


def _last(recipe: Recipe) -> Stage | None:
    """The stage whose mean sample prices the parts."""
    mixed = [stage for stage in recipe.stages if stage.scope == "mixture"] or list(recipe.stages)
    return mixed[-1] if mixed else None


def _assumed(recipe: Recipe) -> str:
    """Why the lengths of samples are not known but assumed; empty where they are read off the data."""
    stage = _last(recipe)
    return "the recipe has no stage" if stage is None else unread(stage, recipe.model)


def _tokens(recipe: Recipe) -> SampleTokens:
    """The mean sample of the last mixture, or an assumed one."""
    stage = _last(recipe)
    return assumed_tokens(recipe.model) if stage is None else mean_tokens(stage, recipe.model)


def _parts(recipe: Recipe) -> Table:
    """Part by part: grid out, parameters, operations for the mean image of the last mixture and its dialogue."""
    model, tokens = recipe.model, _tokens(recipe)
    share = 1 / tokens.pictures if tokens.pictures else 1.0
    views, visual = (tokens.views * share, tokens.visual * share) if tokens.views else (1.0, model.tokens_per_view)
    costs = cost_by_part(
        model,
        text_tokens=round(tokens.text),
        views=views,
        head_tokens=round(tokens.supervised),
        visual_tokens=round(visual),
        pictures=1,
    )
    grids = {f"encoders.{name}": str(grid) for name, grid in model.grids().items()}
    if model.encoders:
        grids |= {"fusion": str(model.fused_grid()), "projector": str(model.visual_grid())}
    grids["language"] = f"{round(tokens.text) + round(visual)} tokens ({round(visual)} visual)"
    total_p, total_f = sum(c.parameters for c in costs.values()), sum(c.flops for c in costs.values())
    unit, scale = ("GFLOP", 1e9) if total_f > _MANY else ("MFLOP", 1e6)
    rows = [[name, grids.get(name, ""), f"{c.parameters:,}", f"{c.flops / scale:,.1f}"] for name, c in costs.items()]
    rows.append(["total", "", f"{total_p:,}", f"{total_f / scale:,.1f}"])
    return "parts", ("part", "gives", "parameters", f"{unit} an image"), rows


def _pictures(recipe: Recipe) -> list[Table]:
    """Image size by image size: views, visual tokens and marks, where the tiling lets them depend on it."""
    model = recipe.model
    if not model.encoders or isinstance(model.tiling, Whole):
        return []
    rows = []
    for height, width in PICTURE_SIZES:
        marks = [piece.text for piece in model.token_layout(height, width) if isinstance(piece, Mark)]
        views = len(model.tiling.views(height, width))
        rows.append([f"{width}x{height}", views, model.visual_tokens(height, width), " ".join(map(repr, marks))])
    return [("pictures", ("width x height", "views", "visual tokens", "marks"), rows)]


def _memory(recipe: Recipe) -> Table:
    """Gigabytes (10^9) of the weights in 16 bits, and of every stage's weights, gradients and optimiser."""
    weights = sum(parameters(recipe.model).values())
    rows = [["weights in bf16", "", f"{weights:,}", _gigabytes(2 * weights)]]
    for stage in recipe.stages:
        one = held(recipe, stage)
        size = _gigabytes(one.bytes(stage.precision))
        rows.append([f"train {stage.name}", f"{one.trained:,}", f"{one.frozen:,}", size])
    return "memory", ("what", "trained parameters", "frozen parameters", "GB"), rows


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.3f}" if count < 1e9 else f"{count / 1e9:,.1f}"


def _stages(recipe: Recipe) -> Table:
    rows = []
    for stage in recipe.stages:
        train = ", ".join(f"{pattern} {rate:g}" for pattern, rate in stage.train.items())
        records, steps = _lengths(stage)
        row = [stage.name, stage.scope, train, records, steps, stage.batch, stage.schedule, stage.precision]
        rows.append([*row, _otherwise(stage)])
    columns = ("stage", "shared by", "trains (rate)", "records", "steps", "batch", "schedule", "precision", "reads by")
    told = len(columns) - (not any(row[-1] for row in rows))
    return "stages", columns[:told], [row[:told] for row in rows]


def _otherwise(stage: Stage) -> str:
    """How a stage reads that does not read as the model does."""
    words = [] if stage.chat is None else [f"chat {stage.chat.name}"]
    words += [] if stage.tiling is None else [_cut(stage.tiling)]
    sizes = {name: encoder.preprocess().size for name, encoder in (stage.encoders or {}).items()}
    return ", ".join([*words, *(f"{name} at {rows}x{columns} px" for name, (rows, columns) in sizes.items())])


def _cut(tiling: TilingConfig) -> str:
    views = len(tiling.views(*tiling.largest()))
    return f"{tiling}, {views} {'view' if views == 1 else 'views'} at most"


def _lengths(stage: Stage) -> tuple[int | str, int | str]:
    """Records and steps of a stage; what was published of them where the data is not here."""
    if not absent(stage):
        size = stage.data.open().size
        return size, stage.total_steps(size)
    known = published_records(stage)
    records = "?" if known is None else f"? (~{known:,})"
    if stage.steps is not None:
        return records, stage.steps
    return records, "?" if known is None else f"? (~{stage.total_steps(known):,})"


def _notes(recipe: Recipe) -> list[Table]:
    """What the numbers above rest on, where it is not what will be read."""
    lines = []
    if why := _assumed(recipe):
        height, width = recipe.model.tiling.largest()
        size = f" of {width}x{height} px" if height * width > 1 else ""  # otherwise all sizes bring as much
        text = f"{ASSUMED_TEXT} tokens of text, {ASSUMED_SUPERVISED} of them supervised"
        lines.append(f"assumed: a sample of one image{size} and {text}, marks not counted; {why}")
    if any(absent(stage) for stage in recipe.stages):
        lines.append("records: ? where the data is not here; (~N) is what was published")
    lines.append(
        f"memory: {TRAINED} bytes a trained parameter, {FROZEN['bf16']} a frozen one (fp32: {FROZEN['fp32']}); "
        "activations are not counted"
    )
    return [("notes", ("note",), [[line] for line in lines])]


def _designs(recipes: tuple[Recipe, ...]) -> Table:
    rows = []
    for recipe in recipes:
        costs = largest_cost(recipe.model, text_tokens=0, head_tokens=0)
        rows.append(
            [
                recipe.label(),
                recipe.model.most_visual_tokens,
                f"{sum(c.parameters for c in costs.values()) / 1e6:.1f}",
                f"{sum(c.flops for c in costs.values()) / 1e9:.3f}",
                recipe.seed,
            ]
        )
    return "designs", ("design", "visual tokens", "M parameters", "GFLOP an image", "seed"), rows


def _priced(recipes: Sequence[Recipe], machine: Machine | None) -> tuple[list[Table], dict[str, Any]]:
    """Prices and their sum on a machine; nothing where none is named."""
    if machine is None:
        return [], {}
    tables, told = price_tables(recipes, machine)
    return [*tables, ("price in all", ("what", "value"), [[name, str(one)] for name, one in told.items()])], told


def describe_plan(
    value: Config, store: Store, machine: Machine | None = None
) -> tuple[list[Table], dict[str, Any], list[str]]:
    """The nodes in order with their prices; the totals; and designs refused by name.

    Of designs whose data or tokenizer is not here, the trainings alone: what was published says how many samples.
    """
    if isinstance(value, Search):
        recipes, refused = value.strategy.horizon(), value.strategy.refused()
    elif isinstance(value, Recipe):
        recipes, refused = (value,), []
    else:
        raise ConfigError(f"a {type(value).__name__} cannot be planned; expected a Recipe or a Search")
    missing = any(unread(stage, recipe.model) for recipe in recipes for stage in recipe.stages)
    rows, summary = _expected(recipes, store) if missing else _nodes(recipes, store)
    at_once = min(value.jobs, cores()) if isinstance(value, Search) else 1
    if at_once > 1 and "estimated seconds to do" in summary:
        summary["nodes at once"] = at_once
        summary["estimated seconds to do"] = round(summary["estimated seconds to do"] / at_once)
    if isinstance(value, Search) and len(value.strategy.first()) < len(recipes):
        summary["note"] = "an upper bound: the search may stop earlier"
    columns = ("node", "kind", "what", "samples", "tokens", "M parameters", "GFLOP", "MiB kept", "est. s", "state")
    tables, _ = _priced(recipes, machine)
    summary |= {} if missing else detectable(value)
    return [("plan", columns, rows), *tables], summary, refused


def _expected(recipes: Sequence[Recipe], store: Store) -> tuple[list[list[Any]], dict[str, Any]]:
    """The trainings of designs that cannot be read yet, each once, and their sum."""
    prices = [price for recipe in recipes for price in stage_prices(recipe)]
    shared = {price.key: price for price in prices}
    rate = seconds_per_flop(store, "training")
    rows = []
    for price in shared.values():
        samples = price.samples
        rows.append(
            [
                "-",
                "training",
                f"{price.name}: {' + '.join(price.model.encoders) or 'language model'}",
                "?" if samples is None else f"{samples:,}",
                "?" if samples is None else f"{samples * price.tokens.length:,.0f}",
                f"{(price.held.trained + price.held.frozen) / 1e6:.1f}",
                "?" if samples is None else f"{samples * price.flops / 1e9:,.0f}",
                "-",
                "?" if samples is None else f"{samples * price.flops * rate:.1f}",
                "assumed" if price.assumed else "to do",
            ]
        )
    total, alone = (sum((p.samples or 0) * p.flops for p in some) for some in (shared.values(), prices))
    summary = {
        "designs": len({recipe.design() for recipe in recipes}),
        "trials": len(recipes),
        "trainings": len(shared),
        "GFLOP": round(total / 1e9),
        "GFLOP without sharing": round(alone / 1e9),
        "sharing saves": f"{alone / max(total, 1.0):.1f}x",
        "assumed": f"{next(p.assumed for p in shared.values() if p.assumed)}: samples as published, of one image and "
        f"{ASSUMED_TEXT} tokens of text; evaluation and stored features not priced",
    }
    if unknown := sum(price.samples is None for price in shared.values()):
        summary["not counted"] = f"{unknown} trainings of data whose size nobody published"
    return rows, summary


def _nodes(recipes: Sequence[Recipe], store: Store) -> tuple[list[list[Any]], dict[str, Any]]:
    """Every node of a plan, and their sum."""
    plan = Plan.of(recipes)
    rates: dict[str, float] = {}
    rows, to_do = [], 0.0
    for key, job in plan.jobs.items():
        price = job.price()
        rate = rates.setdefault(job.kind, seconds_per_flop(store, job.kind))
        seconds = price.flops * rate
        state = _state(store, job.kind, key)
        done = state == "done"
        to_do += 0.0 if done else seconds
        rows.append(
            [
                key[:10],
                job.kind,
                job.label,
                f"{price.samples:,}",
                f"{price.tokens:,}",
                f"{price.parameters / 1e6:.1f}",
                f"{price.flops / 1e9:,.0f}",
                f"{price.bytes / 2**20:,.1f}",
                f"{seconds:.1f}",
                state,
            ]
        )
    total, unshared = plan.price(), plan.unshared_price()
    summary: dict[str, Any] = {
        "designs": len({recipe.design() for recipe in recipes}),
        "trials": len(recipes),
        "nodes": len(plan.jobs),
        "GFLOP": round(total.flops / 1e9),
        "GFLOP without sharing": round(unshared.flops / 1e9),
        "sharing saves": f"{unshared.flops / max(total.flops, 1.0):.1f}x",
        "MiB kept": round(total.bytes / 2**20),
        "estimated seconds to do": round(to_do),
    }
    return rows, summary


def _state(store: Store, kind: str, key: str) -> str:
    """Of one node, at the cost of a ``stat`` a file."""
    if not store.exists(kind, key):
        return "to do"
    if (problem := store.damage(kind, key)) is None:
        return "done"
    console().warn(f"{store.folder(kind, key)}: {problem}; left as it is, a run makes it again")
    return "damaged"
