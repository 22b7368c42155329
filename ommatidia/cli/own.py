"""Parts of a user's own on the command line: skeletons, and the contract that parts keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(new)
    app.command()(check_part)


def new(
    what: Annotated[str, typer.Argument(help="encoder, fusion, projector, benchmark, strategy or study")],
    name: Annotated[str, typer.Argument(help="its name, which becomes its kind and its file's name")],
    folder: Annotated[Path, typer.Option(help="where to write it")] = Path(),
) -> None:
    """Write a working, tested skeleton of a part or study of your own."""
    from ommatidia.lab.own.new import new_part

    new_part(what, name, folder).show()


def check_part(
    module: Annotated[str, typer.Argument(help="my_parts.py, or a module")],
) -> None:
    """Check that your own parts keep the contract of their family: shapes, gradients, freezing, cost, round trips."""
    from ommatidia.lab.own.check import check_parts

    check_parts(module).show()
