"""What is wrong with a plan as its command line names it: paths that are not there, and all that a run would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ommatidia.core.errors import ConfigError, nearest
from ommatidia.lab.nodes.job import Finding
from ommatidia.lab.nodes.requirements import device_faults
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.lengths import absent, unread
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.followup import removal_findings
from ommatidia.lab.run.plan import Plan
from ommatidia.lab.run.preflight import Preflight, check_inputs, check_jobs
from ommatidia.lab.search import Search
from ommatidia.lab.search.load import read_preset
from ommatidia.lab.search.search import start_plan


def plan_problems(value: Recipe | Search, reference: str, store: Store) -> Preflight:
    """What a run of the value would refuse before its first step. Image headers are read, pixels are not.

    Data that is not here is assumed where the recipe named by ``reference`` asks for it by itself; a path that somebody
    gave, in a file, an argument or a change, must be there. Raises what makes it impossible to plan at all.
    """
    recipes = value.strategy.first() if isinstance(value, Search) else (value,)
    given = _absent(recipes) - _absent(_designs(read_preset(reference)))
    found = Preflight()
    found.add(Finding.of(ConfigError(_missing(path))) for path in sorted(given))
    if given or any(unread(stage, recipe.model) for recipe in recipes for stage in recipe.stages):
        found.add(Finding.of(fault) for recipe in recipes for fault in device_faults(recipe.device))
        return found
    inputs = check_inputs(recipes)
    if isinstance(value, Search):
        inputs.add(removal_findings(value.strategy.horizon(), value.analyses))
    inputs.finish()
    plan = start_plan(value) if isinstance(value, Search) else Plan.of(recipes)
    for trial in plan.trials:
        plan.add(trial.checkpoint)
    return check_jobs([job for job in plan.jobs.values() if not store.has(job.kind, job.key)], store, pixels=False)


def _designs(preset: Recipe | Search | None) -> Sequence[Recipe]:
    if preset is None:
        return ()
    return preset.strategy.first() if isinstance(preset, Search) else (preset,)


def _absent(recipes: Sequence[Recipe]) -> set[str]:
    return {path for recipe in recipes for stage in recipe.stages for path in absent(stage)}


def _missing(path: str) -> str:
    """That nothing is at a path: from which folder on, and the nearest name there."""
    place = Path(path)
    while not place.parent.is_dir():
        place = place.parent
    near = nearest(place.name, [entry.name for entry in place.parent.iterdir()])
    where = "" if place == Path(path) else f", nor {place}"
    return f"{path}: no such file{where}" + (f"; did you mean {str(place.parent / near)!r}?" if near else "")
