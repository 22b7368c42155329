"""A recipe, a search and a plan in tables: what ``show`` and ``plan`` print. Nothing here needs weights.

Where the data or the tokenizer of a recipe are not on this machine, ``show`` assumes a sample, and a note says so.
"""

from __future__ import annotations

from typing import Any

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.lab.cost import SampleTokens, largest_cost, sample_tokens
from ommatidia.lab.listing import PICTURE_SIZES, Table
from ommatidia.lab.memory import FROZEN, TRAINED, held, parameters
from ommatidia.lab.plan import Plan, seconds_per_flop
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Search
from ommatidia.lab.store import Store
from ommatidia.models.vision.tiling import Mark, Whole
from ommatidia.train.stage import Stage

ASSUMED_TEXT = 256
ASSUMED_SUPERVISED = 64
"""Tokens of text of a sample, and those of them that are supervised, where no data says it."""

_MANY = 1e11
"""Operations from which on they are told in GFLOP."""


def describe(value: Config) -> list[Table]:
    """Tables of a recipe; of a search, those of the designs it starts with."""
    if isinstance(value, Recipe):
        return [_parts(value), *_pictures(value), _memory(value), _stages(value), *_notes(value)]
    if isinstance(value, Search):
        first = value.strategy.first()
        return [_designs(first), _stages(max(first, key=lambda recipe: len(recipe.stages)))]
    raise ConfigError(f"a {type(value).__name__} cannot be shown; expected a Recipe or a Search")


def _absent(stage: Stage) -> list[str]:
    """What the stage's sources read and what is not here."""
    found = (weighted.source.absent() for weighted in stage.data.used().values())
    return [path for path in found if path is not None]


def _last(recipe: Recipe) -> Stage | None:
    """The stage whose mean sample prices the parts."""
    mixed = [stage for stage in recipe.stages if stage.scope == "mixture"] or list(recipe.stages)
    return mixed[-1] if mixed else None


def _assumed(recipe: Recipe) -> str:
    """Why the lengths of samples are not known but assumed; empty where they are read off the data."""
    stage, language = _last(recipe), recipe.model.language
    if stage is not None and (paths := _absent(stage)):
        return f"no data at {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    if stage is None:
        return "the recipe has no stage"
    return "" if language.has_tokenizer() else f"no tokenizer of {language.to_dict().get('path')} on disk"


def _tokens(recipe: Recipe) -> SampleTokens:
    """The mean sample of the last mixture, or an assumed one."""
    model, stage = recipe.model, _last(recipe)
    if stage is not None and not _assumed(recipe):
        return sample_tokens(stage.data, model)
    views, visual = (len(model.tiling.views(*model.tiling.largest())), model.most_visual_tokens)
    seen = (views, visual) if model.encoders else (0, 0)
    return SampleTokens(ASSUMED_TEXT, ASSUMED_SUPERVISED, 1, *seen, 0)


def _parts(recipe: Recipe) -> Table:
    """Part by part: grid out, parameters, operations for the mean picture of the last mixture and its dialogue."""
    model, tokens = recipe.model, _tokens(recipe)
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
    total_p, total_f = sum(c.parameters for c in costs.values()), sum(c.flops for c in costs.values())
    unit, scale = ("GFLOP", 1e9) if total_f > _MANY else ("MFLOP", 1e6)
    rows = [[name, grids.get(name, ""), f"{c.parameters:,}", f"{c.flops / scale:,.1f}"] for name, c in costs.items()]
    rows.append(["total", "", f"{total_p:,}", f"{total_f / scale:,.1f}"])
    return "parts", ("part", "gives", "parameters", f"{unit} a picture"), rows


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
        rows.append([stage.name, stage.scope, train, records, steps, stage.batch, stage.schedule, stage.precision])
    return "stages", ("stage", "shared by", "trains (rate)", "records", "steps", "batch", "schedule", "precision"), rows


def _lengths(stage: Stage) -> tuple[int | str, int | str]:
    """Records and steps of a stage; what was published of them where the data is not here."""
    if not _absent(stage):
        size = stage.data.open().size
        return size, stage.total_steps(size)
    sizes = {name: weighted.source.published_size() for name, weighted in stage.data.used().items()}
    published = {name: size for name, size in sizes.items() if size is not None}
    known = stage.data.divide(published).epoch if len(published) == len(sizes) else None
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
        lines.append(f"assumed: a sample of one picture{size} and {text}, marks not counted; {why}")
    if any(_absent(stage) for stage in recipe.stages):
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
