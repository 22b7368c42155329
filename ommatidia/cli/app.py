"""The command line: parses, calls the layer below, prints. Heavy imports happen inside commands, so --help is quick."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ommatidia.cli import analysis as analyses
from ommatidia.cli import data as data_commands
from ommatidia.cli import options as opt
from ommatidia.cli import own, saved
from ommatidia.core.console import Console, console, use
from ommatidia.core.downloads import allow_downloads, downloads_allowed
from ommatidia.core.errors import ConfigError, OmmatidiaError
from ommatidia.core.launcher import is_idle
from ommatidia.core.outside_parts import allow_imports, import_parts


def _print_version(wanted: bool) -> None:
    if wanted:
        from ommatidia import __version__

        Console().say(__version__)
        raise typer.Exit


app = typer.Typer(
    name="omma",
    cls=opt.Stoppable,
    help="A laboratory for multimodal language models that see through a mixture of vision encoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

DEFAULT_STORE = Path("runs/store")


@app.callback()
def _main(
    context: typer.Context,
    json_only: Annotated[
        bool, typer.Option("--json", help="print one JSON document on stdout and nothing else")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no log, no progress bars")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="allow weights and tokenizers to be fetched from the hub")
    ] = False,
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="MODULE", help="import parts of your own first: my_parts.py, or a module"),
    ] = None,
    any_import: Annotated[
        bool, typer.Option("--allow-imports", help="import the modules that a recipe file or model folder names")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    stack = context.with_resource(ExitStack())
    stack.enter_context(use(Console(quiet=quiet, json_only=json_only)))
    stack.enter_context(allow_imports(allowed=any_import))
    if context.invoked_subcommand != "fetch":  # the one command whose work is to fetch
        allow_downloads(allowed=download or downloads_allowed())
    if is_idle(context.invoked_subcommand or ""):
        raise typer.Exit
    import_parts(*(imports or []))


def _command() -> str:
    """The command line as it was typed, to be kept with the results."""
    return shlex.join(["omma", *sys.argv[1:]])


@app.command("ls")
def list_(
    what: Annotated[str | None, typer.Argument(help="a family, e.g. encoders; all of them by default")] = None,
) -> None:
    """List what there is: encoders, fusions, projectors, sources, benchmarks, strategies, recipes ..."""
    from ommatidia.lab.show.listing import listing

    for title, columns, rows in (tables := listing(what)):
        console().table(title, columns, rows, out=True)
    console().result({title: [dict(zip(columns, row, strict=True)) for row in rows] for title, columns, rows in tables})


@app.command()
def show(
    reference: opt.Reference,
    arguments: opt.Arguments = None,
    changes: opt.Changes = None,
    twin: opt.AsTwin = False,
    hardware: opt.OnHardware = None,
    world: opt.World = 1,
    mfu: opt.Mfu = 0.4,
    yaml: Annotated[bool, typer.Option("--yaml", help="only the file, as run, search and plan take it")] = False,
    changed_only: Annotated[
        bool, typer.Option("--changed-only", help="without fields that have their default")
    ] = False,
) -> None:
    """Print a recipe or search in full, then its grids, tokens, parameters and operations. Needs no weights."""
    from ommatidia.lab.price.hardware import machine_named
    from ommatidia.lab.search.load import read_value
    from ommatidia.lab.show.describe import describe

    value = read_value(reference, arguments, changes, small=twin)
    console().say(value.to_yaml(changed_only=changed_only))
    if yaml:
        console().result({"config": value.to_dict()})
        return
    tables = describe(value, machine_named(hardware, world=world, mfu=mfu))
    for title, columns, rows in tables:
        console().table(title, columns, rows, out=True)
    console().result(
        {
            "config": value.to_dict(),
            "tables": {t: [dict(zip(c, r, strict=True)) for r in rows] for t, c, rows in tables},
        }
    )


@app.command()
def plan(
    reference: opt.Reference,
    arguments: opt.Arguments = None,
    changes: opt.Changes = None,
    store: opt.StorePath = DEFAULT_STORE,
    twin: opt.AsTwin = False,
    hardware: opt.OnHardware = None,
    world: opt.World = 1,
    mfu: opt.Mfu = 0.4,
) -> None:
    """Print what would be done, node by node, with its price, before anything runs."""
    from ommatidia.lab.nodes.store import Store
    from ommatidia.lab.price.hardware import machine_named
    from ommatidia.lab.search.load import read_value
    from ommatidia.lab.show.describe import describe_plan
    from ommatidia.lab.show.planning import plan_problems

    machine = machine_named(hardware, world=world, mfu=mfu)
    value = read_value(reference, arguments, changes, small=twin)
    problems = plan_problems(value, reference, Store(store))
    tables, summary, refused = describe_plan(value, Store(store), machine)
    for title, columns, rows in tables:
        console().table(title, columns, rows, out=True)
    for line in refused:
        console().warn(f"refused: {line}")
    for name, value in summary.items():
        console().say(f"{name}: {value}")
    nodes, *prices = [[dict(zip(columns, row, strict=True)) for row in rows] for _, columns, rows in tables]
    told = {"summary": summary, "refused": refused, "problems": list(problems.problems)}
    console().result({**told, "nodes": nodes, "prices": prices})
    problems.finish()


@app.command()
def run(
    reference: opt.Reference,
    arguments: opt.Arguments = None,
    changes: opt.Changes = None,
    store: opt.StorePath = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="where to put the trained model")] = None,
    jobs: opt.Jobs = None,
    track: opt.Track = None,
    twin: opt.AsTwin = False,
) -> None:
    """Train and evaluate one recipe; finished stages are reused, an interrupted one goes on. Takes torchrun's ranks."""
    from ommatidia.lab.drive import run_recipe
    from ommatidia.lab.nodes.store import Store
    from ommatidia.lab.recipe import Recipe
    from ommatidia.lab.search.load import read_value
    from ommatidia.train.ranks import process_group
    from ommatidia.train.tracking import read_destinations

    trackers = read_destinations(track or "")
    recipe = read_value(reference, arguments, changes, small=twin)
    if not isinstance(recipe, Recipe):
        raise ConfigError(f"{reference} is a search; use omma search")
    with process_group():
        run_recipe(
            recipe, Store(store), out=out, command=_command(), report=twin, jobs=jobs or 1, track=trackers
        ).show()


