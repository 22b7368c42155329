"""Greedy rounds with real training at a tiny size: how often an idle encoder is kept, and how often the real one is.

python -m benchmarks.round_robin [--repetitions 30]

Each repetition has its own language model, its own seeds, and six idle encoders and a real one in random order. The
base sees the mean colour of an image, and so do the idle ones; the real one sees 8 x 8 pixels of it. Asked is the
colour of the shape in 200 images of easy-VQA's test split. What an idle encoder adds on average is told by the
exploring runs of all repetitions. Prints JSON; a line for each repetition goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ommatidia.core.console import Console, use
from ommatidia.core.errors import RunError
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan
from ommatidia.lab.run.recorder import record_trial
from ommatidia.lab.run.trial import Trial, collect
from ommatidia.lab.search import RoundRobin, Search
from ommatidia.lab.search.decisions import noise_of

BASE, REAL = "base", "real"
STEPS, BATCH, QUESTIONS = 100, 16, 240
FRESH, CONTENDERS = 1, 2


def patches(side: int, dim: int = 16) -> dict[str, Any]:
    """An encoder of the raw pixels of the image at ``side`` x ``side``, in one place."""
    return {"kind": "patches", "image_size": side, "patch": side, "neck": {"kind": "linear", "dim": dim}}


POOL = {f"idle{dim}": patches(1, dim) for dim in (4, 8, 12, 16, 24, 32)} | {REAL: patches(8)}
"""Six encoders that see what the base sees, the mean colour of the image, and one that sees 8 x 8 pixels."""


def recipe(repetition: int) -> Recipe:
    """A language model trained on text alone, then tuned with what it sees, to name the colour of a shape."""
    text = {"kind": "described_scenes", "tasks": ["easy_vqa"], "pictures": 400, "per_picture": 4}
    seen = {"kind": "easy_vqa", "per_picture": 1, "asks": ["colour"]}
    rates = {"encoders.*:neck": 8e-3, "projector": 8e-3, "language": 4e-3}
    test = {**seen, "split": "test", "pictures": QUESTIONS}
    return Recipe.parse(
        {
            "name": "round_robin",
            "model": {
                "encoders": {BASE: patches(1)},
                "fusion": {"kind": "channel_concat", "grid": [1, 1], "resample": "unshuffle"},
                "projector": "linear",
                "language": {"kind": "scratch", "width": 32, "layers": 1, "heads": 2, "context": 128},
                "chat": "compact",
            },
            "stages": [
                {"name": "language", "scope": "language", "train": {"language": 3e-3}, "steps": 60, "batch": BATCH}
                | {"data": {"sources": {"text": {"source": text}}}, "seed": repetition},
                {"name": "tune", "train": rates, "data": {"sources": {"seen": {"source": {**seen, "pictures": 400}}}}}
                | {"steps": STEPS, "batch": BATCH, "warmup": 0.1},
            ],
            "benchmarks": [
                {"kind": "source", "name": "colours", "group": "general", "scorer": {"kind": "exact"}}
                | {"max_new_tokens": 3, "source": test}
            ],
            "modes": ["full"],
            "eval_batch": 240,
            "threads": 1,
        }
    )


def search(repetition: int) -> Search:
    """One round on top of the base."""
    order = np.random.default_rng(repetition).permutation(list(POOL)).tolist()
    pool = {BASE: patches(1), **{name: POOL[name] for name in order}}
    first = 10 * (repetition + 1)
    strategy = {
        "kind": "round_robin", "recipe": recipe(repetition).to_dict(), "pool": pool, "start": [BASE], "blind": False,
        "max_experts": 2, "contenders": CONTENDERS, "finalists": 1, "seeds": [first + n for n in range(1 + FRESH)],
    }  # fmt: skip
    return Search.parse({"name": f"round{repetition}", "strategy": strategy})


def carry_out(repetition: int, store: Store) -> dict[str, Any]:
    """One repetition: what was kept, and each addition's gain over the base with the exploring seed."""
    made = search(repetition)
    strategy = made.strategy
    assert isinstance(strategy, RoundRobin)
    trials = list[Trial]()
    while True:  # as a search does, but for the finalists' seeds, which decide nothing
        path, waiting = strategy.rounds(trials)
        if not waiting:
            break
        plan = Plan.of(waiting)
        execute(plan, store)
        trials += [collect(record_trial(one), store) for one in plan.trials]
    if failed := [trial.error for trial in trials if trial.error]:
        raise RunError(f"repetition {repetition}: {failed[0]}")
    first = path[0]
    base = next(trial for trial in trials if tuple(trial.recipe.model.encoders) == (BASE,))
    return {
        "kept": first.kept,
        "decision": first.decision,
        "p": round(first.looks[-1].addition.p_value, 4),
        "base": base.average,
        "gains": {one.expert: round(one.trial.average - base.average, 4) for one in first.tried},
        "deviation": round(noise_of([t for t in trials if _runs(t, trials) > 1]).deviation, 4),
        "runs": len(trials),
    }


def _runs(trial: Trial, trials: list[Trial]) -> int:
    return sum(one.design == trial.design for one in trials)


def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All repetitions together."""
    names = [name for name in POOL if name != REAL]
    idle = np.array([[row["gains"][name] for name in names] for row in rows])
    real = np.array([row["gains"][REAL] for row in rows])
    return {
        "repetitions": len(rows),
        "kept_idle": sum(row["kept"] in names for row in rows),
        "kept_real": sum(row["kept"] == REAL for row in rows),
        "picked_with_one_seed_idle": sum(max(row["gains"], key=row["gains"].__getitem__) in names for row in rows),
        "gain_idle": _mean(idle.mean(1)),
        "gain_real": _mean(real),
        "deviation": round(float(np.sqrt(np.mean([row["deviation"] ** 2 for row in rows]))), 4),
        "base": _mean(np.array([row["base"] for row in rows])),
        "runs": sum(row["runs"] for row in rows),
    }


def _mean(values: np.ndarray) -> list[float]:
    """With its standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return [round(float(values.mean()), 4), round(float(error), 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=30)
    asked = parser.parse_args()
    rows = []
    began = time.process_time()
    for repetition in range(asked.repetitions):
        with tempfile.TemporaryDirectory() as place, use(Console(quiet=True)):
            rows.append(carry_out(repetition, Store(Path(place))))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    found = {**told(rows), "seconds_of_processor": round(time.process_time() - began), "rounds": rows}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
