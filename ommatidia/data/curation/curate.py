"""Curate: data in any layout in, operations one after another, one JSONL file out, with a report of what was done.

Records stream from operation to operation through a file, so that memory stays the same however many there are. Each
finished operation is kept beside the output until the end: a kill costs the one that was under way.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Self

from pydantic import Field

from ommatidia.core.config import Config, digest
from ommatidia.core.console import console
from ommatidia.core.errors import DataError, DiskError, RunError
from ommatidia.core.file_lock import only_writer
from ommatidia.core.files import fresh, hash_file, settled
from ommatidia.core.folders import claim_folder
from ommatidia.core.types import Sample
from ommatidia.data.curation.corpus import Corpus, Origin
from ommatidia.data.curation.image_store import ImageStore
from ommatidia.data.curation.operation import Operation, Place, Verdict, no_benchmarks
from ommatidia.data.curation.output import OutputFacts, put_output, read_output
from ommatidia.data.curation.reading import check_names, open_corpora, read_corpora
from ommatidia.data.curation.record import Record, read_lines

_VERSION = 3
"""Raised by hand when an operation comes to do something else to the same records."""
_EXAMPLES = 3
"""Records that a reason is shown with."""


class Curation(Config):
    """Corpora by name and what is done to their records, in order."""

    sources: Annotated[dict[str, Corpus], Field(min_length=1)]
    operations: tuple[Operation, ...]
    seed: Annotated[int, Field(ge=0)] = 0
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of records that may be broken; they are dropped, counted and shown."""

    def keys(self, fingerprint_of: Callable[[str], str] = str) -> list[str]:
        """An address for what comes out of reading and of each operation. Raises DataError for a missing file.

        ``fingerprint_of`` gives that of a benchmark by its name.
        """
        files = [[name, corpus.hashed(), corpus.content()] for name, corpus in self.sources.items()]
        keys = [digest([_VERSION, files, self.tolerance])]
        for operation in self.operations:
            seen = [corpus.images().digest for corpus in self.sources.values()] if operation.looks else []
            beside = [fingerprint_of(name) for name in operation.benchmarks_read()]
            keys.append(digest([keys[-1], operation.fingerprint(), self.seed, seen, beside]))
        return keys


@dataclass
class Passage:
    """What one operation did: how many records of each source and category came in and went out, and why."""

    operation: str
    settings: dict[str, Any] = field(default_factory=dict)
    before: Counter[str] = field(default_factory=Counter)
    """Records by ``source`` and category, as ``source\\tcategory``."""
    after: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    """Records by reason."""
    changed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, record: Record, verdict: Verdict) -> None:
        place = f"{record.source}\t{record.category}"
        self.before[place] += 1
        if verdict.record is not None:
            self.after[place] += 1
        if verdict.why:
            (self.dropped if verdict.record is None else self.changed)[verdict.why] += 1
            shown = self.examples.setdefault(verdict.why, [])
            if len(shown) < _EXAMPLES:
                shown.append(f"{record.source}: {record.id}")

    def read(self) -> tuple[set[str], set[str]]:
        """The sources and the categories that came in."""
        places = [place.split("\t") for place in self.before]
        return {source for source, _ in places}, {category for _, category in places}

    def to_dict(self) -> dict[str, Any]:
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        counts = ("before", "after", "dropped", "changed")
        fields: dict[str, Any] = {name: Counter(value) if name in counts else value for name, value in data.items()}
        return cls(**fields)


def curate(
    config: Curation,
    out: Path,
    *,
    samples_of: Callable[[str], Iterable[Sample]] = no_benchmarks,
    fingerprint_of: Callable[[str], str] = str,
) -> list[Passage]:
    """Write ``out`` (JSONL) and say what each operation did, reading first.

    ``out`` appears whole or not at all. Nothing is done again that stands finished in ``out.work``, and nothing at all
    where ``out`` is already what this configuration makes of these files. Raises DataError, ConfigError (also for an
    ``out`` that we did not write or that was changed), and RunError where another process writes it, or the data
    changed meanwhile.
    """
    with only_writer(out):
        before = read_output(out)
        with settled():
            keys = config.keys(fingerprint_of)
        origins = open_corpora(config.sources, config.operations)

        def again() -> list[str]:
            with fresh():
                return config.keys(fingerprint_of)

        return _Curating(config, out, samples_of, keys, before, origins, again).run()


