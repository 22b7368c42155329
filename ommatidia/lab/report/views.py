"""What each section of the page shows, worked out before the template so that the template only lays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ommatidia.lab.report.figures import cost, whisker
from ommatidia.lab.report.model import BenchmarkInfo, Contribution, DesignRow, Reply, Report
from ommatidia.lab.report.numbers import DASH, duration, percent, plural, scaled
from ommatidia.lab.report.pictures import data_uri
from ommatidia.lab.report.ranking import gaps

GROUP_TITLES = {"ocr_chart": "OCR and charts", "vision_centric": "vision-centric"}
MOST_REPLIES = 8
"""Replies of a card that are open at once; the others fold away."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One number of the strip under the headline."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A row of a ranking table."""

    rank: int
    design: DesignRow
    picture: Markup
    blind: float | None
    gaps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """A ranking table: its heading, one sentence about it, the axis above the images, and its rows."""

    title: str
    note: str
    axis: Markup
    rows: tuple[RankedRow, ...]


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A score, the share of its column's range it reaches (0 to 1), and the words that explain it."""

    text: str
    blind: str
    share: float | None
    best: bool
    title: str


@dataclass(frozen=True, slots=True)
class HeatColumn:
    """A benchmark, or the mean of a group's benchmarks when ``benchmark`` is None."""

    group: str
    benchmark: BenchmarkInfo | None
    guess: str

    @property
    def opens_group(self) -> bool:
        """Whether a group begins here, for the rule between groups."""
        return self.benchmark is None


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Designs by benchmarks. ``groups``: heading and number of columns."""

    groups: tuple[tuple[str, int], ...]
    columns: tuple[HeatColumn, ...]
    rows: tuple[tuple[int, DesignRow, tuple[HeatCell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Trade:
    """One accuracy-against-cost image and its front, cheapest first, as (rank, name, score, cost)."""

    title: str
    picture: Markup
    front: tuple[tuple[int, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class GainTable:
    """Contribution of each expert: the heading axis and (contribution, images: overall then by group)."""

    groups: tuple[str, ...]
    axis: Markup
    rows: tuple[tuple[Contribution, Markup, tuple[Markup | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """One example: image as a data URI (None: text only) and replies in ranking order, the first few apart."""

    benchmark: str
    question: str
    reference: str
    picture: str | None
    shown: tuple[tuple[str, Reply], ...]
    folded: tuple[tuple[str, Reply], ...]
    right: int


def group_title(group: str) -> str:
    """How a benchmark group is written for people."""
    return GROUP_TITLES.get(group, group.replace("_", " "))


def facts(report: Report) -> tuple[Fact, ...]:
    """The strip of numbers: only those that are known."""
    manifest = report.manifest
    questions = sum(b.n for b in report.benchmarks)
    seeds = {s for d in report.designs for s in d.seeds} | set(manifest.seeds)
    found = [
        Fact(str(len(report.designs)), "design" if len(report.designs) == 1 else "designs"),
        Fact(f"{questions:,}".replace(",", " "), f"questions, {plural(len(report.benchmarks), 'benchmark')}"),
        Fact(str(len(seeds)), "seed" if len(seeds) == 1 else "seeds"),
    ]
    if manifest.node_seconds is not None:
        found.append(Fact(duration(manifest.node_seconds), "in all nodes"))
    if manifest.flops_spent is not None:
        found.append(Fact(scaled(manifest.flops_spent, "FLOP"), "spent"))
    if (saved := saved_share(report)) is not None:
        found.append(Fact(f"{percent(saved, digits=0)} %", "of the work shared"))
    return tuple(found)


def saved_share(report: Report) -> float | None:
    """The part of the FLOPs that sharing stages between designs saved."""
    spent, alone = report.manifest.flops_spent, report.manifest.flops_without_sharing
    return None if spent is None or not alone else max(0.0, 1 - spent / alone)


def rankings(report: Report, designs: Sequence[DesignRow]) -> tuple[Ranking, ...]:
    """One table of final designs and one of explored ones, on one axis; failed designs close the last table."""
    axis = whisker.average_axis(designs)
    head = whisker.axis_head(axis, width=whisker.WIDTH)
    finals = [d.average.mean for d in designs if d.final and d.average and d.failed is None]
    means = [d.average.mean for d in designs if d.average and d.failed is None]
    best = max(finals or means, default=None)
    rows = tuple(
        RankedRow(
            rank, d, whisker.average_cell(d, axis, best=best), d.blind_average(report.benchmarks), gaps(d, report)
        )
        for rank, d in enumerate(designs, start=1)
    )
    final = tuple(r for r in rows if r.design.final and r.design.failed is None)
    explored = tuple(r for r in rows if r not in final)
    several = any(len(r.design.seeds) > 1 for r in final)
    rests = "Trained with several seeds: these are the designs that claims may rest on."
    tables = (
        Ranking("Final designs", rests if several else "One seed each: a lead to follow, not a finding.", head, final),
        Ranking(
            "Explored designs", "Tried on the way, most with one seed: a lead to follow, not a finding.", head, explored
        ),
    )
    return tuple(t for t in tables if t.rows)


def heat_map(report: Report, designs: Sequence[DesignRow]) -> HeatMap:
    """Scores by benchmark, with the mean of each group that has several benchmarks."""
    columns: list[HeatColumn] = []
    groups: list[tuple[str, int]] = []
    for group in report.groups:
        members = [b for b in report.benchmarks if b.group == group]
        mean = [HeatColumn(group, None, "")] if len(members) > 1 else []
        columns += mean + [HeatColumn(group, b, percent(b.guess) if b.guess is not None else DASH) for b in members]
        groups.append((group_title(group), len(mean) + len(members)))
    shown = [(rank, d) for rank, d in enumerate(designs, start=1) if d.failed is None and d.scores]
    # The shades are for designs that see: a text-only design far below would make all others look alike.
    seeing = [d for _, d in shown if not d.is_blind_model] or [d for _, d in shown]
    ranges = [[v for d in seeing if (v := _column_value(d, c, report)) is not None] for c in columns]
    rows = tuple(
        (rank, d, tuple(_heat_cell(d, c, values, report) for c, values in zip(columns, ranges))) for rank, d in shown
    )
    return HeatMap(tuple(groups), tuple(columns), rows)


def _column_value(design: DesignRow, column: HeatColumn, report: Report) -> float | None:
    if column.benchmark is not None:
        score = design.scores.get(column.benchmark.name)
        return score.mean if score else None
    members = [b.name for b in report.benchmarks if b.group == column.group]
    if any(name not in design.scores for name in members):
        return None
    return sum(design.scores[name].mean for name in members) / len(members)


def _heat_cell(design: DesignRow, column: HeatColumn, values: Sequence[float], report: Report) -> HeatCell:
    value = _column_value(design, column, report)
    if value is None:
        return HeatCell(DASH, "", None, False, f"{design.name}: not scored")
    low, high = min(values, default=value), max([*values, value])
    blind, title = "", f"{design.name}: mean of {group_title(column.group)}"
    if column.benchmark is not None:
        name = column.benchmark.name
        score = design.scores[name]
        bounds = f" [{percent(score.low)}, {percent(score.high)}]" if score.bounds else ", no interval"
        title = f"{design.name} on {name}: {percent(score.mean)} %{bounds}"
        if name in design.blind:
            blind = percent(design.blind[name])
            title += f"; without the image {blind} %"
    return HeatCell(
        percent(value), blind, max(0.0, (value - low) / (high - low)) if high > low else 0.5, value == high, title
    )


def trades(designs: Sequence[DesignRow]) -> tuple[Trade, ...]:
    """Accuracy against training cost and against inference cost, each where at least two designs have it."""
    kinds: tuple[tuple[str, str, Callable[[DesignRow], float | None]], ...] = (
        ("Training", "training FLOP", lambda d: d.train_flops),
        ("Answering one question", "inference FLOP a question", lambda d: d.flops_per_sample),
    )
    found = []
    for title, axis_title, of in kinds:
        points = cost.points(designs, of)
        if len(points) < 2:
            continue
        picture = cost.accuracy_against_cost(points, axis_title=axis_title, unit="FLOP")
        front = tuple(
            (p.rank, p.design.name, percent(p.score), scaled(p.cost, "FLOP")) for p in cost.pareto_front(points)
        )
        found.append(Trade(title, picture, front))
    return tuple(found)


def gain_table(report: Report) -> GainTable | None:
    """The per-expert table, the largest mean gain first; None when there is nothing to show."""
    if not report.contributions:
        return None
    ordered = sorted(report.contributions, key=lambda c: (-c.gain.mean, c.expert))
    groups = tuple(g for g in report.groups if any(g in c.groups for c in ordered))
    axis = whisker.gain_axis(i for c in ordered for i in (c.gain, *(c.groups[g] for g in groups if g in c.groups)))
    rows = tuple(
        (
            c,
            whisker.gain_cell(c.gain, axis),
            tuple(whisker.gain_cell(c.groups[g], axis) if g in c.groups else None for g in groups),
        )
        for c in ordered
    )
    return GainTable(groups, whisker.axis_head(axis, width=whisker.GAIN_WIDTH, sign=True), rows)


def cards(report: Report, designs: Sequence[DesignRow]) -> tuple[Card, ...]:
    """The example cards, replies in ranking order; designs unknown to the table come last, by name."""
    order = {d.name: place for place, d in enumerate(designs)}
    made = []
    pictures = sum(card.image is not None for card in report.examples)
    for card in report.examples:
        replies = sorted(card.answers.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0]))
        uri = data_uri(card.image, of=pictures) if card.image is not None else None
        right = sum(reply.correct for _, reply in replies)
        shown, folded = tuple(replies[:MOST_REPLIES]), tuple(replies[MOST_REPLIES:])
        made.append(Card(card.benchmark, card.question, card.reference, uri, shown, folded, right))
    return tuple(made)
