"""A recipe, a search and a plan in tables: what ``show`` and ``plan`` print. Nothing here needs weights."""

from __future__ import annotations

from typing import Any

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.lab.cost import largest_cost, sample_tokens
from ommatidia.lab.listing import PICTURE_SIZES, Table
from ommatidia.lab.plan import Plan, seconds_per_flop
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Search
from ommatidia.lab.store import Store
from ommatidia.models.vision.tiling import Mark, Whole


def describe(value: Config) -> list[Table]:
    """Tables of a recipe; of a search, those of the designs it starts with."""
    if isinstance(value, Recipe):
        return [_parts(value), *_pictures(value), _stages(value)]
    if isinstance(value, Search):
        first = value.strategy.first()
        return [_designs(first), _stages(max(first, key=lambda recipe: len(recipe.stages)))]
    raise ConfigError(f"a {type(value).__name__} cannot be shown; expected a Recipe or a Search")


def _parts(recipe: Recipe) -> Table:
    """Part by part: grid out, parameters, operations for the mean picture of the last mixture and its dialogue."""
    model = recipe.model
    mixed = [s for s in recipe.stages if s.scope == "mixture"] or list(recipe.stages)
    tokens = sample_tokens(mixed[-1].data, model)
    share = 1 / tokens.pictures if tokens.pictures else 1.0
    views, visual = (tokens.views * share, tokens.visual * share) if tokens.views else (1.0, model.tokens_per_view)
    costs = model.cost(
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
    rows = [[name, grids.get(name, ""), f"{c.parameters:,}", f"{c.flops / 1e6:,.1f}"] for name, c in costs.items()]
    total_p, total_f = sum(c.parameters for c in costs.values()), sum(c.flops for c in costs.values())
    rows.append(["total", "", f"{total_p:,}", f"{total_f / 1e6:,.1f}"])
    return "parts", ("part", "gives", "parameters", "MFLOP a picture"), rows


def _pictures(recipe: Recipe) -> list[Table]:
    """Picture size by picture size: views, visual tokens and marks, where the tiling lets them depend on it."""
    model = recipe.model
    if not model.encoders or isinstance(model.tiling, Whole):
        return []
    rows = []
    for height, width in PICTURE_SIZES:
        marks = [piece.text for piece in model.script(height, width) if isinstance(piece, Mark)]
        views = len(model.tiling.views(height, width))
        rows.append([f"{width}x{height}", views, model.visual_tokens(height, width), " ".join(map(repr, marks))])
    return [("pictures", ("width x height", "views", "visual tokens", "marks"), rows)]


def _stages(recipe: Recipe) -> Table:
    rows = []
    for stage in recipe.stages:
        mixture = stage.data.open()
        steps = stage.total_steps(mixture.size)
        train = ", ".join(f"{pattern} {rate:g}" for pattern, rate in stage.train.items())
        rows.append([stage.name, stage.scope, train, mixture.size, steps, stage.batch, stage.schedule, stage.precision])
    return "stages", ("stage", "shared by", "trains (rate)", "records", "steps", "batch", "schedule", "precision"), rows


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
    return "designs", ("design", "visual tokens", "M parameters", "GFLOP a picture", "seed"), rows


def describe_plan(value: Config, store: Store) -> tuple[list[Table], dict[str, Any], list[str]]:
    """The nodes in order with their prices; the totals; and designs refused by name."""
    if isinstance(value, Search):
        recipes, refused = value.strategy.horizon(), value.strategy.refused()
    elif isinstance(value, Recipe):
        recipes, refused = (value,), []
    else:
        raise ConfigError(f"a {type(value).__name__} cannot be planned; expected a Recipe or a Search")
    plan = Plan.of(recipes)
    rates: dict[str, float] = {}
    rows, to_do = [], 0.0
    for key, job in plan.jobs.items():
        price = job.price()
        rate = rates.setdefault(job.kind, seconds_per_flop(store, job.kind))
        seconds = price.flops * rate
        done = store.has(job.kind, key)
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
                "done" if done else "to do",
            ]
        )
    total, unshared = plan.price(), plan.unshared_price()
    summary = {
        "designs": len({recipe.design() for recipe in recipes}),
        "trials": len(recipes),
        "nodes": len(plan.jobs),
        "GFLOP": round(total.flops / 1e9),
        "GFLOP without sharing": round(unshared.flops / 1e9),
        "sharing saves": f"{unshared.flops / max(total.flops, 1.0):.1f}x",
        "MiB kept": round(total.bytes / 2**20),
        "estimated seconds to do": round(to_do),
    }
    if isinstance(value, Search) and len(value.strategy.first()) < len(recipes):
        summary["note"] = "an upper bound: the search may stop earlier"
    columns = ("node", "kind", "what", "samples", "tokens", "M parameters", "GFLOP", "MiB kept", "est. s", "state")
    return [("plan", columns, rows)], summary, refused
