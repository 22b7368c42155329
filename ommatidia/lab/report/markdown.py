"""The report as Markdown: the same tables and sentences, for a repository or a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ommatidia.core.markdown import as_text
from ommatidia.lab.report.greedy_words import gains_note, look_lines, outcome
from ommatidia.lab.report.model import DesignRow, Interval, Report
from ommatidia.lab.report.numbers import DASH, bracket, duration, p_value, percent, scaled, signed
from ommatidia.lab.report.ranking import gaps, notices, ranked
from ommatidia.lab.report.sections import (
    Words,
    ablation_words,
    audit_words,
    flat,
    likeness_note,
    likeness_words,
)


def render_markdown(report: Report) -> str:
    """The whole document, ending in a newline. Text from data is escaped, so it cannot make markup."""
    designs = ranked(report.designs)
    parts = [
        f"# {as_text(report.title)}",
        "\n".join(f"- {as_text(sentence)}" for sentence in report.headline),
        "\n".join(f"> **Note:** {as_text(notice)}" for notice in notices(report)),
        _ranking(report, designs),
        _benchmarks(report, designs),
        _rounds(report),
        _contributions(report),
        *_asked(report),
        _examples(report),
        _manifest(report, designs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _code(text: str) -> str:
    """A line of code inside a paragraph or cell; the fence is longer than any run of backticks within."""
    flat = " ".join(text.split()).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", flat)), default=0)
    if longest:
        return f"{'`' * (longest + 1)} {flat} {'`' * (longest + 1)}"
    return f"`{flat}`" if flat else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """A table whose first ``words`` columns are text and whose others are numbers."""
    rule = ["---" if i < words else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _score(interval: Interval | None) -> str:
    return DASH if interval is None else f"{percent(interval.mean)} {bracket(interval)}".strip()


def _gain(interval: Interval | None) -> str:
    return DASH if interval is None else f"{signed(interval.mean)} {bracket(interval, sign=True)}".strip()


def _marks(design: DesignRow, report: Report) -> str:
    marks = ["final" if design.final else "explored"]
    if design.failed is not None:
        return f"failed: {as_text(design.failed)}"
    if len(design.seeds) == 1:
        marks.append("one seed")
    if design.is_blind_model:
        marks.append("text only")
    if missing := gaps(design, report):
        marks.append(as_text(f"incomplete: lacks {', '.join(missing)}"))
    return ", ".join(marks)


def _against_best(design: DesignRow) -> str:
    verdict = design.versus_best
    if verdict is None:
        return DASH
    numbers = ", ".join(part for part in (_gain(verdict.difference), p_value(verdict.p)) if part and part != DASH)
    return as_text(verdict.words) + (f" ({numbers})" if numbers else "")


def _ranking(report: Report, designs: Sequence[DesignRow]) -> str:
    head = ["#", "design", "status", "against the best", "average % (95 %)", "no image %", "seeds", "visual tokens"]
    head += ["parameters", "trained", "training", "training time", "a question"]
    rows = [
        [
            str(rank),
            as_text(d.name),
            _marks(d, report),
            _against_best(d),
            _score(d.average),
            percent(d.blind_average(report.benchmarks)),
            str(len(d.seeds)) if d.seeds else DASH,
            DASH if d.visual_tokens is None else str(d.visual_tokens),
            scaled(d.parameters),
            scaled(d.trained_parameters),
            scaled(d.train_flops, "FLOP"),
            duration(d.train_seconds),
            scaled(d.flops_per_sample, "FLOP"),
        ]
        for rank, d in enumerate(designs, start=1)
    ]
    told = "".join(f"\n- {as_text(line)}" for line in report.vocabulary)
    return "## Ranking\n\n" + _table(head, rows, words=4) + (f"\n{told}" if told else "")


def _benchmarks(report: Report, designs: Sequence[DesignRow]) -> str:
    if not report.benchmarks:
        return ""
    known = [
        [as_text(b.name), as_text(b.group), as_text(b.scorer), str(b.n), percent(b.guess)] for b in report.benchmarks
    ]
    about = _table(["benchmark", "group", "scorer", "questions", "guessing %"], known, words=3)
    rows = [
        [as_text(d.name), *(_score(d.scores.get(b.name)) for b in report.benchmarks)] for d in designs if not d.failed
    ]
    return f"## Scores by benchmark\n\n{about}\n\n" + _table(
        ["design", *(as_text(b.name) for b in report.benchmarks)], rows, words=1
    )


def _rounds(report: Report) -> str:
    if not report.rounds:
        return ""
    lines = ["## The greedy path"]
    for r in report.rounds:
        base = as_text(" + ".join(r.base)) if r.base else "nothing"
        rows = [
            [as_text(c.expert), outcome(c, r), str(c.runs), _score(c.average), _gain(c.gain), p_value(c.p)]
            for c in r.tried
        ]
        heading = f"**Round {r.number}**, on {base} ({_score(r.base_average)}). {as_text(r.decision)}"
        lines += [heading, _table(["expert added", "", "runs", "average %", "gain", ""], rows, words=2)]
        lines += ["\n".join(f"- {as_text(look)}" for look in look_lines(r)), as_text(gains_note(r))]
    if report.stop_reason:
        lines.append(f"**Stopped.** {as_text(report.stop_reason)}")
    return "\n\n".join(line for line in lines if line)


def _contributions(report: Report) -> str:
    if not report.contributions:
        return ""
    ordered = sorted(report.contributions, key=lambda c: (-c.gain.mean, c.expert))
    rows = [
        [as_text(c.expert), str(c.pairs), _gain(c.gain), *(_gain(c.groups.get(g)) for g in report.groups)]
        for c in ordered
    ]
    head = ["expert", "pairs", "all benchmarks", *(as_text(g) for g in report.groups)]
    return "## What each expert adds\n\nPoints, with 95 % intervals.\n\n" + _table(head, rows, words=1)


def _asked(report: Report) -> list[str]:
    """The analyses of the best design: the audit, each treatment, benchmarks by likeness."""
    found = []
    if (audit := report.audit) is not None:
        about = f"{audit.design}, seed {audit.seed}."
        found.append(f"## Is the image needed?\n\n{as_text(about)}\n\n{_words(audit_words(audit))}")
    for one in report.ablations:
        title = f"## What each expert is worth inside the mixture ({one.treatment})"
        about = f"{one.design}, seed {one.seed}, with experts taken away at inference."
        found.append(f"{title}\n\n{as_text(about)}\n\n{_words(ablation_words(one))}")
    if (likeness := report.likeness) is not None:
        note = f"Correlations. {likeness_note(likeness)}"
        title = "## Which benchmarks measure the same thing?"
        found.append(f"{title}\n\n{as_text(note)}\n\n{_words(likeness_words(likeness))}")
    return found


def _words(words: Words) -> str:
    rows = [[as_text(cell) for cell in row] for row in flat(words)]
    return _table([as_text(label) for label in words.head], rows, words=1)


def _examples(report: Report) -> str:
    if not report.examples:
        return ""
    lines = ["## Examples"]
    for card in report.examples:
        rows = [[as_text(name), "right" if r.correct else "wrong", as_text(r.text)] for name, r in card.answers.items()]
        lines.append(f"**{as_text(card.question)}** ({as_text(card.benchmark)}; reference: {as_text(card.reference)})")
        lines.append(_table(["design", "", "reply"], rows, words=3))
    return "\n\n".join(lines)


def _manifest(report: Report, designs: Sequence[DesignRow]) -> str:
    m = report.manifest
    facts = [
        ("recipe", m.recipe),
        ("date", m.date),
        ("Ommatidia", m.version),
        ("commits", ", ".join(m.commits)),
        ("Python", m.python),
        ("PyTorch", m.torch),
        ("machine", m.cpu),
        ("processor", "; ".join(m.processors)),
        ("precision", ", ".join(m.precisions)),
        ("CPU threads", ", ".join(m.threads)),
        ("libraries", ", ".join(m.packages)),
        ("store", m.store),
        ("seeds", ", ".join(map(str, m.seeds))),
        ("nodes run", DASH if m.nodes_executed is None else str(m.nodes_executed)),
        ("nodes reused", DASH if m.nodes_reused is None else str(m.nodes_reused)),
        ("work", scaled(m.flops_spent, "FLOP")),
        ("work without sharing", scaled(m.flops_without_sharing, "FLOP")),
        ("time of all nodes", duration(m.node_seconds)),
    ]
    about = _table(["", ""], [[name, as_text(value) or DASH] for name, value in facts], words=2)
    rows = [[as_text(d.name), _code(d.key), _code(d.checkpoint or ""), _code(d.command)] for d in designs]
    table = _table(["design", "key", "checkpoint", "command"], rows, words=4)
    return f"## Manifest\n\n{about}\n\nMake everything again: {_code(m.command)}\n\n{table}"
