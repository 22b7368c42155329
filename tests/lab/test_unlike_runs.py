"""Runs that cannot be compared with the others are named and left out; the search goes on and the page stands."""

from __future__ import annotations

from dataclasses import replace

from lab_toys import recipe, round_robin
from made_up_trials import carry_out, trial

from ommatidia.eval.scored import Scored
from ommatidia.lab.run.trial import Trial, comparable, told_apart


def torn(one: Trial) -> Trial:
    """The trial without a verdict on its last question of every benchmark."""
    scored = {key: replace(s, scores=s.scores[:-1], units=s.units[:-1]) for key, s in one.scored.items()}
    return replace(one, scored=scored)


def test_a_run_without_a_verdict_is_named_and_its_design_stays() -> None:
    seeds = [trial(recipe("coarse").seeded(seed), 50) for seed in (0, 1)]
    other = [trial(recipe("fine").seeded(seed), 40) for seed in (0, 1)]
    kept, lines = comparable([seeds[0], torn(seeds[1]), *other])
    assert kept == [seeds[0], *other]
    assert len(lines) == 1
    assert lines[0].startswith("coarse, seed 1, is left out: ")
    assert "unlike samples" in lines[0]
    assert comparable([*seeds, *other]) == ([*seeds, *other], [])
    # Of a design whose every run is torn the runs stay: it has a score of its own, and is compared with nobody.
    kept, lines = comparable([*map(torn, seeds), *other])
    assert (len(kept), lines) == (4, [])


def test_a_round_robin_goes_on_without_the_run() -> None:
    search = round_robin()
    plain = carry_out(search.strategy, lambda recipe: 30 + 5 * len(recipe.model.encoders))
    alone = next(n for n, one in enumerate(plain) if len(one.recipe.model.encoders) == 1)
    broken = [torn(one) if n == alone else one for n, one in enumerate(plain)]
    apart = told_apart(broken)
    assert [n for n, one in enumerate(apart) if one.error] == [alone]
    assert "not comparable with the other designs" in (apart[alone].error or "")
    search.strategy.propose(broken)
    assert all(isinstance(scored, Scored) for one in apart if not one.error for scored in one.full)
