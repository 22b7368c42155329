"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Reference = Annotated[str, typer.Argument(help="package.module:function, or a YAML/JSON file", show_default=False)]
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
