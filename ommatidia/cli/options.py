"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ommatidia.core.console import Console

Reference = Annotated[
    str, typer.Argument(help="module:function, file.py:function, or a YAML/JSON file", show_default=False)
]
Arguments = Annotated[
    list[str] | None, typer.Argument(help="NAME=VALUE arguments of a recipe function", show_default=False)
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="PATH=VALUE, e.g. stages.1.steps=200; may be repeated")
]
StorePath = Annotated[Path, typer.Option("--store", help="folder of finished work")]
OnHardware = Annotated[
    str | None,
    typer.Option("--hardware", help="price the training on it: a100-40g, a100-80g, h100, h200, b200, tpu-v4"),
]
World = Annotated[int, typer.Option(min=1, help="how many of them train together")]
Mfu = Annotated[float, typer.Option(help="share of the peak that training is assumed to reach")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="nodes done at once, each in a process on its share of the cores")
]
AsTwin = Annotated[bool, typer.Option("--twin", help="a tiny twin of it instead: seconds on a CPU, needs no download")]
Track = Annotated[
    str | None, typer.Option("--track", help="curves beside the result, in OUT/tracking: tensorboard, wandb or both")
]

Rescore = Annotated[
    bool, typer.Option("--rescore", help="first score the stored answers again with today's scorers and judge")
]

Replace = Annotated[bool, typer.Option("--replace", help="also a page in place that shows more")]


class Stoppable(TyperGroup):
    """Says on Ctrl-C where the work stands; left to itself the library would end without a word."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            Console().fail(stop, "stopped; the same command goes on from what is finished")
            raise typer.Exit(130) from None
