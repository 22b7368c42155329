"""A search of a few seconds with every kind of node the quickstart has: what the small measurements run.

python -m benchmarks.tiny_search FILE     writes it as YAML, for omma search FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from ommatidia.lab.search import Search
from ommatidia.recipes.quickstart import design, pool

STEPS, PICTURES = 3, 12
TASKS = ("digits", "places")
EXPERTS = ("lite0", "lite0_64")


def tiny() -> Search:
    """The quickstart with two experts, two tasks, three steps a stage and a dozen images a source."""
    recipe = design().to_dict()
    for stage in recipe["stages"]:
        stage |= {"steps": STEPS, "batch": 8, "micro_batch": 8}
        sources = stage["data"]["sources"]
        stage["data"]["sources"] = {name: s for name, s in sources.items() if name in (*TASKS, "scenes")}
        for weighted in stage["data"]["sources"].values():
            weighted["source"]["pictures"] = PICTURES
    recipe["benchmarks"] = [b for b in recipe["benchmarks"] if b["name"] in TASKS]
    for benchmark in recipe["benchmarks"]:
        benchmark["source"]["pictures"] = PICTURES
    experts = {name: pool()[name] for name in EXPERTS}
    recipe["model"]["encoders"] = {}
    recipe["model"]["fusion"] = {"kind": "channel_concat", "grid": [2, 2], "resample": "unshuffle"}
    strategy = {"kind": "round_robin", "recipe": recipe, "pool": experts, "seeds": [0]}
    return Search.parse({"name": "tiny", "strategy": strategy})


def write(folder: Path) -> Path:
    """The search as a file that ``omma search`` reads."""
    path = folder / "tiny.yaml"
    path.write_text(tiny().to_yaml(), encoding="utf-8")
    return path


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(tiny().to_yaml(), encoding="utf-8")
