"""Reading: the first pass of a curation, and what its operations refuse before anything is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.data.curation.corpus import Corpus, Origin
from ommatidia.data.curation.operation import Operation
from ommatidia.data.curation.record import Record

_SHOWN = 3
"""Broken records that an error names."""

Broken = Callable[[Record, DataError], None]
"""Told of every record that is left out."""


def open_corpora(corpora: Mapping[str, Corpus], operations: Sequence[Operation]) -> dict[str, Origin]:
    """Every corpus, opened. Raises DataError, or ConfigError where they do not go together or with an operation."""
    origins = {name: corpus.open() for name, corpus in corpora.items()}
    documents = [name for name, origin in origins.items() if origin.layout == "document"]
    if 0 < len(documents) < len(origins):
        other = next(name for name in origins if name not in documents)
        raise ConfigError(
            f"sources: {documents[0]!r} holds documents and {other!r} holds dialogues, which no one file can hold; "
            "curate them into two"
        )
    for number, operation in enumerate(operations):
        for name, origin in origins.items():
            if why := operation.refusal(name, origin.layout):
                raise ConfigError(f"operations.{number}: source {name!r}: {why}")
    if not any(corpus.source_field or corpus.category_field for corpus in corpora.values()):
        check_names(operations, set(corpora), {corpus.category for corpus in corpora.values()})
    return origins


def check_names(operations: Sequence[Operation], sources: set[str], categories: set[str]) -> None:
    """Raises ConfigError for a source or a category that an operation names and no record has."""
    for operation in operations:
        operation.check_names(sources, categories)


def read_corpora(
    corpora: Mapping[str, Corpus], origins: Mapping[str, Origin], *, tolerance: float, broken: Broken
) -> Iterator[Record]:
    """The records of all corpora in order. Raises DataError: more of them are broken than is tolerated."""
    total = sum(map(len, origins.values()))
    faults: list[str] = []
    count = 0
    with console().progress("read", total) as bar:
        for name, corpus in corpora.items():
            origin = origins[name]
            for row, data in origin.records():
                bar.advance()
                if isinstance(data, DataError):
                    fault: DataError | None = data
                    record = Record({}, origin, name, name, corpus.category, row)
                else:
                    record = _record(name, corpus, origin, row, data)
                    fault = _other_layout(record)
                if fault is None:
                    yield record
                    continue
                if tolerance == 0:
                    raise fault
                broken(record, fault)
                count += 1
                faults += [str(fault)] if count <= _SHOWN else []
    if count > tolerance * total:
        raise DataError(
            f"{count} of {total} records are broken, more than the tolerated {tolerance:.2%}. "
            f"The first: {'; '.join(faults)}"
        )


def _record(name: str, corpus: Corpus, origin: Origin, row: int, data: dict[str, object]) -> Record:
    source = str(data.get(corpus.source_field, name)) if corpus.source_field else name
    category = str(data.get(corpus.category_field, corpus.category)) if corpus.category_field else corpus.category
    return Record(data, origin, name, source, category, row)


def _other_layout(record: Record) -> DataError | None:
    if record.document == (record.origin.layout == "document"):
        return None
    cause = "a document among dialogues" if record.document else "a dialogue among documents"
    return DataError(f"{cause}; curate them apart", source=record.file, sample=record.id, kind="layout")
