"""Curation and the data engine, driven: files are read, benchmarks introduced, reports written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ommatidia.core.command_result import CommandResult
from ommatidia.core.config import digest, overridden, read_assignments
from ommatidia.core.errors import ConfigError, UnansweredError
from ommatidia.core.owned_file import check_file, put_file
from ommatidia.core.types import Sample
from ommatidia.data.curation import report
from ommatidia.data.curation.curate import Curation, curate
from ommatidia.data.data_engine import DataEngine, write


def curate_file(path: Path, out: Path, *, changes: Sequence[str] = (), data: Path | None = None) -> CommandResult:
    """Curate what the file says into ``out``, and write its report as Markdown and HTML beside it.

    Raises ConfigError, DataError or DiskError.
    """
    config = Curation.read(path)
    config = overridden(config, read_assignments(changes))
    read = {corpus.path.resolve() for corpus in config.sources.values() if corpus.path is not None}
    if out.resolve() in read:
        raise ConfigError(f"--out {out} is one of the sources; write into another file")
    pages = [out.with_name(out.name + ending) for ending in (".report.md", ".report.html")]
    for page in pages:
        check_file(page)
    passages = curate(
        config, out, samples_of=lambda name: _samples(name, data), fingerprint_of=lambda name: _fingerprint(name, data)
    )
    for page, text in zip(pages, (report.markdown(passages), report.html(passages)), strict=True):
        put_file(page, text.encode(errors="replace"))
    lines = [f"records: {out}", f"report: {out}.report.html"]
    told = {"records": str(out), "passages": [passage.to_dict() for passage in passages]}
    return CommandResult(report.tables(passages), lines, told)


def _samples(name: str, data: Path | None) -> Iterable[Sample]:
    from ommatidia.lab.saved.evaluation import Choices, read_benchmarks

    for config in read_benchmarks(name, Choices(data=data)):
        yield from config.open().samples()


def _fingerprint(name: str, data: Path | None) -> str:
    from ommatidia.lab.saved.evaluation import Choices, read_benchmarks

    return digest([config.questions_fingerprint() for config in read_benchmarks(name, Choices(data=data))])


def run_engine(path: Path, out: Path, *, changes: Sequence[str] = ()) -> CommandResult:
    """Write the data that the file asks for into ``out``. Raises ConfigError, DataError, DiskError or RunError.

    The status is UnansweredError's where questions got no reply.
    """
    config = DataEngine.read(path)
    config = overridden(config, read_assignments(changes))
    written = write(config, out)
    columns = ("made", "held", "used", "nonsense", "dropped", "failed", "over the cap")
    calls = [[step, *(counts[column] for column in columns)] for step, counts in written.calls.items()]
    told = CommandResult([("calls", ("step", *columns), calls)])
    for title, counts in (("images found", written.pictures), ("pairs dropped", written.reasons)):
        if counts:
            told.tables.append((title, ("what", "count"), [list(row) for row in counts.most_common()]))
    if written.passages:
        told.tables += report.tables(written.passages)[:2]
    spent = written.spent
    told.lines = [
        f"{written.records} records of {written.documents} documents for {written.topics} topics: {out}",
        f"spent by all runs: {spent.question:,} tokens of questions, {spent.answer:,} of answers; "
        f"cost {written.cost:.4g}",
    ]
    if written.failed:
        told.lines.append(f"{written.failed} calls got no reply; the same command asks them again, and nothing else")
        told.status = UnansweredError.status
    if written.kept_output:
        told.lines.append(f"{out}: stays as it was, since this run's records are not all of those and more")
    told.data = {
        "records": written.records, "topics": written.topics, "documents": written.documents, "calls": written.calls,
        "spent": {"question_tokens": spent.question, "answer_tokens": spent.answer, "cost": written.cost},
        "kept_output": written.kept_output, "pictures": written.pictures, "reasons": written.reasons,
        "passages": [passage.to_dict() for passage in written.passages],
    }  # fmt: skip
    return told
