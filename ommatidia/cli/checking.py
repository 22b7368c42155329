"""Checking, counting and sharding data on the command line: parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ommatidia.core.console import console

if TYPE_CHECKING:
    from ommatidia.data.check import Problem

Data = Annotated[Path, typer.Argument(help="a data file, or a source or a mixture in YAML", show_default=False)]
Images = Annotated[Path | None, typer.Option(help="folder of a data file's images; its own by default")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="PATH=VALUE of a source in YAML; may be repeated")]
Threads = Annotated[int, typer.Option(min=1, help="that read and decode")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (check, stats, shard, pack):
        app.command()(command)


def check(
    data: Data,
    recipe: Annotated[str | None, typer.Option(help="find samples too long for this recipe's model")] = None,
    argument: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of the recipe; may be repeated")] = None,
    stage: Annotated[str | None, typer.Option(help="of the recipe, that is to read it; the last by default")] = None,
    images: Images = None,
    changes: Changes = None,
    previews: Annotated[Path | None, typer.Option(help="folder to write pages with a few samples into")] = None,
    threads: Threads = 4,
) -> None:
    """Tell every problem of every record; exit status 1 when there is one."""
    from ommatidia.lab.data.checking import check as look
    from ommatidia.lab.data.checking import read_sources

    def tell(problem: Problem) -> None:
        console().say(str(problem))

    sources = read_sources(data, images=images, changes=changes)
    told = look(sources, tell=tell, recipe=recipe, arguments=argument, stage=stage, threads=threads, folder=previews)
    told.show()
    if told.counts:
        raise typer.Exit(1)


def stats(data: Data, images: Images = None, changes: Changes = None, threads: Threads = 4) -> None:
    """Print each source's records, turns, lengths of texts and answers, image sizes and most common answers."""
    from ommatidia.lab.data.checking import count, read_sources

    count(read_sources(data, images=images, changes=changes), threads=threads).show()


def shard(
    data: Data,
    out: Annotated[Path, typer.Option(help="folder of the shards", show_default=False)],
    per_shard: Annotated[int, typer.Option(min=1, help="samples of a shard")] = 10_000,
    images: Images = None,
    changes: Changes = None,
) -> None:
    """Write a source as tar shards that webdataset and the source of that name read. Stopped anywhere, it goes on."""
    from ommatidia.core.errors import ConfigError
    from ommatidia.lab.data.checking import read_sources
    from ommatidia.lab.data.checking import shard as write

    sources = read_sources(data, images=images, changes=changes)
    if len(sources) != 1:
        raise ConfigError(f"{data} is a mixture of {len(sources)} sources; shards hold one")
    write(next(iter(sources.values())), out, per_shard=per_shard).show()


def pack(
    recipe: Annotated[str, typer.Argument(help="a recipe in YAML, or package.module:function", show_default=False)],
    arguments: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE arguments", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="folder of the tokens")] = Path("tokens"),
    stage: Annotated[str | None, typer.Option(help="whose data; the last stage by default")] = None,
    changes: Changes = None,
) -> None:
    """Tokenise a stage's data beforehand; examples stay what they are. Stopped anywhere, it goes on."""
    from ommatidia.lab.data.packing import pack as write
    from ommatidia.lab.search.load import read_recipe

    write(read_recipe(recipe, arguments, changes), stage, out).show()
