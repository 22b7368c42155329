"""Files that test servers score, in their own formats; for splits whose answers nobody else has."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from ommatidia.core.errors import DataError, DiskError, RunError
from ommatidia.eval.answers import read_answers
from ommatidia.eval.benchmark import Benchmark
from ommatidia.eval.benchmarks.published import Answer, Published
from ommatidia.eval.checks import no_strangers, same


@dataclass(frozen=True, slots=True)
class Submitted:
    """A file that was written for a server."""

    path: Path
    answers: int
    empty: int
    """Answers without a word in them; a server counts them as wrong."""


def is_served(benchmark: Benchmark) -> bool:
    """Whether a server scores this split."""
    return isinstance(benchmark.config, Published) and benchmark.config.split in benchmark.config.served


def write_submission(benchmark: Benchmark, path: Path, *, model: str) -> Submitted:
    """Turn the finished answers in ``path`` into the server's file beside it.

    Raises RunError where answers are missing or of another benchmark or model, DataError where a sample cannot be read
    (servers want every question), DiskError where the file cannot be written.
    """
    config = benchmark.config
    assert isinstance(config, Published)
    held = read_answers(path)
    same(path, held, benchmark=benchmark.name, mode="full", model=model)
    answers: list[Answer] = []
    for _, sample in benchmark.readable():
        if isinstance(sample, DataError):
            raise sample
        record = held.get(sample.id)
        if record is None or record.answer is None:
            raise RunError(f"{path}: {sample.id!r} has no answer yet, and the server wants every one")
        if record.prompt != benchmark.prompt_digest(sample):
            raise RunError(f"{path}: sample {sample.id!r} was answered to another prompt than {benchmark.name} asks")
        answers.append(Answer(sample, record.answer.strip()))
    no_strangers(path, held, {answer.sample.id for answer in answers})
    rows = config.submitted(answers)
    target = path.with_suffix(f".submission.{config.submission_format}")
    if isinstance(rows, list) and config.submission_format == "xlsx":
        content = as_xlsx(rows)
    else:
        content = as_json(rows)
    try:
        target.write_bytes(content)
    except OSError as error:
        raise DiskError(f"{target}: cannot be written: {error.strerror}") from None
    return Submitted(target, len(answers), sum(not answer.text for answer in answers))


def as_json(rows: Sequence[dict[str, Any]] | dict[str, Any]) -> bytes:
    return json.dumps(rows, ensure_ascii=False).encode("utf-8", "backslashreplace")


_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_CONTENT = (
    f'{_XML}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/xl/workbook.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
    '<Override PartName="/xl/worksheets/sheet1.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
)
_RELATIONS = (
    _XML + '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Target="{target}" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}"/>'
    "</Relationships>"
)
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_WORKBOOK = (
    f'{_XML}<workbook xmlns="{_MAIN}" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
    '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>'
)
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def as_xlsx(rows: Sequence[dict[str, Any]]) -> bytes:
    """One sheet: the first row's keys, then the rows; numbers as numbers. What XML cannot hold is left out."""
    columns = list(rows[0]) if rows else []
    lines: list[list[Any]] = [columns, *([row.get(name) for name in columns] for row in rows)]
    body = "".join(f"<row>{''.join(map(_cell, line))}</row>" for line in lines)
    sheet = (
        f'<?xml version="1.0" encoding="UTF-8"?><worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>'
    )
    parts = {
        "[Content_Types].xml": _CONTENT,
        "_rels/.rels": _RELATIONS.format(kind="officeDocument", target="xl/workbook.xml"),
        "xl/workbook.xml": _WORKBOOK,
        "xl/_rels/workbook.xml.rels": _RELATIONS.format(kind="worksheet", target="worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": sheet,
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in parts.items():
            file.writestr(zipfile.ZipInfo(name), text.encode("utf-8"))
    return stream.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, int):
        return f"<c><v>{value}</v></c>"
    text = escape(_NO_XML.sub("", str(value)))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
