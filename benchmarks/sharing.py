"""Operations of the whole quickstart search with and without sharing, from the plan alone. Prints JSON.

python -m benchmarks.sharing [--search ommatidia.recipes.quickstart:search]

shared: every node once, as the search does it. apart: every trial by itself, which still stores its own frozen
features. naive: every trial by itself with nothing stored, each image encoded whenever it is read, as training
scripts do.
All three are of ``strategy.horizon()``, the search that never stops early.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable

from ommatidia.lab.nodes.job import Job
from ommatidia.lab.recipe import read
from ommatidia.lab.run.plan import Plan, plan_trial
from ommatidia.lab.search import Search

TARGET = 3.0


def by_kind(jobs: Iterable[Job]) -> Counter[str]:
    """GFLOP by kind of node."""
    total: Counter[str] = Counter()
    for job in jobs:
        total[job.kind] += job.price().flops / 1e9  # type: ignore[assignment]
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", default="ommatidia.recipes.quickstart:search")
    given = parser.parse_args()
    recipes = read(given.search, Search).strategy.horizon()
    plan = Plan.of(recipes)
    alone = [plan_trial(recipe.model_copy(update={"features": "never"})) for recipe in recipes]
    ways = {
        "shared": by_kind(plan.jobs.values()),
        "apart": by_kind(job for trial in plan.trials for job in trial.jobs()),
        "naive": by_kind(job for trial in alone for job in trial.jobs()),
    }
    totals = {way: sum(kinds.values()) for way, kinds in ways.items()}
    result = {
        "ratio": round(totals["naive"] / totals["shared"], 2),
        "ratio_apart": round(totals["apart"] / totals["shared"], 2),
        "target": TARGET,
        "gflop": {way: round(total) for way, total in totals.items()},
        "gflop_by_kind": {way: {k: round(v, 1) for k, v in kinds.items() if v} for way, kinds in ways.items()},
        "nodes": {"shared": len(plan.jobs), "apart": sum(len(trial.jobs()) for trial in plan.trials)},
        "trials": len(recipes),
        "designs": len({recipe.design() for recipe in recipes}),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
