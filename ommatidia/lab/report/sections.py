"""What the sections on the best design's analyses show: figures as data URIs, tables as words."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ommatidia.eval.statistics.grouping import Components, tree
from ommatidia.lab.report.figures.asked import CONDITIONS, GUESS, ablation_bars, audit_bars
from ommatidia.lab.report.figures.grouping import component_plane, correlation_matrix
from ommatidia.lab.report.model import Ablation, Audit, Interval, Likeness, Report
from ommatidia.lab.report.numbers import DASH, MINUS, bracket, percent, plural, signed
from ommatidia.lab.report.views import group_title


@dataclass(frozen=True, slots=True)
class Words:
    """A table in words: the first column names the row, cells hold a number and, smaller, its interval."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A section: what it is about, its figures as data URIs with what they show, and its table."""

    anchor: str
    title: str
    note: str
    figures: tuple[tuple[str, str], ...]
    table: Words | None
    how: str


def asked_sections(report: Report) -> tuple[Asked, ...]:
    """Those that the report has: the audit, one for each treatment, and benchmarks by likeness."""
    found = [] if report.audit is None else [_audit(report.audit)]
    found += [_ablation(one) for one in report.ablations]
    return (*found, *([] if report.likeness is None else [_likeness(report.likeness, report)]))


def audit_words(audit: Audit) -> Words:
    """Scores by condition, guessing, and what seeing is worth."""
    head = ("benchmark", *(f"{words} %" for words in CONDITIONS.values()), f"{GUESS} %", "images over none")
    rows = []
    for row in audit.rows:
        cells = [_score(row.scores[mode]) for mode in CONDITIONS]
        rows.append((row.benchmark, (*cells, (percent(row.guess), ""), _gain(row.gain))))
    return Words(head, tuple(rows))


def ablation_words(ablation: Ablation) -> Words:
    """A row for each benchmark whole and without each set of experts."""
    rows = []
    for suite in ablation.suites:
        gap = (DASH, "") if suite.gap is None else _score(suite.gap)
        rows.append((f"{suite.name}, all experts", (_score(suite.whole), (DASH, ""), (DASH, ""), gap)))
        for row in suite.rows:
            share = (DASH, "") if row.utilisation is None else _score(row.utilisation)
            cells = (_score(row.left), _gain(row.lost), share, ("", ""))
            rows.append((f"{suite.name}, without {row.taken}", cells))
    return Words(("", "score %", "lost, points", "utilisation %", "information gap %"), tuple(rows))


def likeness_words(likeness: Likeness) -> Words:
    """The correlation of every benchmark with every other."""
    rows = [
        (name, tuple((f"{value:+.2f}", "") for value in row))
        for name, row in zip(likeness.benchmarks, likeness.correlation, strict=True)
    ]
    return Words(("", *likeness.benchmarks), tuple(rows))


def chance_correlation(designs: int) -> float | None:
    """The correlation that so many unlike designs stay below by chance, 95 of 100 times (Fisher); None for three."""
    return math.tanh(1.96 / math.sqrt(designs - 3)) if designs > 3 else None


def likeness_note(likeness: Likeness) -> str:
    """Over how many designs, and how much of it may be chance."""
    least = chance_correlation(likeness.designs)
    seen = f"Over {plural(likeness.designs, 'design')} that see."
    chance = "Three are too few to tell a correlation from chance."
    if least is not None:
        chance = f"With so many, a correlation between {MINUS}{least:.2f} and {least:.2f} is within chance of none."
    left = f" Left out, as all designs score alike: {', '.join(likeness.constant)}." if likeness.constant else ""
    groups = f" {likeness.groups}" if likeness.groups else ""
    return f"{seen} {chance}{groups}{left} Designs that share experts are no independent sample."


def _audit(audit: Audit) -> Asked:
    return Asked(
        "audit",
        "Is the image needed?",
        f"{audit.design}, seed {audit.seed}, asked with its images, with those of other questions, with gray ones "
        "and with none (Cambrian-1, section 3.1).",
        ((_uri(audit_bars(audit.rows)), "scores by benchmark and condition"),),
        audit_words(audit),
        "What needs its images least comes first. A benchmark whose score does not fall with wrong images measures "
        "which answers are common. The gain is paired and clustered by image.",
    )


def _ablation(ablation: Ablation) -> Asked:
    return Asked(
        f"ablation-{ablation.treatment}",
        f"What each expert is worth inside the mixture ({ablation.treatment})",
        f"{ablation.design}, seed {ablation.seed}, with experts taken away at inference.",
        ((_uri(ablation_bars(ablation)), "scores with experts taken away"),),
        ablation_words(ablation),
        "Utilisation: the share of the whole score that is lost. Information gap: the largest of one expert less the "
        "smallest; noise alone makes it positive; where all experts are worth the same its lower bound is above zero "
        "in 5 % of cases. Intervals are paired, clustered by image.",
    )


def _likeness(likeness: Likeness, report: Report) -> Asked:
    names, values_BB = likeness.benchmarks, np.array(likeness.correlation)
    matrix = correlation_matrix(names, values_BB, tree(values_BB), title="Correlation of benchmarks over designs")
    found = Components(np.array(likeness.places), np.array(likeness.explained))
    groups = {b.name: group_title(b.group) for b in report.benchmarks}
    plane = component_plane(names, found, groups, title="Benchmarks on two principal components")
    return Asked(
        "likeness",
        "Which benchmarks measure the same thing?",
        likeness_note(likeness),
        ((_uri(matrix), "correlation of benchmarks, with their tree"), (_uri(plane), "benchmarks on two components")),
        None,
        "Each benchmark is standardised over the designs; near ones rank the designs alike. The tree joins by average "
        "linkage over 1 - correlation.",
    )


def _uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}"


def _score(interval: Interval) -> tuple[str, str]:
    return percent(interval.mean), bracket(interval)


def _gain(interval: Interval) -> tuple[str, str]:
    return signed(interval.mean), bracket(interval, sign=True)


def flat(words: Words) -> list[Sequence[str]]:
    """The rows with each interval behind its number."""
    return [[name, *(f"{number} {bounds}".strip() for number, bounds in cells)] for name, cells in words.rows]
