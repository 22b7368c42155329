"""Strategies as what they are: pure functions from finished trials to the next recipes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from lab_toys import APPEND, COARSE, CONCAT, FINE, POOL, recipe
from made_up_trials import by_experts, carry_out, trial

from ommatidia.core.errors import ConfigError
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.trial import Trial, best_design, by_design
from ommatidia.lab.search import FullGrid, RoundRobin, Singles, Space, Strategy

Experts = tuple[str, ...]
# vit is the best single expert, coarse adds 30 to it, and fine nothing.
TABLE = {
    (): 10,
    ("coarse",): 20,
    ("fine",): 25,
    ("vit",): 40,
    ("vit", "coarse"): 70,
    ("vit", "fine"): 50,
    ("vit", "coarse", "fine"): 70,
}


def round_robin(**fields: Any) -> RoundRobin:
    return RoundRobin(**{"recipe": recipe("coarse", "fine"), "pool": POOL, **fields})


def sets(trials: list[Trial]) -> list[Experts]:
    return [tuple(t.recipe.model.encoders) for t in trials]


def test_the_path_of_a_search() -> None:
    strategy = round_robin()
    trials = carry_out(strategy, by_experts(TABLE))
    path, waiting = strategy.rounds(trials)
    assert waiting == ()
    assert [(r.base, r.kept) for r in path] == [((), "vit"), (("vit",), "coarse"), (("vit", "coarse"), None)]
    assert [r.decision for r in path] == ["choice", "lead", "not shown"]
    assert path[0].reason == "vit scored highest of 3 single experts: a choice with one seed, not a test"
    assert path[1].reason.startswith("coarse adds +30.0 points (90 % interval +")
    assert path[1].reason.endswith(
        "p < 0.001, adjusted for 2 additions): a lead, since one seed cannot show what training again would change"
    )
    assert path[2].reason.startswith("fine adds +0.0 points (90 % interval −")
    assert path[2].reason.endswith("): not shown to add anything, so the search stops")
    assert [c.expert for c in path[1].tried] == ["coarse", "fine"]
    gains = {c.expert: c.gain.gain.mean for c in path[1].tried if c.gain is not None}
    assert gains == pytest.approx({"coarse": 0.3, "fine": 0.1})
    assert sets(trials) == [
        (), ("coarse",), ("fine",), ("vit",), ("vit", "coarse"), ("vit", "fine"), ("vit", "coarse", "fine")
    ]  # fmt: skip


def test_a_first_proposal_holds_the_blind_model_and_every_single_expert() -> None:
    first = round_robin().propose([])
    assert [one.label() for one in first] == ["blind", "coarse", "fine", "vit"]
    assert first == round_robin().first()
    assert [one.label() for one in round_robin(blind=False).first()] == ["coarse", "fine", "vit"]
    started = round_robin(start=("fine", "vit")).first()
    assert [one.label() for one in started] == ["blind", "fine + vit · channel_concat"]


def test_a_gain_within_noise_stops_the_search() -> None:
    small = TABLE | {("vit", "coarse"): 41}
    path, _ = round_robin().rounds(carry_out(round_robin(), by_experts(small | {("vit", "fine"): 40})))
    assert path[-1].base == ("vit",)
    assert path[-1].kept is None
    assert "coarse adds +1.0 points" in path[-1].reason
    assert "not shown to add anything" in path[-1].reason
    # The same gain counts when less certainty is asked for.
    lax = round_robin(confidence=0.8)
    path, _ = lax.rounds(carry_out(lax, by_experts(small | {("vit", "fine"): 40})))
    assert path[1].kept == "coarse"


def test_a_search_ends_when_experts_or_places_are_used_up() -> None:
    growing = by_experts({}, default=0)

    def more(one: Recipe) -> int:
        return 20 + 25 * len(one.model.encoders) if one.model.encoders else growing(one)

    whole = round_robin()
    path, _ = whole.rounds(carry_out(whole, more))
    assert [r.kept for r in path] == ["coarse", "fine", "vit", None]
    assert path[-1].reason == "no expert is left"
    two = round_robin(max_experts=2)
    path, _ = two.rounds(carry_out(two, more))
    assert [r.kept for r in path] == ["coarse", "fine", None]
    assert path[-1].reason == "2 experts is the most this search allows"
    started = round_robin(start=("vit", "fine"), max_experts=2)
    trials = carry_out(started, more)
    assert sets(trials) == [(), ("vit", "fine")]


def test_the_budget_ends_a_search() -> None:
    strategy = round_robin(max_trials=4)
    trials = carry_out(strategy, by_experts(TABLE))
    path, _ = strategy.rounds(trials)
    assert path[-1].reason == "the budget of 4 trials ended"
    assert len(trials) == 4


def test_failed_candidates_are_left_out_and_the_search_goes_on() -> None:
    strategy = round_robin(seeds=(0, 1))
    trials = carry_out(strategy, by_experts(TABLE), failing=[("vit",), ("fine", "coarse")])
    path, _ = strategy.rounds(trials)
    assert [r.kept for r in path][:1] == ["fine"]
    assert [c.expert for c in path[0].tried] == ["coarse", "fine"]
    assert [c.expert for c in path[1].tried] == ["vit"]
    assert ("vit",) not in sets([t for t in trials if not t.error])


def test_a_search_in_which_everything_fails_ends() -> None:
    strategy = round_robin(seeds=(0, 1))
    singles: list[Experts] = [("coarse",), ("fine",), ("vit",)]
    trials = carry_out(strategy, by_experts(TABLE), failing=singles)
    path, _ = strategy.rounds(trials)
    assert path[-1].reason == "every addition failed"
    started = round_robin(start=("vit",))
    path, _ = started.rounds(carry_out(started, by_experts(TABLE), failing=[("vit",)]))
    assert path[-1].reason == "the base set failed: the loss is nan"


def test_the_winner_is_tried_with_each_variant() -> None:
    strategy = round_robin(variants={"append": {"model.fusion": APPEND}, "deep": {"model.projector": "mlp"}})
    trials = carry_out(strategy, by_experts(TABLE))
    last = {t.recipe.name: t.recipe for t in trials[-2:]}
    assert list(last) == ["vit + coarse · sequence_append", "vit + coarse · channel_concat (deep)"]
    append, deep = last.values()
    assert append.model.fusion.to_dict()["kind"] == "sequence_append"
    assert append.model.tokens_per_view == 8
    assert deep.model.projector.to_dict()["kind"] == "mlp"
    assert tuple(append.model.encoders) == ("vit", "coarse")


def test_one_expert_has_nothing_to_fuse() -> None:
    strategy = round_robin(variants={"append": {"model.fusion": APPEND}}, max_experts=1)
    assert ("vit",) in sets(trials := carry_out(strategy, by_experts(TABLE)))
    assert not any(t.recipe.model.fusion.to_dict()["kind"] == APPEND["kind"] for t in trials)


def test_what_is_on_the_final_table_has_every_seed() -> None:
    strategy = round_robin(seeds=(3, 5, 8), finalists=2, variants={"append": {"model.fusion": APPEND}})
    trials = carry_out(strategy, by_experts(TABLE))
    finals = strategy.final_designs(trials)
    # The kept sets, the variant and the blind model; the two best explored ones are among them.
    assert [one.label() for one in finals] == [
        "blind",
        "vit",
        "vit + coarse · channel_concat",
        "vit + coarse · sequence_append",
        "vit + coarse + fine · channel_concat",
    ]
    seeds = {design: [t.recipe.seed for t in group] for design, group in by_design(trials).items()}
    for one in finals:
        assert {3, 5, 8} <= set(seeds.pop(one.design()))
    # An addition that looked worse was trained again once, until the round was decided.
    assert set(map(tuple, seeds.values())) == {(3,), (3, 5)}
    assert strategy.propose(trials) == ()
    assert strategy.choosing_seeds == (3,)
    assert Singles(recipe=recipe("coarse"), pool={"coarse": COARSE}).choosing_seeds == ()


def test_the_order_in_which_trials_finished_does_not_matter() -> None:
    strategy = round_robin(seeds=(0, 1), variants={"append": {"model.fusion": APPEND}})
    trials = carry_out(strategy, by_experts(TABLE))
    shuffled = trials.copy()
    random.Random(0).shuffle(shuffled)
    assert strategy.propose(shuffled) == ()
    ours, theirs = strategy.rounds(trials)[0], strategy.rounds(shuffled)[0]
    assert [(r.base, r.kept, r.reason) for r in ours] == [(r.base, r.kept, r.reason) for r in theirs]
    digests = {one.digest() for one in strategy.final_designs(trials)}
    assert digests == {one.digest() for one in strategy.final_designs(shuffled)}


def test_a_search_goes_on_from_any_part_of_its_trials() -> None:
    strategy = round_robin(seeds=(0, 1), variants={"append": {"model.fusion": APPEND}})
    trials = carry_out(strategy, by_experts(TABLE))
    whole = {t.recipe.digest() for t in trials}
    for kept in range(len(trials)):
        waiting = {one.digest() for one in strategy.propose(trials[:kept])}
        done = {t.recipe.digest() for t in trials[:kept]}
        assert waiting
        assert waiting <= whole - done


def test_the_horizon_is_no_smaller_than_the_search() -> None:
    strategy = round_robin(seeds=(0, 1), variants={"append": {"model.fusion": APPEND}})
    trials = carry_out(strategy, by_experts(TABLE))
    horizon = strategy.horizon()
    assert len({one.digest() for one in horizon}) == len(horizon) >= len(trials)
    assert {one.digest() for one in strategy.first()} <= {one.digest() for one in horizon}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": ("clip",)}, "start: unknown expert 'clip'"),
        ({"pool": {}}, "pool: no experts to choose from"),
        ({"seeds": ()}, "seeds"),
        ({"confidence": 1.0}, "confidence"),
        ({"seeds": (0, 1, 0)}, "seeds: each once, got 0, 1, 0"),
    ],
)
def test_a_search_that_cannot_start_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        round_robin(**fields)


def test_singles_are_every_expert_for_every_seed() -> None:
    strategy = Singles(recipe=recipe("coarse"), pool={"coarse": COARSE, "fine": FINE}, seeds=(0, 7))
    first = strategy.propose([])
    assert [(one.label(), one.seed) for one in first] == [
        ("blind", 0), ("coarse", 0), ("fine", 0), ("blind", 7), ("coarse", 7), ("fine", 7)
    ]  # fmt: skip
    done = [trial(one, 5) for one in first[:4]]
    assert strategy.propose(done) == first[4:]
    assert carry_out(strategy, by_experts({})) != []
    assert len(Singles(recipe=recipe("coarse"), pool={"coarse": COARSE}, blind=False).first()) == 1


def test_a_full_grid_is_every_combination_and_refuses_the_impossible_by_name() -> None:
    space = Space(
        recipe=recipe("coarse", "fine"),
        axes={
            "model.fusion.kind": ("channel_concat", "sequence_append"),
            "model.fusion.grid": ([2, 2], [3, 3]),
            "stages.2.steps": (2, 4),
        },
    )
    strategy = FullGrid(space=space, seeds=(0, 1))
    first = strategy.propose([])
    assert len(first) == len({one.digest() for one in first}) == 2 * 1 * 2 * 2
    assert {one.stages[2].steps for one in first} == {2, 4}
    assert first[0].name == "kind=channel_concat, grid=[2, 2], steps=2"
    refused = strategy.refused()
    assert len(refused) == 4
    assert refused[0].startswith("kind=channel_concat, grid=[3, 3], steps=2: ")
    assert "encoder 'coarse'" in refused[0]
    assert "3x3" in refused[0]
    assert len(carry_out(strategy, by_experts({}))) == 8


def test_a_strategy_comes_back_from_plain_data() -> None:
    for strategy in (
        round_robin(variants={"append": {"model.fusion": APPEND}}),
        Singles(recipe=recipe("coarse"), pool={"coarse": COARSE}),
        FullGrid(space=Space(recipe=recipe("coarse", "fine"), axes={"model.fusion": (CONCAT, APPEND)})),
    ):
        back = Strategy.parse(strategy.to_dict())
        assert back == strategy
        assert [r.digest() for r in back.first()] == [r.digest() for r in strategy.first()]


def test_the_best_design_is_chosen_among_those_with_every_seed() -> None:
    lucky, steady = recipe("coarse"), recipe("fine")
    trials = [trial(lucky, 90), trial(steady, 60), trial(steady.seeded(1), 70), trial(recipe("vit"), 0, error="nan")]
    assert [t.recipe.label() for t in best_design(trials)] == ["fine", "fine"]
    assert trials[1].average == pytest.approx(0.6)
    assert trials[3].average != trials[3].average  # a failed trial has no average


def test_a_list_is_every_design_for_every_seed_and_nothing_twice() -> None:
    first, second = recipe("coarse"), recipe("fine")
    strategy = Strategy.parse({"kind": "listed", "recipes": [first.to_dict(), second.to_dict()], "seeds": [0, 1]})
    assert [(r.design(), r.seed) for r in strategy.first()] == [
        (first.design(), 0), (second.design(), 0), (first.design(), 1), (second.design(), 1)
    ]  # fmt: skip
    assert strategy.propose([]) == strategy.first()
