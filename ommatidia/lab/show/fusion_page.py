"""The page docs/fusions.md and its drawings, from the registry: ``python -m ommatidia.lab.show.fusion_page docs``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path

from ommatidia.core.grid import Blocks, Cost, Grid
from ommatidia.lab.report.figures.fusion import draw
from ommatidia.models.fusion import FusionConfig
from ommatidia.models.fusion.fusion import FusionContext

WIDTH = 4096
"""Width of the language model for which costs are stated, where a fusion reads the question."""
BLOCKS = 24
"""Of an encoder that a fusion steers, as CLIP-L has them."""

INTRODUCTION = """# Fusions

Made from the registry by `python -m ommatidia.lab.show.fusion_page docs`; do not edit by hand.

A fusion joins the grids of several encoders into one, which the projector then takes to the language model. Every line
below is arithmetic on a full-size example, done before any weight exists; costs leave encoders and projector out.
In the drawings a colour is an encoder, a finer grid has more cells, amber boxes learn and white ones do not.
"""


def members() -> dict[str, type[FusionConfig]]:
    """The package's own fusions by kind; kinds that tests and notebooks declare are theirs."""
    kinds = FusionConfig.kinds().items()
    return {kind: member for kind, member in sorted(kinds) if member.__module__.startswith("ommatidia.")}


def example(member: type[FusionConfig]) -> tuple[FusionConfig, dict[str, Grid], Cost]:
    """A full-size member, the grids it joins, and what it costs."""
    config, grids = member.example()
    return config, grids, config.cost(grids, context_of(config, grids))


def context_of(config: FusionConfig, grids: Mapping[str, Grid]) -> FusionContext:
    """The model around a fusion on the page."""
    return FusionContext(WIDTH, {name: Blocks(BLOCKS, grids[name]) for name in config.steered(tuple(grids))})


def drawing(kind: str) -> str:
    """The text of the SVG of one kind."""
    config, grids, _ = example(members()[kind])
    return draw(kind, config.sketch(grids), grids, config.out(grids))


def page() -> str:
    """The whole page as Markdown."""
    lines = [INTRODUCTION, "| kind | example | tokens | width | parameters | GFLOP |", "|---|---|---|---|---|---|"]
    chapters: list[str] = []
    for kind, member in members().items():
        config, grids, cost = example(member)
        out = config.out(grids)
        joined = " + ".join(f"{name} {grid}" for name, grid in grids.items())
        numbers = f"{out.tokens:,} | {out.dim:,} | {_millions(cost.parameters)} | {cost.flops / 1e9:.1f}"
        lines.append(f"| [`{kind}`](#{kind}) | {joined} | {numbers} |")
        chapters += [f"## {kind}", "", f"![{kind}: {joined} become {out}](images/fusions/{kind}.svg)", ""]
        chapters += [_prose(member), ""]
        if member.paper:
            chapters += [f"Published in: {member.paper}.", ""]
        if fields := _changes(config):
            chapters += [f"The example sets {fields}.", ""]
    return "\n".join([*lines, "", *chapters])


def write(docs: Path) -> list[Path]:
    """Write the page and every drawing into a docs folder; what was written."""
    images = docs / "images" / "fusions"
    images.mkdir(parents=True, exist_ok=True)
    texts = {images / f"{kind}.svg": drawing(kind) for kind in members()} | {docs / "fusions.md": page()}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters else "none"


def _prose(member: type[FusionConfig]) -> str:
    """The docstring, with code in Markdown's single backticks."""
    return (inspect.getdoc(member) or "").replace("``", "`")


def _changes(config: FusionConfig) -> str:
    """Fields of an example that are not the defaults."""
    defaults = {name: field.default for name, field in type(config).model_fields.items()}
    changed = {name: value for name, value in config.to_dict().items() if name != "kind"}
    return ", ".join(
        f"`{name}: {value}`"
        for name, value in changed.items()
        if getattr(config, name) != defaults[name] and value != {}
    )


if __name__ == "__main__":
    for path in write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        sys.stdout.write(f"{path}\n")
