"""The numbers at the head of a report, from trials made by hand: each has one right value."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab_toys import COARSE, FINE, POOL, benchmark, recipe
from made_up_trials import trial

from ommatidia.eval.statistics import Estimate, estimate, noise_model
from ommatidia.lab.drive import _ranking
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.price import Price
from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.report.asked import likeness_of
from ommatidia.lab.report.collect import report_of
from ommatidia.lab.report.contributions import contributions
from ommatidia.lab.report.markdown import render_markdown
from ommatidia.lab.report.model import Report
from ommatidia.lab.report.ranking import ranked
from ommatidia.lab.report.table_csv import render_csv
from ommatidia.lab.report.views import facts, saved_share
from ommatidia.lab.run.plan import Plan, plan_trial
from ommatidia.lab.run.record import SearchRecord
from ommatidia.lab.run.recorder import record_trial
from ommatidia.lab.run.trial import Trial, average_of, best_design, scores_of
from ommatidia.lab.saved.scoring import score_table
from ommatidia.lab.search import Search
from ommatidia.models.cost import cost_by_part

WIDE = {"one": 60, "two": 60, "three": 40}
"""Right answers of a hundred: 53.3 over benchmarks, 50.0 over groups."""
DEEP = {"one": 40, "two": 40, "three": 65}
"""48.3 over benchmarks, 52.5 over groups."""
NONE = {"one": 8, "two": 8, "three": 4}
BLIND = {"one": 10, "two": 30, "three": 40}
"""26.7 over benchmarks, 30.0 over groups."""


def three(*experts: str, **changes: Any) -> Recipe:
    """The tiny recipe with two benchmarks in one group and one in another."""
    benchmarks = [benchmark("attributes", g) | {"name": n} for n, g in zip(WIDE, ("general", "general", "ocr_chart"))]
    return recipe(*experts, benchmarks=benchmarks, **changes)


def carried_out() -> tuple[Search, list[Trial]]:
    """A round robin over two experts; its second round ends it."""
    strategy = {
        "kind": "round_robin",
        "recipe": three("coarse", "fine").to_dict(),
        "pool": {"coarse": COARSE, "fine": FINE},
    }
    search = Search.parse({"name": "tiny", "strategy": strategy})
    counts = {(): NONE, ("coarse",): WIDE, ("fine",): DEEP}
    trials: list[Trial] = []
    while recipes := search.strategy.propose(trials):
        trials += [trial(r, counts.get(tuple(r.model.encoders), NONE), blind=BLIND) for r in recipes]
    return search, trials


def difference(a: list[Trial], b: list[Trial]) -> Estimate:
    """One design less another, by the two alone."""
    scores = scores_of([*a, *b])
    weights_R = scores.mean_of(a[0].design) - scores.mean_of(b[0].design)
    return estimate(scores, weights_R, noise_model(scores), bounds=(-1.0, 1.0))


def page(search: Search, trials: list[Trial], folder: Path) -> Report:
    record = SearchRecord(name="tiny", command="omma", definition=search.to_dict())
    return report_of(record, trials, Store(folder / "store"))


def test_designs_are_ranked_by_the_mean_of_their_groups_means_everywhere(tmp_path: Path) -> None:
    search, trials = carried_out()
    deep = next(t for t in trials if tuple(t.recipe.model.encoders) == ("fine",))
    wide = next(t for t in trials if tuple(t.recipe.model.encoders) == ("coarse",))
    assert (deep.average, wide.average) == (pytest.approx(0.525), pytest.approx(0.5))
    for one in (deep, wide):
        assert average_of([one]).mean == pytest.approx(one.average)
    assert difference([deep], [wide]).mean == pytest.approx(0.025)
    # The search keeps the expert that the groups prefer, and so do its best design, the page and every table.
    assert any(tuple(t.recipe.model.encoders) == ("fine", "coarse") for t in trials)
    assert not any(tuple(t.recipe.model.encoders) == ("coarse", "fine") for t in trials)
    assert best_design(trials) == [deep]
    report = page(search, trials, tmp_path)
    assert report.headline[0].startswith("fine is best: 52.5 %")
    assert report.rounds[0].decision.startswith("fine scored highest of 2 single experts: a choice")
    rows = list(csv.DictReader(io.StringIO(render_csv(report))))
    assert [(row["name"], float(row["average"])) for row in rows[:2]] == [
        ("fine", pytest.approx(0.525)), ("coarse", pytest.approx(0.5))
    ]  # fmt: skip
    assert float(rows[1]["difference"]) == pytest.approx(-0.025)
    assert [float(row["average:blind"]) for row in rows[:2]] == [pytest.approx(0.3)] * 2
    assert re.search(r"^\| 1 \| fine \| final, one seed.* \| best \| 52\.5 \[", render_markdown(report), re.MULTILINE)
    assert [row[0] for row in _ranking(trials)[2][:2]] == ["fine", "coarse"]
    assert _ranking(trials)[2][0][2] == "52.5"
    last = score_table(deep.scored)[2][-1]
    assert (last[0], last[1]) == ("average", "52.5")


def seeded(experts: tuple[str, ...], counts: tuple[int, ...], *, price: float = 0.0) -> list[Trial]:
    """One design over some seeds."""
    made = [trial(recipe(*experts).seeded(seed), count) for seed, count in enumerate(counts)]
    return [replace(t, price=Price(flops=price * (n + 1)), seconds=10.0 * (n + 1)) for n, t in enumerate(made)]


def listed(trials: list[Trial]) -> Search:
    strategy = {"kind": "listed", "recipes": [t.recipe.to_dict() for t in trials]}
    return Search.parse({"name": "tiny", "strategy": strategy})


def test_rows_of_several_seeds_and_of_one(tmp_path: Path) -> None:
    best = seeded(("fine",), (60, 50), price=100.0)
    near = seeded(("vit",), (58, 50))
    lucky = seeded(("coarse", "fine"), (70,))  # explored with one seed: no design to claim anything by
    far = seeded(("coarse",), (20, 22))
    blind = seeded((), (5, 5))
    trials = [*best, *near, *lucky, *far, *blind]
    assert best_design(trials) == best
    assert best_design(trials, mixtures=True) == lucky
    report = page(listed(trials), trials, tmp_path)
    rows = {row.name: row for row in report.designs}
    assert {name: row.final for name, row in rows.items() if not row.final} == {lucky[0].recipe.label(): False}
    # Final designs come first, though the explored one scored higher.
    assert [row.name for row in ranked(report.designs)] == ["fine", "vit", "coarse", "blind", lucky[0].recipe.label()]
    row = rows["fine"]
    assert row.average is not None
    assert (row.average.mean, row.seed_averages) == (pytest.approx(0.55), {0: 0.6, 1: 0.5})
    assert (row.train_flops, row.train_seconds) == (150.0, 15.0)
    assert row.scores["counts"].mean == pytest.approx(0.55)
    # A design of one seed is compared with the mean of the best one's seeds, and borrows what seeds are worth.
    verdict = rows[lucky[0].recipe.label()].versus_best
    assert verdict is not None
    assert verdict.difference is not None
    assert (verdict.outcome, verdict.difference.mean) == ("tie", pytest.approx(0.15))
    # One rule, adjusted for all pairs of the table: an interval leaves zero out exactly where p says so.
    compared = [one.versus_best for one in rows.values() if one.versus_best and one.versus_best.outcome != "best"]
    assert len(compared) == 4
    for one in compared:
        assert one.difference is not None
        assert one.difference.bounds is not None
        assert one.p is not None
        low, high = one.difference.bounds
        assert (one.p < 0.05) == (low > 0 or high < 0) == (one.outcome != "tie")
        assert (one.equal_within is None) == (one.outcome != "tie")
    # The headline claims by final designs alone: there is no final mixture, so none is named.
    assert report.headline[0].startswith("fine is best: 5")
    assert "observed 55.0 %" in report.headline[0]
    assert "2 seeds" in report.headline[0]
    assert not any("mixture" in line for line in report.headline)
    assert report.headline[1].startswith("Against the blind model: +50.0 points")
    assert [fact.value for fact in facts(report)][:3] == ["5", "200", "2"]


def test_a_contribution_has_the_mean_interval_and_its_groups_own_gains() -> None:
    pair = three("coarse", "fine")
    alone = with_encoders(pair, {"fine": pair.model.encoders["fine"]})
    more, less = trial(pair, {"one": 50, "two": 50, "three": 90}), trial(alone, {"one": 40, "two": 20, "three": 80})
    (found,) = [one for one in contributions([[more], [less]]) if one.expert == "coarse"]
    assert found.gain.mean == pytest.approx((0.2 + 0.1) / 2)
    assert {group: gain.mean for group, gain in found.groups.items()} == pytest.approx(
        {"general": 0.2, "ocr_chart": 0.1}
    )
    interval = difference([more], [less]).interval()
    assert (found.gain.low, found.gain.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_the_work_saved_is_what_designs_alone_would_have_cost(tmp_path: Path) -> None:
    recipes = [recipe("coarse"), recipe("fine"), recipe("coarse", "fine"), seeded(("vit",), (9,))[0].recipe]
    plan = Plan.of(recipes)
    # Bare patches cost nothing to see with; the transformer's stored features do save work.
    assert any(job.kind == "features" for job in plan.trials[-1].jobs())
    assert sum(job.price().flops for job in plan.trials[-1].jobs()) < record_trial(plan.trials[-1]).flops_alone
    entries = [record_trial(one) for one in plan.trials]
    record = SearchRecord(name="tiny", command="omma", definition={}, trials=tuple(entries))
    report = report_of(record, [trial(one, 9) for one in recipes], Store(tmp_path / "store"))
    spent, alone = plan.price().flops, plan.unshared_price().flops
    assert (report.manifest.flops_spent, report.manifest.flops_without_sharing) == (spent, alone)
    assert saved_share(report) == pytest.approx(1 - spent / alone)
    assert report.manifest.nodes_reused == sum(len(one.jobs()) for one in plan.trials) - len(plan.jobs)
    for entry, one in zip(entries, plan.trials, strict=True):
        without = plan_trial(one.recipe.model_copy(update={"features": "never"}))
        assert entry.flops_alone == sum(job.price().flops for job in without.jobs())
        assert entry.price.flops == sum(job.price().flops for job in one.training)
        assert entry.visual_tokens == one.recipe.model.most_visual_tokens
        parts = cost_by_part(one.recipe.model, text_tokens=32, head_tokens=4, views=1)
        assert entry.parameters == sum(cost.parameters for cost in parts.values())
        assert entry.flops_per_sample == sum(cost.flops for cost in parts.values())
    assert json.loads(record.model_dump_json()) == record.model_dump(mode="json")


def test_likeness_leaves_out_what_sees_nothing() -> None:
    names = list(WIDE)
    counts = [dict(zip(names, row)) for row in ((10, 20, 30), (20, 10, 60), (30, 40, 10))]
    trials = [trial(three(name), row) for name, row in zip(POOL, counts, strict=True)]
    found = likeness_of(trials)
    assert found is not None
    assert likeness_of([*trials, trial(three(), NONE)]) == found
