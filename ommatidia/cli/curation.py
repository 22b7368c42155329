"""Blending, curating and writing data on the command line: parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Changes = Annotated[list[str] | None, typer.Option("--set", help="PATH=VALUE, e.g. cap=100000; may be repeated")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (blend, curate, engine):
        app.command()(command)


def blend(
    reference: Annotated[
        str, typer.Argument(help="a recipe, a mixture in YAML, or a manifest of omma ls manifests", show_default=False)
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="NAME=VALUE arguments; data=FOLDER of a manifest", show_default=False)
    ] = None,
    changes: Changes = None,
    samples: Annotated[int | None, typer.Option(min=1, help="of a mixture; one epoch by default")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of a mixture; a recipe has its own")] = 0,
) -> None:
    """Print each source's records, share, samples drawn and epochs seen, for every stage of a recipe or a mixture."""
    from ommatidia.lab.data.blending import blend as tell
    from ommatidia.lab.data.blending import read_blend

    tell(read_blend(reference, arguments or [], changes or []), samples=samples, seed=seed).show()


def curate(
    config: Annotated[Path, typer.Argument(help="a curation in YAML: sources and operations", show_default=False)],
    out: Annotated[Path, typer.Option(help="the JSONL file to write; reports beside it", show_default=False)],
    changes: Changes = None,
    data: Annotated[Path | None, typer.Option(help="folder that holds the copies of published benchmarks")] = None,
) -> None:
    """Clean, balance and word a training set; says what became of every record. Stopped anywhere, it goes on."""
    from ommatidia.lab.data.curating import curate_file

    curate_file(config, out, changes=changes or [], data=data).show()


def engine(
    config: Annotated[Path, typer.Argument(help="a data engine in YAML", show_default=False)],
    out: Annotated[Path, typer.Option(help="the JSONL file to write; replies are kept beside it", show_default=False)],
    changes: Changes = None,
) -> None:
    """Write questions about the images of a local corpus through a language model. No call is made twice."""
    from ommatidia.lab.data.curating import run_engine

    run_engine(config, out, changes=changes or []).show()
