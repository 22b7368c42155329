"""Analyses in a search's report: nodes of the store, made when asked for, shown from the store alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from lab_toys import APPEND, CONCAT, recipe
from made_up_trials import trial

from ommatidia.core.errors import ConfigError
from ommatidia.eval.scored import Scored
from ommatidia.eval.suites import attribute
from ommatidia.lab.drive import report_search
from ommatidia.lab.nodes.prediction import PredictionJob
from ommatidia.lab.nodes.scores import read_scores
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.report.asked import likeness_of
from ommatidia.lab.report.collect import report_of
from ommatidia.lab.report.html import render_html
from ommatidia.lab.report.markdown import render_markdown
from ommatidia.lab.report.model import Report
from ommatidia.lab.report.sections import chance_correlation
from ommatidia.lab.run.followup import (
    Analysis,
    ablation_jobs,
    audit_jobs,
    make_analyses,
    possible,
    read_analyses,
    removal_findings,
    subject_of,
)
from ommatidia.lab.run.plan import TrialPlan, plan_trial
from ommatidia.lab.run.trial import Trial, best_design
from ommatidia.lab.search import Search
from ommatidia.lab.search.search import recall, run_search

if TYPE_CHECKING:
    from conftest import Searched

WITH = read_analyses("audit,ablation,ablation:shuffle")


def planned(trials: list[Trial], analysis: Analysis) -> TrialPlan:
    subject = subject_of(trials, analysis)
    assert subject is not None
    return plan_trial(subject.recipe)


def scores(job: PredictionJob, store: Store) -> Scored:
    return read_scores(store, job.kind, job.key, {})


@pytest.fixture(scope="module")
def analysed(searched: Searched, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Trial], Report]:
    """A copy of the finished search whose report was asked for with analyses."""
    folder = tmp_path_factory.mktemp("analysed")
    shutil.copytree(searched.store.root, folder / "store")
    store = Store(folder / "store")
    report_search(store, "tiny", out=folder / "out", analyses=WITH)
    record, trials = recall(store, "tiny")
    return store, trials, report_of(record, trials, store)


def test_a_report_has_what_the_store_has(searched: Searched, analysed: tuple[Store, list[Trial], Report]) -> None:
    record, trials = recall(searched.store, "tiny")
    bare = report_of(record, trials, searched.store)
    assert (bare.audit, bare.ablations, bare.warnings) == (None, (), ())
    store, trials, report = analysed
    assert report.audit is not None
    assert report.audit.design == next(d.name for d in report.designs if d.checkpoint)
    assert [one.treatment for one in report.ablations] == ["zero", "shuffle"]
    assert report.warnings == ()
    assert {b.name: b.guess for b in report.benchmarks} == {r.benchmark: r.guess for r in report.audit.rows}
    # Nothing is made a second time.
    before = {path: path.stat().st_mtime_ns for path in store.root.glob("nodes/*/*/node.json")}
    report_search(store, "tiny", out=store.root.parent / "again", analyses=WITH)
    assert {path: path.stat().st_mtime_ns for path in store.root.glob("nodes/*/*/node.json")} == before


def test_the_audit_is_that_of_the_answers(analysed: tuple[Store, list[Trial], Report]) -> None:
    store, trials, report = analysed
    subject = planned(trials, "audit")
    assert report.audit is not None
    jobs = audit_jobs(subject)
    for row in report.audit.rows:
        means = {mode: scores(jobs[row.benchmark, mode], store).mean for mode in row.scores}  # type: ignore[index]
        assert {mode: score.mean for mode, score in row.scores.items()} == pytest.approx(means)
        assert row.gain.mean == pytest.approx(means["full"] - means["blind"])
    gains = [row.gain.mean for row in report.audit.rows]
    assert gains == sorted(gains)
    # Full and blind are the search's own nodes, not new ones.
    assert {jobs["counts", m].key for m in ("full", "blind")} == {
        subject.predictions["counts", m].key
        for m in ("full", "blind")  # type: ignore[index]
    }


def test_the_ablation_is_that_of_the_answers(analysed: tuple[Store, list[Trial], Report]) -> None:
    store, trials, report = analysed
    subject = planned(trials, "ablation")
    one = report.ablations[0]
    assert [suite.name for suite in one.suites] == ["attributes", "counts", "average"]
    jobs = ablation_jobs(subject, "zero")
    whole = scores(subject.predictions["counts", "full"], store)
    without = {name: [scores(jobs["counts", name], store)] for name in ("coarse", "fine")}
    found = attribute([whole], without, experts=list(without))
    rows = {row.taken: row for row in one.suites[1].rows}
    assert set(rows) == {*one.experts, " + ".join(one.experts)}
    for name in without:
        assert rows[name].lost.mean == pytest.approx(found.lost[name].mean)
    # Zeroed and shuffled are other nodes than the whole and than one another.
    shuffled = ablation_jobs(subject, "shuffle")
    keys = {job.key for job in (*jobs.values(), *shuffled.values(), *subject.predictions.values())}
    assert len(keys) == len(jobs) + len(shuffled) + len(subject.predictions)


def test_pages_hold_the_analyses(analysed: tuple[Store, list[Trial], Report]) -> None:
    _, _, report = analysed
    page, text = render_html(report), render_markdown(report)
    for heading in ("Is the image needed?", "inside the mixture (zero)", "inside the mixture (shuffle)"):
        assert heading in page
        assert heading in text
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "| attributes, without fine |" in text
    folder = analysed[0].root.parent / "out"
    assert json.loads((folder / "report.json").read_text())["audit"]["rows"]


def test_what_was_begun_and_not_finished_is_said(analysed: tuple[Store, list[Trial], Report], tmp_path: Path) -> None:
    store, trials, _ = analysed
    shutil.copytree(store.root, tmp_path / "store")
    torn = Store(tmp_path / "store")
    shutil.rmtree(audit_jobs(planned(trials, "audit"))["counts", "shuffled"].folder(torn))
    record, trials = recall(torn, "tiny")
    report = report_of(record, trials, torn)
    assert report.audit is not None
    assert [row.benchmark for row in report.audit.rows] == ["attributes"]
    assert report.warnings == ("The audit lacks 1 of its 8 nodes: omma report --with audit makes them.",)
    assert len(report.ablations) == 2


def test_an_ablation_shows_the_benchmarks_that_it_has(
    analysed: tuple[Store, list[Trial], Report], tmp_path: Path
) -> None:
    store, trials, whole = analysed
    shutil.copytree(store.root, tmp_path / "store")
    torn = Store(tmp_path / "store")
    shutil.rmtree(ablation_jobs(planned(trials, "ablation"), "zero")["counts", "coarse"].folder(torn))
    record, trials = recall(torn, "tiny")
    report = report_of(record, trials, torn)
    assert report.ablations[0].suites == whole.ablations[0].suites[:1]
    assert report.ablations[1] == whole.ablations[1]
    assert report.warnings == ("The ablation lacks 1 of its 6 nodes: omma report --with ablation makes them.",)


def test_an_analysis_that_is_stopped_leaves_the_one_before(
    analysed: tuple[Store, list[Trial], Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trials, _ = analysed
    shutil.copytree(store.root, tmp_path / "store")
    torn = Store(tmp_path / "store")
    before, _ = recall(torn, "tiny")
    other = before.model_copy(
        update={"analyses": {"audit": before.analyses["audit"].model_copy(update={"trial": "other/0"})}}
    )
    monkeypatch.setattr("ommatidia.lab.run.followup.execute", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with torn.writing(), pytest.raises(KeyboardInterrupt):
        make_analyses(other, trials, ["audit"], torn)
    assert recall(torn, "tiny")[0].analyses == other.analyses


def test_an_analysis_without_a_subject_is_refused(searched: Searched, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'ablation'"):
        read_analyses("audit,ablatoin")
    blind = [trial(recipe(), 5)]
    assert [subject_of(blind, analysis) for analysis in WITH] == [None, None, None]
    one = [trial(recipe("coarse"), 5)]
    assert subject_of(one, "ablation") is None
    assert subject_of(one, "audit") is one[0]
    assert best_design([trial(recipe("coarse"), 5, error="nan")]) == []
    shutil.copytree(searched.store.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    record = store.read_json("searches/tiny.json")
    record["trials"] = [e for e in record["trials"] if len(e["recipe"]["model"]["encoders"]) < 2]
    store.write_json("searches/tiny.json", record)
    with pytest.raises(ConfigError, match="no finished design of 'tiny' has several experts"):
        report_search(store, "tiny", out=tmp_path / "out", analyses=["ablation"])


def test_a_removal_that_no_mixture_allows_is_known_before_the_first_step(tmp_path: Path) -> None:
    def mixtures(*fusions: dict[str, Any]) -> Search:
        designs = [{**recipe("coarse", "fine").to_dict(), "name": fusion["kind"]} for fusion in fusions]
        for design, fusion in zip(designs, fusions, strict=True):
            design["model"]["fusion"] = fusion
        return Search.parse({
            "name": "removal", "analyses": ["ablation:remove"], "strategy": {"kind": "listed", "recipes": designs},
        })  # fmt: skip

    store = Store(tmp_path / "store")
    told = "ablation:remove: 1 of 1 mixtures cannot do without an expert; .*channel_concat cannot do without coarse"
    with pytest.raises(ConfigError, match=told):
        run_search(mixtures(CONCAT), store, command="")
    assert not list(store.root.glob("nodes/*/*"))
    several = mixtures(CONCAT, APPEND)
    (finding,) = removal_findings(several.strategy.horizon(), several.analyses)
    assert finding.error is None
    assert "1 of 2 mixtures" in finding.text
    assert not list(removal_findings(mixtures(APPEND).strategy.horizon(), several.analyses))
    chosen = [trial(one, 5) for one in several.strategy.first()]
    assert possible(chosen[:1], several.analyses) == []
    assert possible(chosen[1:], several.analyses) == ["ablation:remove"]


def test_likeness_is_the_correlation_over_designs_that_see() -> None:
    names = ("a", "b", "c", "flat")
    counts = {
        ("coarse",): (10, 20, 50, 7),
        ("fine",): (20, 30, 40, 7),
        ("coarse", "fine"): (40, 50, 20, 7),
        (): (0, 99, 0, 7),
    }
    trials = []
    for experts, values in counts.items():
        made = recipe(*experts)
        plain = made.benchmarks[0]
        made = made.model_copy(update={"benchmarks": tuple(plain.model_copy(update={"name": n}) for n in names)})
        parts = [trial(made, v) for v in values]
        scored = {(n, "full"): part.scored[n, "full"] for n, part in zip(names, parts, strict=True)}
        trials.append(replace(parts[0], scored=scored))
    found = likeness_of(trials)
    assert found is not None
    assert (found.benchmarks, found.designs, found.constant) == (("a", "b", "c"), 3, ("flat",))
    table = np.array([values[:3] for experts, values in counts.items() if experts])
    np.testing.assert_allclose(np.array(found.correlation), np.corrcoef(table.T))
    assert likeness_of(trials[:2]) is None
    assert chance_correlation(3) is None
    assert chance_correlation(12) == pytest.approx(0.574, abs=1e-3)