class _Curating:
    def __init__(
        self,
        config: Curation,
        out: Path,
        samples_of: Callable[[str], Iterable[Sample]],
        keys: list[str],
        before: OutputFacts | None,
        origins: Mapping[str, Origin],
        again: Callable[[], list[str]],
    ) -> None:
        self._config, self._out, self._samples_of = config, out, samples_of
        self._keys, self._before, self._origins, self._again = keys, before, origins, again
        self._images = ImageStore(out)
        self._work = out.with_name(f"{out.name}.work")

    def run(self) -> list[Passage]:
        if (done := self._finished()) is not None:
            console().log(f"{self._out}: made of these files in this way already; nothing to do")
            return done
        claim_folder(self._work, ours=("[0-9][0-9]-*", "*.part"))
        try:
            passages = self._resumed()
            if not passages:
                passages.append(self._pass(0, total=None))
                self._settle(0, passages)
            check_names(self._config.operations, *passages[0].read())
            for number in range(len(passages), len(self._keys)):
                passages.append(self._pass(number, total=passages[-1].after.total()))
                self._settle(number, passages)
            self._publish(passages)
        except OSError as error:
            raise DiskError(f"{self._out}: {error.strerror or error}; what is finished is kept") from None
        return passages

    def _finished(self) -> list[Passage] | None:
        if self._before is None or self._before.key != self._keys[-1]:
            return None
        self._images.check()
        return [Passage.from_dict(passage) for passage in self._before.passages]

    def _stream(self, number: int) -> Path:
        return self._work / f"{number:02d}-{self._keys[number][:16]}.jsonl"

    def _resumed(self) -> list[Passage]:
        """The passages that stand finished; the last one's records are there."""
        for number in reversed(range(len(self._keys))):
            path = self._stream(number)
            if path.exists():
                facts = json.loads(path.with_suffix(".json").read_bytes())
                console().log(f"{len(facts)} of {len(self._keys)} passes are done already")
                return [Passage.from_dict(passage) for passage in facts]
        return []

    def _settle(self, number: int, passages: list[Passage]) -> None:
        """Pass ``number`` counts as done once its stream has its name; what it read is no longer needed."""
        path = self._stream(number)
        path.with_suffix(".json").write_text(json.dumps([passage.to_dict() for passage in passages]))
        os.replace(path.with_suffix(".part"), path)
        for old in self._work.iterdir():
            if old.stem != path.stem:
                shutil.rmtree(old) if old.is_dir() else old.unlink()

    def _pass(self, number: int, *, total: int | None) -> Passage:
        """Pass ``number`` over ``total`` records; None: how many they are is not known yet."""
        part = self._stream(number).with_suffix(".part")
        if number == 0:
            with part.open("wb") as file:
                return self._read(file)
        operation = self._config.operations[number - 1]
        kind = operation.kind_name()
        settings = {k: v for k, v in operation.to_dict().items() if k != "kind" and v not in (None, {}, [])}
        passage = Passage(kind, settings)
        with self._scratch(number) as scratch, part.open("wb") as file:
            step = operation.start(Place(scratch, self._config.seed, self._samples_of))
            if operation.surveys:
                with console().progress(f"{kind}: survey", total) as bar:
                    for record in self._lines(number - 1):
                        step.survey(record)
                        bar.advance()
                step.settle()
            with console().progress(kind, total) as bar:
                for record in self._lines(number - 1):
                    verdict = step.decide(record)
                    passage.note(record, verdict)
                    if verdict.record is not None:
                        file.write(verdict.record.to_line())
                    bar.advance()
        return passage

    def _lines(self, number: int) -> Iterator[Record]:
        """What pass ``number`` left."""
        return read_lines(self._stream(number), self._origins)

    @contextmanager
    def _scratch(self, number: int) -> Iterator[Path]:
        folder = self._work / f"{number:02d}-scratch"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self, file: IO[bytes]) -> Passage:
        passage = Passage("read")

        def broken(record: Record, error: DataError) -> None:
            passage.note(record, Verdict(None, f"broken record: {error.cause}"))

        config = self._config
        for record in read_corpora(config.sources, self._origins, tolerance=config.tolerance, broken=broken):
            passage.note(record, Verdict(record))
            file.write(record.to_line())
        return passage

    def _publish(self, passages: list[Passage]) -> None:
        part, apart = self._work / "out.part", len(self._origins) > 1
        with part.open("wb") as file, console().progress("write", passages[-1].after.total()) as bar:
            for record in self._lines(len(self._keys) - 1):
                written = record.written(self._out.parent, self._images, apart=apart)
                file.write(json.dumps(written, ensure_ascii=False).encode() + b"\n")
                bar.advance()
            file.flush()
            os.fsync(file.fileno())
        if self._images.missing_count:
            first = ", ".join(map(str, self._images.missing))
            console().warn(f"{self._images.missing_count:,} images that {self._out} names are not there: {first}")
        if self._again() != self._keys:
            raise RunError(f"{self._out}: the data changed while they were curated; the same command begins again")
        made = [passage.to_dict() for passage in passages]
        put_output(part, self._out, OutputFacts(self._keys[-1], hash_file(part), self._config.to_dict(), made))
        shutil.rmtree(self._work)
