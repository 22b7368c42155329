"""Data looked at before anything is trained on it, driven: sources found, problems told, pages written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ommatidia.core.command_result import CommandResult
from ommatidia.core.config import Config, overridden, read_assignments, read_yaml
from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.owned_file import check_file
from ommatidia.core.source import Inspection, Looked, SourceConfig
from ommatidia.data.census import Census, sizes
from ommatidia.data.check import Problem, each, problems
from ommatidia.data.guess import guess
from ommatidia.data.mixture import MixtureConfig
from ommatidia.data.shard_writer import write_shards
from ommatidia.lab.data.previews import page_path, previews
from ommatidia.lab.search.load import read_recipe
from ommatidia.models.processor import Processor


@dataclass
class Checked(CommandResult):
    """What a check has to say, and whether anything is wrong."""

    counts: Counter[str] = field(default_factory=Counter)


def read_sources(
    path: Path, *, images: Path | None = None, changes: list[str] | None = None
) -> dict[str, SourceConfig]:
    """The sources of a YAML file (one source, or a mixture), or a data file of a kind that its first record shows.

    Raises ConfigError.
    """
    if path.suffix not in (".yaml", ".yml"):
        if changes:
            raise ConfigError(f"{path}: --set changes a source in YAML; this is a data file")
        return {path.name: guess(path, images=images)}
    if images is not None:
        raise ConfigError(f"{path}: --images goes with a data file; a source in YAML says image_root itself")
    data = read_yaml(path)
    mixed = isinstance(data, dict) and "sources" in data
    value: Config = (MixtureConfig if mixed else SourceConfig).read(path)
    value = overridden(value, read_assignments(changes or []))
    if isinstance(value, MixtureConfig):
        return {name: weighted.source for name, weighted in value.sources.items()}
    assert isinstance(value, SourceConfig)
    return {value.describe(): value}


def check(
    sources: dict[str, SourceConfig],
    *,
    tell: Callable[[Problem], None],
    recipe: str | None = None,
    arguments: list[str] | None = None,
    stage: str | None = None,
    threads: int = 4,
    folder: Path | None = None,
    shown: int = 24,
) -> Checked:
    """Tell every problem of every source, count them, and write previews into ``folder``. Raises ConfigError.

    With a recipe, records are read as its ``stage`` reads them; as its last one does without.
    """
    if folder is not None:
        for name in sources:
            check_file(page_path(name, folder))
    processor = None if recipe is None else _processor(recipe, arguments or [], stage)
    told = Checked()
    listed, records, pages, unread = [], {}, {}, {name: Counter[str]() for name in sources}
    for name, config in sources.items():
        inspection = _inspected(name, config)
        records[name] = 0 if isinstance(inspection, Problem) else len(inspection)
        if isinstance(inspection, Problem):
            found: Iterable[Problem] = [inspection]
        else:
            found = _all(name, inspection, processor, threads, unread[name])
        for problem in found:
            tell(problem)
            told.counts[problem.kind] += 1
            if console().json_only:
                listed.append(problem.to_dict())
        if folder is not None and not isinstance(inspection, Problem):
            pages[name] = previews(name, inspection, folder, count=shown, processor=processor)
    rows = [[kind, f"{count:,}"] for kind, count in told.counts.most_common()]
    if rows:
        told.tables.append(("problems", ("kind", "count"), rows))
    total = told.counts.total()
    told.lines = [f"{sum(records.values()):,} records of {len(records)} source(s): {total:,} problem(s)"]
    told.lines += [
        f"{name}: fields that nothing reads: "
        + ", ".join(f"{key!r} ({count:,})" for key, count in some.most_common(20))
        for name, some in unread.items()
        if some
    ]
    told.lines += [f"previews: {page}" for page in pages.values()]
    told.data = {"records": records, "counts": dict(told.counts), "problems": listed}
    told.data["unread"] = {name: dict(some) for name, some in unread.items()}
    told.data["previews"] = {name: str(page) for name, page in pages.items()}
    return told


def _inspected(name: str, config: SourceConfig) -> Inspection | Problem:
    try:
        return config.inspect()
    except DataError as error:
        return Problem(name, "", "", error.kind, str(error))


def _all(
    name: str, inspection: Inspection, processor: Processor | None, threads: int, unread: Counter[str]
) -> Iterator[Problem]:
    longest = None if processor is None else processor.context
    measure = None if processor is None else processor.length
    with console().progress(f"check {name}", len(inspection)) as bar:

        def seen(looked: Looked) -> None:
            bar.advance()
            unread.update(looked.unread)

        yield from problems(name, inspection, threads=threads, measure=measure, longest=longest, seen=seen)


def _processor(reference: str, arguments: list[str], stage: str | None) -> Processor:
    recipe = read_recipe(reference, arguments)
    return Processor(recipe.stage(stage).model_for_stage(recipe.model) if recipe.stages or stage else recipe.model)


def count(sources: dict[str, SourceConfig], *, threads: int = 4) -> CommandResult:
    """Records, turns, lengths, sizes and the most common answers of every source. Raises DataError."""
    told = CommandResult()
    spread_rows, answer_rows = [], []
    for name, config in sources.items():
        census = Census()
        inspection = config.inspect()
        with console().progress(f"count {name}", len(inspection)) as bar:
            for looked, found in each(inspection, sizes, threads=threads):
                census.add(looked, found)
                bar.advance()
        for what, spread in census.spreads().items():
            told_values = [spread.least, spread.tenth, spread.median, spread.ninetieth, spread.most]
            spread_rows.append([name, what, *told_values, f"{spread.mean:.2f}", spread.total])
        bound = f" (at least; counts are up to {census.forgotten} too low)" if census.forgotten else ""
        total = max(1, census.answers.total())
        answer_rows += [
            [name, answer, f"{n}{bound}", f"{n / total:.2%}"] for answer, n in census.answers.most_common(10)
        ]
        told.lines.append(f"{name}: {census.records:,} records, {census.unusable:,} of them unusable")
        told.data[name] = census.to_dict()
    columns = ("source", "what", "least", "10%", "median", "90%", "most", "mean", "sum")
    told.tables = [("spreads", columns, spread_rows)] if spread_rows else []
    if answer_rows:
        told.tables.append(("most common answers", ("source", "answer", "count", "share"), answer_rows))
    return told


def shard(source: SourceConfig, out: Path, *, per_shard: int) -> CommandResult:
    """Write a source's samples into shards; stopped anywhere, the same call goes on. Raises DataError or DiskError."""
    opened = source.open()
    count = -(-len(opened) // per_shard)
    writing = write_shards(opened, out, per_shard=per_shard, fingerprint=source.fingerprint(), again=source.fingerprint)
    with console().progress(f"shard {source.describe()}", len(opened)) as bar:
        for number, _ in enumerate(writing):
            bar.advance(min(per_shard, len(opened) - number * per_shard))
    names = f"{out}/shard-{{000000..{count - 1:06d}}}.tar"
    told = {"samples": len(opened), "shards": count, "source": {"kind": "webdataset", "shards": names}}
    return CommandResult(lines=[f"{len(opened):,} samples in {count:,} shard(s): {names}"], data=told)
