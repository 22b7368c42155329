"""From a store to a report: a complete row a design, verdicts, the greedy path, contributions, failures by name."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from lab_toys import COMMAND, recipe
from made_up_trials import by_experts, trial

from ommatidia.core.config import override
from ommatidia.eval.benchmark import Score
from ommatidia.eval.scored import Scored
from ommatidia.eval.statistics import mean_interval
from ommatidia.lab.recipe import with_encoders
from ommatidia.lab.report.collect import report_of
from ommatidia.lab.report.contributions import contributions
from ommatidia.lab.report.model import DesignRow, Report
from ommatidia.lab.report.ranking import gaps, ranked
from ommatidia.lab.run.trial import Trial, by_design
from ommatidia.lab.search.search import recall

if TYPE_CHECKING:
    from conftest import Searched

RIGHT = {(): 1, ("coarse",): 4, ("fine",): 6, ("coarse", "fine"): 12, ("fine", "coarse"): 12}
"""Of twelve questions a benchmark, by encoders."""


@pytest.fixture(scope="module")
def real(searched: Searched) -> tuple[list[Trial], Report]:
    record, trials = recall(searched.store, "tiny")
    return trials, report_of(record, trials, searched.store)


def marked(scored: Scored, right: int) -> Scored:
    scores = tuple(replace(s, value=float(i < right)) for i, s in enumerate(scored.scores))
    interval = mean_interval([s.value for s in scores], [s.cluster for s in scores])
    return replace(scored, scores=scores, units=scores, interval=interval)


@pytest.fixture(scope="module")
def decided(searched: Searched) -> tuple[list[Trial], Report]:
    """The same search, had its designs answered as ``RIGHT`` says, and one question less without images."""
    record, trials = recall(searched.store, "tiny")
    trials = [
        replace(
            t,
            scored={
                key: marked(scored, RIGHT[tuple(t.recipe.model.encoders)] - (key[1] == "blind"))
                for key, scored in t.scored.items()
            },
        )
        for t in trials
    ]
    return trials, report_of(record, trials, searched.store)


def test_every_design_has_a_complete_row(real: tuple[list[Trial], Report]) -> None:
    trials, report = real
    assert len(report.designs) == len(by_design(trials))
    assert len({row.name for row in report.designs}) == len(report.designs)
    for row in report.designs:
        assert gaps(row, report) == ()
        assert row.failed is None
        assert row.average is not None
        assert row.average.bounds is not None
        assert list(row.scores) == ["attributes", "counts"]
        assert set(row.blind) == {"attributes", "counts"}
        assert row.train_flops is not None
        assert row.train_flops > 0
        assert row.train_seconds is not None
        assert row.train_seconds > 0
        assert row.command.startswith(f"{COMMAND}  # row ")
        assert set(row.curves) == set(row.seeds) == set(row.seed_averages)
    assert [row.visual_tokens for row in report.designs if row.is_blind_model] == [0]
    assert {row.fusion for row in report.designs} >= {"none", "channel_concat"} or len(report.designs) < 4
    finals = [row for row in report.designs if row.final]
    assert all(row.seeds == (0, 1) for row in finals)
    best = [row for row in report.designs if row.versus_best is not None and row.versus_best.outcome == "best"]
    assert [row.checkpoint for row in best] == ["model"]
    assert best[0] in finals


def test_curves_are_one_a_stage(real: tuple[list[Trial], Report]) -> None:
    _, report = real
    row = next(row for row in report.designs if row.encoders == ("fine",))
    for curves in row.curves.values():
        assert [curve.stage for curve in curves] == ["language", "pre-align fine", "tune"]
        assert all(curve.steps == (1, 2, 3) and len(curve.losses) == 3 for curve in curves)


def test_the_manifest_says_where_the_numbers_come_from(real: tuple[list[Trial], Report], searched: Searched) -> None:
    _, report = real
    manifest = report.manifest
    assert (manifest.recipe, manifest.command) == ("tiny", COMMAND)
    assert manifest.seeds == (0, 1)
    assert manifest.nodes_executed is not None
    assert manifest.flops_spent is not None
    assert manifest.flops_without_sharing is not None
    assert manifest.flops_without_sharing > manifest.flops_spent
    assert manifest.store == searched.store.root.name
    assert [(b.name, b.group, b.n, b.scorer) for b in report.benchmarks] == [
        ("attributes", "general", 12, "exact"),
        ("counts", "vision_centric", 12, "exact"),
    ]
    assert report.groups == ("general", "vision_centric")


def test_examples_come_with_their_picture_and_every_reply(real: tuple[list[Trial], Report]) -> None:
    trials, report = real
    assert 1 <= len(report.examples) <= 12
    assert {card.benchmark for card in report.examples} == {"attributes", "counts"}
    for card in report.examples:
        assert card.image is not None
        assert card.image.startswith(b"\x89PNG")
        assert set(card.answers) == {row.name for row in report.designs}
    said = {reply.correct for card in report.examples for reply in card.answers.values()}
    right = {score.value >= 0.5 for one in trials for scored in one.full for score in scored.scores}
    assert said == right == {False, True}
    for card in report.examples:  # these questions have one-word answers
        for reply in card.answers.values():
            assert reply.correct is (reply.text.strip().lower() == card.reference.strip().lower())


def test_what_a_design_trained_is_what_its_last_stage_did(real: tuple[list[Trial], Report], searched: Searched) -> None:
    trials, report = real
    told = {row.encoders: row.trained_parameters for row in report.designs}
    differs = False
    for one in trials:
        assert one.entry is not None
        stages = [searched.store.record("training", stage.key)["notes"] for stage in one.entry.training]
        counts = [notes["trained_parameters"] for notes in stages]
        differs |= counts[0] != counts[-1]
        if len(one.recipe.model.encoders) < 2:  # two fusions of the same encoders train unlike numbers
            assert told[tuple(one.recipe.model.encoders)] == counts[-1]
    assert differs


def rows(report: Report) -> dict[tuple[str, ...], DesignRow]:
    """Rows by encoders; of two fusions, the first."""
    return {row.encoders: row for row in reversed(report.designs)}


def test_designs_that_differ_are_told_apart(decided: tuple[list[Trial], Report]) -> None:
    _, report = decided
    found = rows(report)
    pair = next(row for key, row in found.items() if len(key) == 2)
    assert pair.average is not None
    assert pair.average.mean == 1.0
    blind = found[()]
    assert blind.versus_best is not None
    assert blind.versus_best.outcome == "behind"
    assert blind.versus_best.difference is not None
    assert blind.versus_best.difference.mean == pytest.approx(1 / 12 - 1)
    assert blind.versus_best.p is not None
    assert blind.versus_best.p < 0.05
    assert pair.blind == {"attributes": pytest.approx(11 / 12), "counts": pytest.approx(11 / 12)}
    assert blind.blind == {name: interval.mean for name, interval in blind.scores.items()}
    assert report.headline[0].startswith(f"{ranked(report.designs)[0].name} is best: 100.0 %")
    assert any(line.startswith("Against the blind model: +91.7 points") for line in report.headline)


def test_what_cannot_be_told_apart_says_what_could_be(searched: Searched) -> None:
    record, trials = recall(searched.store, "tiny")
    near = [
        replace(t, scored={key: marked(one, 7 + bool(t.recipe.model.encoders)) for key, one in t.scored.items()})
        for t in trials
    ]
    (line,) = [one for one in report_of(record, near, searched.store).headline if "the blind model" in one]
    told = re.search(
        r"cannot be told apart. They are equal within (\d+\.\d) points; "
        r"such a comparison by itself finds (\d+\.\d) points four times in five\.$",
        line,
    )
    assert told is not None, line
    assert all(8.3 < float(points) < 60 for points in told.groups())


def test_the_greedy_path_is_told(decided: tuple[list[Trial], Report]) -> None:
    _, report = decided
    first = report.rounds[0]
    assert (first.number, first.base, first.base_average) == (1, (), None)
    assert {(c.expert, c.kept) for c in first.tried} == {("coarse", False), ("fine", True)}
    assert all(c.average is not None and c.gain is None for c in first.tried)
    assert report.stop_reason


def test_a_contribution_is_the_mean_over_pairs_that_differ_by_one_expert() -> None:
    right = by_experts({(): 10, ("coarse",): 20, ("fine",): 30, ("coarse", "fine"): 60})
    pair = recipe("coarse", "fine")
    experts = pair.model.encoders
    designs = [with_encoders(pair, {n: experts[n] for n in names}) for names in ((), ("coarse",), ("fine",))]
    trials = [trial(one, right(one)) for one in (*designs, pair)]
    found = {c.expert: c for c in contributions([[one] for one in trials])}
    assert list(found) == ["fine", "coarse"]
    assert found["coarse"].pairs == found["fine"].pairs == 2
    assert found["coarse"].gain.mean == pytest.approx((0.10 + 0.30) / 2)
    assert found["fine"].gain.mean == pytest.approx((0.20 + 0.40) / 2)
    assert found["fine"].groups["general"].mean == pytest.approx(0.3)
    # Another length of training is another difference: such designs are no pair.
    longer = override(pair, "stages.2.steps", 9)
    assert [c.pairs for c in contributions([[one] for one in (*trials, trial(longer, 90))])] == [2, 2]
    assert contributions([]) == ()
    assert contributions([[trial(designs[1], 20)]]) == ()


def test_failed_designs_stand_in_the_report_by_name(searched: Searched) -> None:
    record, trials = recall(searched.store, "tiny")
    failed = Trial(recipe("vit"), error="features of vit: broken")
    report = report_of(record, [*trials, failed], searched.store)
    row = next(row for row in report.designs if row.failed)
    assert (row.name, row.failed, row.average) == ("vit", "features of vit: broken", None)
    assert ranked(report.designs)[-1] == row
    nothing = report_of(record, [failed], searched.store)
    assert nothing.headline == ("No design finished.",)
    assert [row.failed for row in nothing.designs] == ["features of vit: broken"]


def test_a_run_of_one_recipe_has_a_report_without_a_path(searched: Searched) -> None:
    record, trials = recall(searched.store, "tiny")
    single = next(t for t in trials if t.recipe.label() == "coarse")
    report = report_of(record.model_copy(update={"definition": {"name": "one"}}), [single], searched.store)
    assert (report.rounds, report.stop_reason) == ((), "")
    assert len(report.designs) == 1
    assert report.designs[0].versus_best is not None
    assert report.designs[0].versus_best.outcome == "best"


def test_scores_survive_the_store(searched: Searched) -> None:
    _, trials = recall(searched.store, "tiny")
    for one in trials[0].full:
        assert Scored.from_dict(one.to_dict()) == one
        assert all(isinstance(s, Score) for s in one.scores)
