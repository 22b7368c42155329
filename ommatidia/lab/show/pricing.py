"""What training costs on named hardware: operations, memory on each accelerator, hours, and what to change to fit.

Needs no data, tokenizer or weights: what is not here is assumed as ``show`` assumes it, and marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ommatidia.core.command_result import Table
from ommatidia.core.config import digest
from ommatidia.core.grid import Cost
from ommatidia.lab.price.cost import SampleTokens, sample_cost, training_price, trains
from ommatidia.lab.price.gpu_memory import RESERVE, GpuMemory, changes, gpu_memory, recomputed, smaller
from ommatidia.lab.price.hardware import Machine
from ommatidia.lab.price.lengths import known_steps, mean_tokens, unread
from ommatidia.lab.price.memory import Held, held
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.plan import alone, blind
from ommatidia.models.config import MLLMConfig
from ommatidia.train.stage import Stage


@dataclass(frozen=True, slots=True)
class StagePrice:
    """One training of one stage."""

    key: str
    """Equal for trainings that designs share."""
    name: str
    """The stage, and the expert where it trains each by itself."""
    model: MLLMConfig
    stage: Stage
    held: Held
    samples: int | None
    """None: nobody says how many there are."""
    tokens: SampleTokens
    costs: Mapping[str, Cost]
    """By part, of one forward pass over one sample."""
    flops: float
    """Of one sample, forward and backward, and what of it is computed again on the way back."""
    assumed: str
    """Why lengths are assumed; empty where they were read."""

    def seconds(self, machine: Machine) -> float | None:
        return None if self.samples is None else self.samples * self.flops / machine.speed

    def memory(self, world: int, *, stage: Stage | None = None) -> GpuMemory:
        """On each accelerator, by the stage or by a changed one."""
        return gpu_memory(self.model, stage or self.stage, self.held, self.tokens, self.costs, world=world)

    def least(self, world: int) -> float:
        """Bytes on each accelerator with one sample a pass, and all that changes no result beyond rounding."""
        _, changed = changes(self.stage, world, frozen=False, exact=True)[-1]
        return self.memory(world, stage=smaller(changed, world)[-1]).total

    def fits(self, machine: Machine) -> str:
        """``yes``, or the gentlest change with which it does; for more ranks no change of the result."""
        room = (1 - RESERVE) * machine.hardware.memory
        for world in (machine.world, *(2**n for n in range(1, 13) if 2**n > machine.world)):
            for words, changed in changes(self.stage, world, frozen=self.held.frozen > 0, exact=world != machine.world):
                for small in smaller(changed, world):
                    if self.memory(world, stage=small).total > room:
                        continue
                    if (small, world) == (self.stage, machine.world):
                        return "yes"
                    micro = f"micro_batch {small.micro_batch}" if small.micro_batch != self.stage.micro_batch else ""
                    return "with " + ", ".join(part for part in (words, micro) if part)
        return "no"


def stage_prices(recipe: Recipe) -> list[StagePrice]:
    """Of every training a recipe asks for: an expert stage has one for each encoder."""
    return [_price(recipe, stage, name, model) for stage in recipe.stages for name, model in _models(recipe, stage)]


def _models(recipe: Recipe, stage: Stage) -> list[tuple[str, MLLMConfig]]:
    """The models that a stage trains, and what to call each training."""
    model = stage.model_for_stage(recipe.model)
    if stage.scope == "language":
        return [(stage.name, blind(model))]
    if stage.scope == "expert":
        return [(f"{stage.name}: {name}", alone(model, name)) for name in model.encoders]
    return [(stage.name, model)]


def _price(recipe: Recipe, stage: Stage, name: str, model: MLLMConfig) -> StagePrice:
    tokens = mean_tokens(stage, model).cut(stage.longest)
    one = training_price(model, stage, frozenset(), tokens, 1)
    costs = sample_cost(model, tokens)
    backward = [part for part in costs if trains(stage, part) or part == "language"]
    again = sum(costs[part].flops for part in backward if recomputed(stage.engine, part) == "full")
    steps = known_steps(stage)
    before = [] if stage.scope == "language" else [one.hashed() for one in recipe.stages[: recipe.stages.index(stage)]]
    return StagePrice(
        key=digest([stage.hashed(), before, stage.seed_or(recipe.seed), model.hashed()]),
        name=name,
        model=model,
        stage=stage,
        held=held(recipe.model_copy(update={"model": model}), stage),
        samples=None if steps is None else steps * stage.batch,
        tokens=tokens,
        costs=costs,
        flops=one.flops + again,
        assumed=unread(stage, model),
    )


def price_tables(recipes: Iterable[Recipe], machine: Machine) -> tuple[list[Table], dict[str, object]]:
    """Stage by stage for one recipe, design by design for several; and the totals, shared trainings counted once."""
    designs = [(recipe, stage_prices(recipe)) for recipe in recipes]
    shared = {price.key: price for _, prices in designs for price in prices}
    seconds = [price.seconds(machine) for price in shared.values()]
    hours = sum(one for one in seconds if one is not None) / 3600
    unknown = sum(one is None for one in seconds)
    told: dict[str, object] = {
        "hardware": f"{machine.world} x {machine.hardware.title}, at {machine.mfu:.0%} of its peak",
        "hours": _number(hours),
        "GPU-hours": _number(hours * machine.world),
    }
    if unknown:
        told["not counted"] = f"{unknown} trainings of data whose size nobody published"
    if why := next((price.assumed for price in shared.values() if price.assumed), ""):
        told["assumed"] = f"lengths of samples ({why})"
    table = _by_stage(designs[0][1], machine) if len(designs) == 1 else _by_design(designs, machine)
    return [table], told


def _by_stage(prices: list[StagePrice], machine: Machine) -> Table:
    columns = (
        "stage", "samples", "tokens", "TFLOP a sample", "weights", "gradients", "optimizer", "copies", "activations",
        "logits", "GB a GPU", "fits", "hours", "GPU-hours",
    )  # fmt: skip
    rows = []
    for price in prices:
        memory, seconds = price.memory(machine.world), price.seconds(machine)
        kinds = (memory.weights, memory.gradients, memory.optimizer, memory.copies, memory.activations, memory.logits)
        hours = None if seconds is None else seconds / 3600
        rows.append(
            [
                price.name,
                "?" if price.samples is None else f"{price.samples:,}",
                f"{price.tokens.length:,.0f}" + ("~" if price.assumed else ""),
                _number(price.flops / 1e12),
                *(_number(one / 1e9) for one in kinds),
                _number(memory.total / 1e9),
                price.fits(machine),
                "?" if hours is None else _number(hours),
                "?" if hours is None else _number(hours * machine.world),
            ]
        )
    return "price", columns, rows


def _by_design(designs: list[tuple[Recipe, list[StagePrice]]], machine: Machine) -> Table:
    rows = []
    for recipe, prices in designs:
        seconds = [price.seconds(machine) for price in prices]
        hours = sum(one for one in seconds if one is not None) / 3600
        most = max(prices, key=lambda price: price.least(machine.world), default=None)
        rows.append(
            [
                recipe.name,
                recipe.model.most_visual_tokens if recipe.model.encoders else 0,
                "" if most is None else _number(most.memory(machine.world).total / 1e9),
                "" if most is None else most.fits(machine),
                ("at least " if None in seconds else "") + _number(hours),
                _number(hours * machine.world),
            ]
        )
    return "price", ("design", "visual tokens", "GB a GPU", "fits", "hours", "GPU-hours"), rows


def _number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
