"""What curation did, as tables, Markdown and HTML: before and after by source and category, and why records went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from ommatidia.core.markdown import as_text
from ommatidia.data.curation.curate import Passage

Table = tuple[str, Sequence[str], list[list[Any]]]

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:.5rem 0 2rem}th,td{padding:.2rem .9rem .2rem 0;text-align:left;"
    "border-bottom:1px solid #ddd}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    "@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}th,td{border-color:#3a3d44}}"
)


def tables(passages: Sequence[Passage]) -> list[Table]:
    """Operations in order; reasons with examples; records by source and by category, before and after."""
    first, last = passages[0].before, passages[-1].after
    steps = [
        [
            p.operation,
            _settings(p),
            p.before.total(),
            p.before.total() - p.after.total(),
            p.changed.total(),
            p.after.total(),
        ]
        for p in passages
    ]
    reasons = [
        [p.operation, fate, why, count, "; ".join(p.examples.get(why, ()))]
        for p in passages
        for fate, counts in (("dropped", p.dropped), ("changed", p.changed))
        for why, count in counts.most_common()
    ]
    return [
        ("operations", ("operation", "settings", "before", "dropped", "changed", "after"), steps),
        ("why", ("operation", "fate", "reason", "records", "for example"), reasons),
        _beside("sources", first, last, part=0),
        _beside("categories", first, last, part=1),
    ]


def _settings(passage: Passage) -> str:
    """In a few words: a long table of rules is in the configuration."""
    said = [f"{name}={value}" for name, value in passage.settings.items()]
    return ", ".join(text if len(text) <= 60 else f"{text[:57]}..." for text in said)


def _beside(title: str, first: Counter[str], last: Counter[str], *, part: int) -> Table:
    before, after = Counter[str](), Counter[str]()
    for counts, total in ((first, before), (last, after)):
        for place, count in counts.items():
            total[place.split("\t")[part]] += count
    rows = []
    for name, count in before.most_common():
        shares = [
            f"{100 * c / max(1, total):.2f}%" for c, total in ((count, before.total()), (after[name], after.total()))
        ]
        rows.append([name, count, shares[0], after[name], shares[1], count - after[name]])
    return title, (title, "before", "share before", "after", "share after", "dropped"), rows


def markdown(passages: Sequence[Passage]) -> str:
    """One page of Markdown."""
    lines = ["# Curation", ""]
    for title, columns, rows in tables(passages):
        lines += [f"## {title.capitalize()}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(as_text(_cell(cell)) for cell in row) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def html(passages: Sequence[Passage]) -> str:
    """One page that needs nothing beside it."""
    body = []
    for title, columns, rows in tables(passages):
        numeric = [
            bool(rows) and all(isinstance(row[i], int) or _cell(row[i]).endswith("%") for row in rows)
            for i in range(len(columns))
        ]
        body.append(f"<h2>{escape(title.capitalize())}</h2><table><tr>")
        body += [f"<th{_right(numeric[i])}>{escape(column)}</th>" for i, column in enumerate(columns)]
        for row in rows:
            body.append(
                "</tr><tr>" + "".join(f"<td{_right(numeric[i])}>{escape(_cell(c))}</td>" for i, c in enumerate(row))
            )
        body.append("</tr></table>")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Curation</title><style>{_STYLE}</style>'
    return f"{head}<body><h1>Curation</h1>{''.join(body)}</body></html>\n"


def _right(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
