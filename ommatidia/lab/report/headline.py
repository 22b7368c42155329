"""The verdict of a table in sentences, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ommatidia.lab.report.numbers import p_value, plural, signed
from ommatidia.lab.report.standing import Group, Standing


def headline(best: Group, finals: Sequence[Group], standing: Standing, names: Mapping[str, str]) -> list[str]:
    """The best design, its lead over the best single expert (or mixture), and over seeing nothing."""
    if not best:
        return ["No design finished."]
    lines = [f"{names[best[0].design]} is best: {_score(best, standing)}."]
    mixed = len(best[0].recipe.model.encoders) > 1
    compared = [g for g in finals if g[0].design in standing.against_best]
    rivals = [g for g in compared if g[0].recipe.model.encoders and (len(g[0].recipe.model.encoders) > 1) != mixed]
    if rivals:
        rival = max(rivals, key=lambda group: standing.averages[group[0].design].mean)
        whom = "the best single expert" if mixed else "the best mixture"
        lines.append(_versus(rival, standing, f"{whom}, {names[rival[0].design]}"))
    blind = [g for g in compared if not g[0].recipe.model.encoders]
    if blind:
        lines.append(_versus(blind[0], standing, "the blind model"))
    return lines


def _score(best: Group, standing: Standing) -> str:
    """Of the best design; where having been chosen flatters it, what is left without that, and what was observed."""
    whole, corrected = standing.averages[best[0].design], standing.corrected
    score, observed = f"{100 * whole.mean:.1f} %", ""
    if corrected is not None and f"{100 * corrected.mean:.1f} %" != score:
        score, observed = f"{100 * corrected.mean:.1f} %", f", observed {score}"
    low, high = (corrected or whole).low, (corrected or whole).high
    return (
        f"{score} (95 % interval {100 * low:.1f} to {100 * high:.1f} {_over(standing)}, "
        f"{_seeds(whole.seeds)}{observed})"
    )


def _versus(other: Group, standing: Standing, whom: str) -> str:
    found = standing.against_best[other[0].design]
    lead, interval = -found.estimate.mean, found.interval
    numbers = (
        f"{signed(lead)} points (95 % interval {signed(-interval.high)} to {signed(-interval.low)}, "
        f"{p_value(found.p_value)}, {interval.n} questions, {_seeds(interval.seeds)})"
    )
    if found.verdict != "cannot tell apart":
        return f"Against {whom}: {numbers}."
    margin, least = found.estimate.equality_margin(), found.estimate.detectable()
    return (
        f"Against {whom}: {numbers}; the two cannot be told apart. They are equal within {100 * margin:.1f} points; "
        f"such a comparison by itself finds {100 * least:.1f} points four times in five."
    )


def vocabulary(standing: Standing, designs: int, choosing: Sequence[int]) -> tuple[str, ...]:
    """What the numbers of the ranking are about: one sentence each."""
    noise = standing.noise
    lines = [f"Interval: where a design's score lies, with 95 % confidence, {_over(standing)}."]
    if noise.known:
        low, high = noise.deviation_interval()
        lines.append(
            f"Training again with another seed moves a score by a standard deviation of {100 * noise.deviation:.1f} "
            f"points (95 % interval {100 * low:.1f} to {100 * high:.1f}, from {plural(noise.designs, 'design')} with "
            "several seeds). It is taken as the same for all designs."
        )
    else:
        lines.append(
            "No design was trained with several seeds, so what training again would change is not known: intervals "
            "and verdicts hold for these trained models, not for their designs."
        )
    if choosing and noise.known:
        seeds = ", ".join(map(str, choosing))
        lines.append(
            f"Scores of designs that were trained again leave out seed {seeds}, by which they were chosen; differences "
            "are over all seeds."
        )
    if designs > 1:
        lines.append(
            f"Against the best: difference, interval and p are adjusted for all pairs of the {designs} designs. Of "
            "tables of equal designs, 5 % call any of them behind."
        )
        lines.append(
            "Equal within: the smallest margin at which two one-sided tests at 5 % show the two designs to be equal."
        )
    if standing.candidates > 1:
        lines.append(
            f"The best design's own score and interval allow for its having been chosen as the best of "
            f"{standing.candidates}; the table ranks designs by the scores observed."
        )
    return tuple(lines)


def _over(standing: Standing) -> str:
    return "over questions and training" if standing.noise.known else "over questions alone"


def _seeds(count: int) -> str:
    return plural(count, "seed")
