"""The rounds of a greedy search with fresh seeds: what is trained again, what is kept, and what changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from lab_toys import APPEND, POOL, recipe
from made_up_trials import QUESTIONS, carry_out, trial

from ommatidia.core.errors import RunError
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.report.greedy_path import greedy_rounds
from ommatidia.lab.report.greedy_words import gains_note, look_lines, outcome
from ommatidia.lab.run.record import SearchSeeds
from ommatidia.lab.run.trial import Trial, best_design
from ommatidia.lab.search import RoundRobin
from ommatidia.lab.search.decisions import noise_of, scores_of
from ommatidia.lab.search.rounds import Round

Experts = tuple[str, ...]
TABLE = {(): 10, ("coarse",): 20, ("fine",): 25, ("vit",): 40, ("vit", "coarse"): 44, ("vit", "fine"): 40}
STEADY = TABLE | {("vit", "coarse"): 70, ("vit", "coarse", "fine"): 70}


def strategy(**fields: Any) -> RoundRobin:
    return RoundRobin(**{"recipe": recipe("coarse", "fine"), "pool": POOL, "seeds": (0, 1, 2), **fields})


def answers(table: Mapping[Experts, int], changes: Mapping[tuple[Experts, int], int]) -> Callable[[Recipe], int]:
    """Right answers by set; ``changes``: of a set in one seed."""

    def right(one: Recipe) -> int:
        experts = tuple(one.model.encoders)
        return changes.get((experts, one.seed), table.get(experts, 10))

    return right


def trained(trials: list[Trial]) -> dict[Experts, list[int]]:
    found: dict[Experts, list[int]] = {}
    for one in trials:
        found.setdefault(tuple(one.recipe.model.encoders), []).append(one.recipe.seed)
    return found


def facts(path: list[Round]) -> list[tuple[Any, ...]]:
    looks = [[(look.expert, look.runs, look.base_runs, look.addition.p_value) for look in one.looks] for one in path]
    return [(one.base, one.kept, one.decision, one.reason, seen) for one, seen in zip(path, looks, strict=True)]


def test_a_clear_gain_is_kept_after_one_fresh_seed_and_the_base_is_trained_more_often() -> None:
    search = strategy(finalists=1, blind=False, max_experts=2)
    path, waiting = search.rounds(trials := carry_out(search, answers(STEADY, {})))
    assert waiting == ()
    assert [(one.base, one.kept, one.decision) for one in path[:2]] == [
        ((), "vit", "choice"), (("vit",), "coarse", "kept")
    ]  # fmt: skip
    assert [(look.runs, look.base_runs) for look in path[1].looks] == [(1, 1), (2, 3)]
    assert path[1].looks[0].error == 0.0
    assert path[1].looks[1].error == pytest.approx(0.05 * 0.05)
    assert path[1].reason.endswith("kept after 1 fresh seed")
    assert "99.5 % interval" in path[1].reason
    # The base has more runs than the best design, which is found all the same.
    assert [t.recipe.label() for t in best_design(trials, SearchSeeds(search.seeds))] == [
        recipe("vit", "coarse").label()
    ] * 3
    # Two additions: the base has two fresh seeds for each one of theirs.
    assert trained(trials)[("vit",)] == [0, 1, 2]
    assert trained(trials)[("vit", "fine")] == [0, 1]


def test_the_page_tells_a_round_look_by_look() -> None:
    search = strategy(finalists=1, blind=False, max_experts=2)
    rounds, stop = greedy_rounds(search, carry_out(search, answers(STEADY, {})))
    assert stop == "2 experts is the most this search allows"
    assert [one.word for one in rounds] == ["choice", "kept"]
    assert [look_lines(one) for one in rounds[:1]] == [()]
    assert look_lines(rounds[1]) == (
        "After the exploring seed: coarse ahead with +30.0 points, p < 0.001; this only says what to train again.",
        "After 1 fresh seed (2 runs of it and 3 of the base): coarse ahead with +30.0 points, p < 0.001; kept below "
        "0.0025.",
    )
    assert gains_note(rounds[1]).startswith("Gains over the base: 99.5 % intervals and one-sided p, adjusted for all 2")
    kept, other = rounds[1].tried
    assert (kept.expert, outcome(kept, rounds[1]), kept.runs, outcome(other, rounds[1])) == ("coarse", "kept", 2, "")
    # The lower end of the adjusted interval is above zero exactly where p is below what the look may spend.
    for each in rounds[1].tried:
        assert each.gain is not None
        assert each.gain.low is not None
        assert each.p is not None
        assert (each.gain.low > 0) == (each.p < rounds[1].looks[-1].error)


def test_where_the_seeds_run_out_the_base_takes_the_next_integers() -> None:
    search = strategy(seeds=(1, 4), finalists=1, blind=False)
    found = trained(carry_out(search, answers(TABLE, {})))
    assert found[("vit",)] == [1, 4, 0]
    assert found[("vit", "coarse")] == [1, 4]


def test_luck_of_the_exploring_seed_is_found_out() -> None:
    lucky = {(("vit", "coarse"), 0): 60, (("vit", "coarse"), 1): 20}
    search = strategy(seeds=(0, 1))
    path, _ = search.rounds(carry_out(search, answers(TABLE, lucky)))
    assert path[-1].decision == "stopped early"
    assert path[-1].reason.endswith("no addition is ahead of the base after 1 fresh seed, so the search stops early")
    alone = strategy(seeds=(0,), max_experts=2)
    path, _ = alone.rounds(carry_out(alone, answers(TABLE, lucky)))
    assert (path[1].kept, path[1].decision) == ("coarse", "lead")


def test_a_small_gain_is_followed_to_the_last_look() -> None:
    noisy = {((*experts,), seed): 40 + 4 * (seed % 2) for experts in (("vit",), ("vit", "coarse")) for seed in range(9)}
    search = strategy(blind=False)
    path, _ = search.rounds(carry_out(search, answers(TABLE, noisy | {(("vit", "coarse"), 0): 44})))
    assert path[-1].decision == "not shown"
    assert [(look.runs, look.base_runs) for look in path[-1].looks] == [(1, 1), (2, 3), (3, 5)]
    assert path[-1].looks[-1].error == pytest.approx(0.05 * 0.95)
    assert "adjusted for 2 additions" in path[-1].reason


def test_what_is_trained_later_changes_no_round() -> None:
    search = strategy(variants={"append": {"model.fusion": APPEND}})
    trials = carry_out(search, answers(STEADY, {}))
    before = facts(search.rounds(trials)[0])
    later = [
        trial(search.design(experts, seed=seed), 99, error="lost" if seed == 8 else None)
        for experts in (("vit",), ("vit", "coarse"), ("vit", "fine"), ("fine",))
        for seed in range(3, 9)
    ]
    done = {one.recipe.digest() for one in trials}
    again = [*trials, *(one for one in later if one.recipe.digest() not in done)]
    assert len(again) > len(trials)
    assert facts(search.rounds(again)[0]) == before
    assert facts(search.rounds(again[::-1])[0]) == before
    assert search.propose(again) == ()


def failing(search: RoundRobin, broken: set[tuple[Experts, int]]) -> list[Trial]:
    trials: list[Trial] = []
    right = answers(STEADY, {})
    while recipes := search.propose(trials):
        for one in recipes:
            lost = (tuple(one.model.encoders), one.seed) in broken
            trials.append(trial(one, right(one), error="the loss is nan" if lost else None))
        assert len(trials) < 60
    return trials


def test_an_addition_that_fails_with_a_fresh_seed_is_out_and_a_base_ends_the_search() -> None:
    search = strategy()
    path, _ = search.rounds(failing(search, {(("vit", "coarse"), 1)}))
    assert (path[1].kept, path[1].looks[1].expert) == (None, "fine")
    both = {(("vit", "coarse"), 1), (("vit", "fine"), 1)}
    path, _ = search.rounds(failing(search, both))
    assert path[1].reason.endswith("every addition that was to be trained again failed, so the search stops")
    path, _ = search.rounds(failing(search, {(("vit",), 2)}))
    assert path[1].reason == "the base set failed with seed 2: the loss is nan"
    assert (path[1].decision, path[1].kept, len(path[1].tried)) == ("undecided", None, 2)


def test_a_budget_that_ends_inside_a_round_leaves_it_undecided() -> None:
    search = strategy(max_trials=8, blind=False, finalists=1)
    trials = carry_out(search, answers(STEADY, {}))
    path, waiting = search.rounds(trials)
    assert waiting == ()
    assert (path[-1].decision, path[-1].reason) == ("undecided", "the budget of 8 trials ended")
    assert [c.expert for c in path[-1].tried] == ["coarse", "fine"]
    # The finalists' seeds, which came later, do not decide what the budget left open.
    assert {0, 1, 2} <= set(trained(trials)[("vit",)])


@pytest.mark.parametrize("fields", [{"seeds": (0, 1), "start": ("vit",)}, {"contenders": 1, "finalists": 5}])
def test_the_horizon_counts_every_run_of_confirmation(fields: dict[str, Any]) -> None:
    search = strategy(**fields)
    noisy = {
        (experts, seed): 40 + 6 * len(experts) + 9 * (seed % 2)
        for experts in (("vit",), ("vit", "coarse"), ("vit", "fine"), ("vit", "coarse", "fine"))
        for seed in range(9)
    }
    trials = carry_out(search, answers(STEADY, noisy))
    assert len(search.horizon()) >= len(trials)


def test_the_noise_of_finished_trials_is_one_object() -> None:
    one, two = recipe("coarse"), recipe("fine")
    trials = [trial(one.seeded(seed), count) for seed, count in enumerate((40, 50))]
    trials += [trial(two, 30), trial(recipe("vit"), 0, error="the loss is nan")]
    noise = noise_of(trials)
    assert (noise.designs, noise.within.freedom) == (1, 1)
    assert noise.within.raw == pytest.approx(np.var([0.4, 0.5], ddof=1))
    assert not noise_of(trials[1:]).known
    scores = scores_of({"a": trials[:2], "b": trials[2:3]})
    assert scores.means == pytest.approx([0.4, 0.5, 0.3])
    assert scores.questions == 2 * QUESTIONS
    shorter = recipe("fine", benchmarks=recipe("fine").to_dict()["benchmarks"][:1])
    with pytest.raises(RunError, match="unlike benchmarks"):
        scores_of({"a": trials[:1], "b": [trial(shorter, 30)]})