@app.command()
def search(
    reference: opt.Reference,
    arguments: opt.Arguments = None,
    changes: opt.Changes = None,
    store: opt.StorePath = DEFAULT_STORE,
    out: Annotated[
        Path | None, typer.Option(help="folder of the report and the best model; runs/NAME by default")
    ] = None,
    jobs: opt.Jobs = None,
    track: opt.Track = None,
    twin: opt.AsTwin = False,
) -> None:
    """Search a design space; write a report and the best model. Stopped, it goes on. Takes torchrun's ranks."""
    from ommatidia.lab.drive import drive_search
    from ommatidia.lab.nodes.store import Store
    from ommatidia.lab.recipe import Recipe
    from ommatidia.lab.search.load import read_value
    from ommatidia.train.ranks import process_group
    from ommatidia.train.tracking import read_destinations

    trackers = read_destinations(track or "")
    value = read_value(reference, arguments, changes, small=twin)
    if isinstance(value, Recipe):
        raise ConfigError(f"{reference} is one recipe; use omma run")
    with process_group():
        drive_search(value, Store(store), out=out, command=_command(), jobs=jobs, track=trackers).show()


@app.command()
def fetch(
    benchmark: Annotated[str, typer.Argument(help="a published benchmark of omma ls benchmarks")],
    data: Annotated[Path, typer.Option(help="folder that holds the copies of published benchmarks")] = Path("data"),
    split: Annotated[str | None, typer.Option(help="another split, such as train for few-shot examples")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="say licence and size, download nothing")] = False,
) -> None:
    """Download a published benchmark from the Hugging Face hub, saying licence and size first."""
    from ommatidia.lab.data.fetch import fetch as fetch_benchmark

    fetch_benchmark(benchmark, data=data, split=split, dry=dry).show()


@app.command()
def report(
    name: Annotated[str | None, typer.Argument(help="a search or run of the store; the latest by default")] = None,
    store: opt.StorePath = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="folder to write into; runs/NAME by default")] = None,
    analyses: Annotated[
        str | None, typer.Option("--with", help="first make audit, ablation, ablation:mean, ablation:shuffle ...")
    ] = None,
    rescore: opt.Rescore = False,
    replace: opt.Replace = False,
) -> None:
    """Write the report of a search from the store alone: HTML, Markdown, CSV, JSON. Changes nothing in the store."""
    from ommatidia.lab.drive import report_search
    from ommatidia.lab.nodes.store import Store
    from ommatidia.lab.run.followup import read_analyses

    chosen = read_analyses(analyses) if analyses else ()
    path = report_search(Store(store), name, out=out, analyses=chosen, rescore=rescore, replace=replace)
    console().say(f"report: {path}")
    console().result({"report": str(path)})


@app.command()
def inspect(
    reference: Annotated[str, typer.Argument(help="a recipe, a search or a saved model folder")],
    arguments: opt.Arguments = None,
    changes: opt.Changes = None,
    stage: Annotated[str | None, typer.Option(help="whose data to look at; the last stage by default")] = None,
    index: Annotated[int, typer.Option(min=0, help="position in the stage's stream")] = 0,
    image: Annotated[Path | None, typer.Option(help="look at this image instead of the data")] = None,
    question: str = "What is in the image?",
    out: Annotated[Path, typer.Option(help="the image to write")] = Path("runs/inspect.png"),
) -> None:
    """Draw one sample as the model sees it: each encoder's view, the token row, the label mask."""
    from ommatidia.lab.search.load import read_value
    from ommatidia.lab.show.inspection import inspect_model, inspect_recipe

    if Path(reference).is_dir():
        found = inspect_model(Path(reference), image, question, out)
    else:
        found = inspect_recipe(read_value(reference, arguments, changes), stage, index, out)
    for title, columns, rows in found.tables:
        console().table(title, columns, rows, out=True)
    console().say(f"image: {found.path}")
    console().result({"picture": str(found.path), **found.data})


saved.register(app)
analyses.register(app)
own.register(app)
app.add_typer(data_commands.app)


def main() -> None:
    """Entry point: one clear line and a non-zero exit for every error a user can cause.

    Status 1 is an error, 2 a mistyped command, 3 designs that failed, 130 and 143 an interrupt and SIGTERM.
    """
    from ommatidia.core.malloc import keep_memory

    keep_memory()
    arguments = _hoisted(sys.argv[1:])
    try:
        app(arguments, prog_name="omma")
    except OmmatidiaError as error:
        if "--debug" in arguments:
            raise
        Console().fail(error)
        raise SystemExit(error.status) from None


_GLOBAL = ("--json", "--quiet", "-q", "--debug", "--download", "--allow-imports")


def _hoisted(arguments: list[str]) -> list[str]:
    """Global options may stand anywhere: move them in front of the command."""
    front, rest, waiting = list[str](), list[str](), iter(arguments)
    for argument in waiting:
        if argument in _GLOBAL or argument.startswith("--import="):
            front.append(argument)
        elif argument == "--import":
            front += [argument, *[value for value in [next(waiting, None)] if value is not None]]
        else:
            rest.append(argument)
    return front + rest
