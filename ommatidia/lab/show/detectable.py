"""How small a difference between two designs the questions of a plan can show, in words."""

from __future__ import annotations

from ommatidia.core.errors import DataError
from ommatidia.eval.statistics.power import ALIKE, UNLIKE, expected_difference
from ommatidia.lab.nodes.questions import count_questions
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Search

SEED_DEVIATIONS = (0.01, 0.02)
"""What a training seed is taken to move a score by, either way; the quickstart's moved it by 1.8 points."""


def detectable(value: Recipe | Search) -> dict[str, str]:
    """For the two trained models of a comparison, and for two designs over the seeds that a search gives them.

    Each is of two designs compared alone: among many, or as the best of several additions, a difference must be larger
    to be called one. Empty without benchmarks, and where their data is not on this machine.
    """
    recipe = next(iter(value.strategy.first()), None) if isinstance(value, Search) else value
    asked = recipe.benchmarks if recipe is not None else ()
    try:
        counted = {benchmark.name: count_questions(benchmark) for benchmark in asked}
    except DataError:
        return {}
    if not counted or not all(questions for questions, _ in counted.values()):
        return {}
    questions = {name: count for name, (count, _) in counted.items()}
    images = {name: count for name, (_, count) in counted.items()}
    groups = {benchmark.name: str(benchmark.group) for benchmark in asked}

    def points(deviation: float, seeds: int) -> str:
        found = expected_difference(questions, groups, images=images, seed_deviation=deviation, seeds=seeds)
        return f"{100 * found:.1f}"

    about = f"{sum(questions.values()):,} questions about {sum(images.values()):,} images"
    taken = f"answers differ in {UNLIKE:.0%} and correlate by {ALIKE} within an image"
    told = {"detectable difference": f"{points(0.0, 1)} points between two trained models ({about}; {taken})"}
    seeds = len(getattr(value.strategy, "seeds", (0,))) if isinstance(value, Search) else 1
    if seeds > 1:
        found = " or ".join(points(deviation, seeds) for deviation in SEED_DEVIATIONS)
        moved = " or ".join(f"{100 * deviation:g}" for deviation in SEED_DEVIATIONS)
        told["with seeds"] = f"{found} points between two designs of {seeds} seeds, where a seed moves {moved} points"
    else:
        told["with seeds"] = "not known: one seed a design cannot tell what training again changes"
    return told
