"""The page docs/benchmarks.md, made from the registry: ``python -m ommatidia.lab.show.benchmark_page docs``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.benchmarks import Published
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.lab.show.listing import scored_by

_HEAD = """# The benchmarks

Made from the registry by `python -m ommatidia.lab.show.benchmark_page docs`; do not edit by hand.

Two numbers of one name compare only where the whole row is the same: prompt version, split, metric and who scored.
How to run them: [evaluate.md](evaluate.md). How to add one: [add-a-benchmark.md](add-a-benchmark.md).

## Published

Read from a local copy below the folder of `--data`; `omma fetch NAME` brings one. Where there is no copy in the hub's
layout, the files of the benchmark's own release are read, from the folder of the same name. After each prompt version
stand the tokens that may be generated and the scorer that goes with it; the first version is the usual one.
"""
_DRAWN = """
## Made here

Drawn or written by the package itself, the same on every machine, so that they need no data.
"""


def page() -> str:
    """The whole page. Raises ConfigError when a name in the list does not parse."""
    published: list[list[Any]] = []
    drawn: list[list[Any]] = []
    for name, data in BENCHMARKS.items():
        config = BenchmarkConfig.parse(data)
        if isinstance(config, Published):
            published.append([f"`{name}`", *_published(name, config)])
        else:
            drawn.append([f"`{name}`", config.group, config.describe(), config.max_new_tokens])
    columns = (
        "name",
        "benchmark",
        "group",
        "copy",
        "or first release",
        "split: rows",
        "prompts",
        "metric",
        "scored by",
        "traps",
    )
    return "\n".join(
        [
            _HEAD, *_table(columns, published), _DRAWN, *_table(("name", "group", "what", "tokens"), drawn), "",
        ]
    )  # fmt: skip


def _published(name: str, config: Published) -> list[str]:
    facts = config.facts
    rows = config.expected() if config.split == next(iter(facts.splits)) else facts.splits[config.split]
    splits = {config.split: rows} if name.startswith("cv_bench") else facts.splits
    folder = "/".join(part for part in (facts.repository, facts.config) if part)
    released = "-" if config.release is None else config.release.describe(config.split)
    shown = [f"{split}: {count or 'not checked'}" for split, count in splits.items()]
    return [
        facts.title, config.group, folder, released, "<br>".join(shown), "<br>".join(_prompts(name, config)),
        facts.metric, scored_by(config), facts.traps,
    ]  # fmt: skip


def _prompts(name: str, config: Published) -> list[str]:
    found = []
    for version in config.versions:
        one = BenchmarkConfig.parse({**BENCHMARKS[name], "prompt": version})
        scorer = one.scorer.to_dict()  # type: ignore[attr-defined]
        variant = f" ({scorer['variant']})" if "variant" in scorer else ""
        found.append(f"{version}: {one.max_new_tokens}, {scorer['kind']}{variant}")
    return found


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


if __name__ == "__main__":
    (Path(sys.argv[1]) / "benchmarks.md").write_text(page(), encoding="utf-8")
