"""The person's part: a table in which each question is accepted, modified or rejected, and which is read back."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

from ommatidia.core.errors import DataError, DiskError
from ommatidia.eval.cv_bench.rows import Row, prompt_of, save_rows

VERDICTS = ("accept", "modify", "reject")
_COLUMNS = ("idx", "image", "task", "question", "choices", "answer", "verdict", "note")
_BETWEEN = " | "


def write_review(rows: Sequence[Row], path: Path) -> None:
    """A CSV file, one question a row, with an empty column ``verdict``; images are named relative to the set.

    Question, choices (separated by a bar) and answer may be changed where the verdict is to be ``modify``. Raises
    DiskError when it cannot be written.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        shown = {name: row[name] for name in ("idx", "image", "task", "question", "answer")}
        table.writerow(shown | {"choices": _BETWEEN.join(row["choices"]), "verdict": "", "note": ""})
    try:
        path.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror or error}") from None


def apply_review(rows: Sequence[Row], path: Path, folder: Path | None = None) -> list[Row]:
    """The accepted questions and the modified ones as they are now; with ``folder``, its files are written anew.

    Raises DataError for a question without verdict, an unknown verdict, one that changed without ``modify``, a
    stranger, or an answer that is none of the letters.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            listed = {str(line["idx"]): line for line in csv.DictReader(file)}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except KeyError:
        raise DataError(f"{path}: no column 'idx'; expected {', '.join(_COLUMNS)}") from None
    if strangers := set(listed) - {str(row["idx"]) for row in rows}:
        raise DataError(f"{path}: question {sorted(strangers)[0]!r} is not in the set")
    kept = [done for row in rows if (done := _judged(row, listed.get(str(row["idx"]), {}), path)) is not None]
    if folder is not None:
        save_rows(kept, folder)
    return kept


def _judged(row: Row, line: dict[str, str], path: Path) -> Row | None:
    place, verdict = f"{path}: question {row['idx']}", (line.get("verdict") or "").strip().lower()
    if verdict not in VERDICTS:
        given = f"the verdict {verdict!r}" if verdict else "no verdict"
        raise DataError(f"{place} has {given}; expected one of {', '.join(VERDICTS)}")
    if verdict == "reject":
        return None
    choices = [choice.strip() for choice in line["choices"].split(_BETWEEN.strip())]
    answer, question = f"({line['answer'].strip(' ()').upper()})", line["question"].strip()
    changed = row | {"question": question, "choices": choices, "answer": answer}
    if verdict == "accept":
        if changed != row:
            raise DataError(f"{place} was changed but accepted as it was; its verdict should be modify")
        return row
    if answer.strip("()") not in ascii_uppercase[: len(choices)]:
        raise DataError(f"{place}: the answer {line['answer']!r} is none of {len(choices)} choices")
    return changed | {"prompt": prompt_of(question, choices)}
