"""Metrics of whole sets: pairs, rotations, categories, sources; as functions of records and as scorers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from eval_toys import Dot

from ommatidia.core.errors import DataError
from ommatidia.core.types import Message, Sample
from ommatidia.eval import Benchmark, BenchmarkConfig, Score, predict, score_file
from ommatidia.eval.scoring import (
    ScorerConfig,
    cv_bench_scores,
    hallusion_scores,
    mmbench_circular,
    mme_scores,
    mmmu_scores,
    mmvp_pairs,
    pope_scores,
)
from ommatidia.eval.statistics import mean_interval
from ommatidia.eval.suites import macro_average


class SetConfig(BenchmarkConfig):
    """A benchmark around given samples."""

    def open(self) -> Benchmark:
        raise NotImplementedError


def scored(tmp_path, scorer: str | dict[str, object], rows: Sequence[tuple[str, str, dict[str, object]]]):
    """(answer, reference, meta) rows asked in one file and scored from it."""
    samples = [
        Sample(
            f"q{n}",
            (Message("user", (f"Question {n}?",)), Message("assistant", (reference,))),
            (Dot(1 + n // 2),),
            {"cluster": f"p{n // 2}", **meta},
        )
        for n, (_, reference, meta) in enumerate(rows)
    ]
    benchmark = Benchmark(SetConfig(name="set", group="general"), samples, scorer=ScorerConfig.parse(scorer))
    answers = {f"q{n}": answer for n, (answer, _, _) in enumerate(rows)}
    predict(benchmark, lambda prompts: [answers[p.id] for p in prompts], tmp_path / "answers.jsonl")
    return score_file(benchmark, tmp_path / "answers.jsonl")


def test_pope(tmp_path):
    pairs = [("yes", "yes"), ("Yes", "no"), ("no", "yes"), ("No.", "no"), ("maybe", "yes"), ("no", "no")]
    exact = pope_scores(pairs)
    assert exact == {"accuracy": 2 / 6, "precision": 0.5, "recall": 0.5, "f1": 0.5, "yes_ratio": 2 / 6}
    official = pope_scores(pairs, variant="official")  # what is no no is a yes
    assert official["accuracy"] == pytest.approx(4 / 6)
    assert official["yes_ratio"] == pytest.approx(3 / 6)
    assert pope_scores([("no", "yes")])["f1"] == 0.0
    with pytest.raises(DataError, match="expected yes or no"):
        pope_scores([("yes", "perhaps")])
    rows = [(a, t, {"task": "random" if n < 4 else "popular"}) for n, (a, t) in enumerate(pairs)]
    found = scored(tmp_path, "pope", rows)
    assert found.mean == found.summary["score"] == pytest.approx(exact["accuracy"])
    assert {name: found.summary[name] for name in exact} == exact
    assert found.summary["f1_mean"] == pytest.approx((0.5 + 0.0) / 2)


def mme_rows() -> list[dict[str, str]]:
    rights = {"existence": ["11", "10"], "OCR": ["11"], "code_reasoning": ["10", "00"]}
    return [
        {"category": category, "question_id": f"{n}.png", "answer": said, "target": ("Yes", "No")[k]}
        for category, pictures in rights.items()
        for n, marks in enumerate(pictures)
        for k, mark in enumerate(marks)
        for said in [(("yes", "no") if mark == "1" else ("no", "yes"))[k]]
    ]


def test_mme(tmp_path):
    found = mme_scores(mme_rows())
    assert found["categories"]["existence"] == {"accuracy": 75.0, "accuracy_plus": 50.0, "score": 125.0}
    assert found["perception"] == 125.0 + 200.0
    assert found["cognition"] == 25.0
    rows = [(r["answer"], r["target"], {"task": r["category"], "pair": r["question_id"]}) for r in mme_rows()]
    result = scored(tmp_path, "mme", rows)
    assert result.summary["perception"] == 325.0
    # The mean over categories, though existence has two images and OCR one.
    assert result.mean == pytest.approx(325.0 / 400.0)
    assert result.n == 3
    assert result.weights == pytest.approx((0.75, 0.75, 1.5))
    assert macro_average([result]).mean == pytest.approx(result.mean)
    with pytest.raises(DataError, match="1 questions"):
        mme_scores(mme_rows()[:-1])
    with pytest.raises(DataError, match="no category"):
        mme_scores([{**mme_rows()[0], "category": "colour"}])
    with pytest.raises(DataError, match="lacks 'answer'"):
        mme_scores([{"category": "OCR", "question_id": "1"}])


def test_mmbench(tmp_path):
    options = {"A": "red", "B": "blue"}
    turned = {"A": "blue", "B": "red"}
    records = [
        {"index": 1, "answer": "A", "target": "A", "options": options, "category": "colour", "l2_category": "CP"},
        {"index": 1000001, "answer": "A", "target": "B", "options": turned, "category": "colour", "l2_category": "CP"},
        {"index": 2, "answer": "It is blue.", "target": "B", "options": options, "category": "x", "l2_category": "LR"},
        {"index": 1000002, "answer": "(A)", "target": "A", "options": turned, "category": "x", "l2_category": "LR"},
    ]
    found = mmbench_circular(records)
    assert found["circular"] == 0.5
    assert found["plain"] == 1.0
    assert found["categories"] == {"colour": 0.0, "x": 1.0}
    assert found["l2_categories"] == {"CP": 0.0, "LR": 1.0}
    with pytest.raises(DataError, match="stands twice"):
        mmbench_circular(records[:1] * 2)
    rows = [(str(r["answer"]), str(r["target"]), {**r, "task": r["category"]}) for r in records]
    result = scored(tmp_path, "mmbench", rows)
    assert (result.mean, result.n, result.summary["plain"], result.summary["l2:LR"]) == (0.5, 2, 1.0, 1.0)
    assert result.summary["task:x"] == 1.0


def test_mmvp(tmp_path):
    options = ["open", "closed"]
    said, right = ["A", "B", "(a)", "A"], ["(a)", "(b)", "A", "B"]
    records = [
        {"index": n + 1, "answer": answer, "target": target, "options": options}
        for n, (answer, target) in enumerate(zip(said, right))
    ]
    assert mmvp_pairs(records) == {"pair_accuracy": 0.5, "item_accuracy": 0.75, "pairs": 2.0}
    with pytest.raises(DataError, match="pair 1: 1 questions"):
        mmvp_pairs(records[:3])
    rows = [(a, t, {"pair": n // 2, "options": options}) for n, (a, t) in enumerate(zip(said, right))]
    result = scored(tmp_path, "mmvp", rows)
    assert (result.mean, result.n, result.summary["item_accuracy"]) == (0.5, 2, 0.75)


def test_cv_bench(tmp_path):
    options = ["left", "right"]
    rights = {"ADE20K": [1, 0], "COCO": [1, 1, 1, 1], "Omni3D": [0, 1, 0, 0]}
    records = [
        {"source": source, "answer": "A" if right else "B", "target": "(A)", "options": options, "task": source[:2]}
        for source, marks in rights.items()
        for right in marks
    ]
    found = cv_bench_scores(records)
    assert (found["2d"], found["3d"], found["overall"]) == (0.75, 0.25, 0.5)
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["tasks"] == {"AD": 0.5, "CO": 1.0, "Om": 0.25}
    assert "2d" not in cv_bench_scores(records[-4:])
    rows = [(str(r["answer"]), str(r["target"]), {"source": r["source"], "options": options}) for r in records]
    result = scored(tmp_path, "cv_bench", rows)
    assert result.mean == pytest.approx(0.5)
    assert result.summary["accuracy"] == pytest.approx(0.6)
    with pytest.raises(DataError, match="no source of CV-Bench"):
        cv_bench_scores([{**records[0], "source": "LVIS"}])


def test_mmmu(tmp_path):
    records = [
        {"id": "validation_Art_1", "answer": "B", "target": "B", "options": ["x", "y"]},
        {"id": "validation_Art_Theory_2", "answer": "who knows", "target": "A", "options": ["x", "y"]},
        {"id": "validation_Math_3", "answer": "The area is 12.0 cm", "target": "12", "options": None},
    ]
    found = mmmu_scores(records)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["unparsed"] == pytest.approx(1 / 3)  # where the official script draws a letter
    assert found["subjects"] == {"Art": 1.0, "Art_Theory": 0.0, "Math": 1.0}
    assert found["domains"] == {"Art and Design": 0.5, "Science": 1.0}
    with pytest.raises(DataError, match="names no subject"):
        mmmu_scores([{**records[0], "id": "Art"}])
    rows = [
        ("B", "B", {"options": ["x", "y"], "task": "Art"}),
        ("12.0 cm", "12", {"options": None, "task": "Math"}),
    ]
    result = scored(tmp_path, "mmmu", rows)
    assert (result.mean, result.summary["domain:Science"], result.summary["task:Art"]) == (1.0, 1.0, 1.0)


def test_hallusion(tmp_path):
    place = {"category": "VS", "subcategory": "chart", "set_id": "0"}
    records = [
        {**place, "figure_id": "0", "question_id": "0", "answer": "Yes", "target": "1"},
        {**place, "figure_id": "0", "question_id": "1", "answer": "no", "target": "1"},
        {**place, "figure_id": "1", "question_id": "0", "answer": "No.", "target": "0"},
        {**place, "figure_id": "1", "question_id": "1", "answer": "No", "target": "0"},
    ]
    found = hallusion_scores(records)
    assert (found["aAcc"], found["fAcc"], found["qAcc"]) == (0.75, 0.5, 0.5)
    rows = [(r["answer"], "yes" if r["target"] == "1" else "no", {k: r[k] for k in records[0]}) for r in records]
    assert scored(tmp_path, "hallusion", rows).summary["average"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    # A set of the same number in the other category has figures and questions of its own.
    other = [{**record, "category": "VD", "answer": "yes"} for record in records]
    both = hallusion_scores([*records, *other])
    assert both == {"aAcc": 0.625, "fAcc": 2 / 4, "qAcc": 1 / 4, "average": pytest.approx((0.625 + 0.5 + 0.25) / 3)}
    assert hallusion_scores([{**records[0], "answer": "Oh yesterday"}], variant="somewhere")["aAcc"] == 1.0


def test_mme_under_cambrians_rule():
    rows = [("existence", "1", "Yes.", "Yes"), ("existence", "1", "No, there is none", "No")]
    records = [dict(zip(("category", "question_id", "answer", "target"), row)) for row in rows]
    assert mme_scores(records)["perception"] == 200.0
    assert mme_scores(records, variant="cambrian_mme")["perception"] == 50.0  # the whole answer, without final periods


def test_ocrbench_counts_hits(tmp_path):
    rows = [
        ("it says x = 1", "x=1", {"dataset": "HME100k", "task": "formula"}),
        ("STOP", "stop", {"dataset": "SVT", "task": "text"}),
    ]
    result = scored(tmp_path, "ocrbench", rows)
    assert (result.mean, result.summary["hits"], result.summary["hits:text"]) == (1.0, 2.0, 1.0)


def test_cider_is_bound_to_the_benchmark(tmp_path):
    rows = [
        ("a red bus", "a red bus", {"references": ["a red bus", "the bus"]}),
        ("two dogs", "a dog", {"references": ["two dogs run", "dogs"]}),
        ("", "snow", {"references": ["deep snow"]}),
    ]
    result = scored(tmp_path, "cider", rows)
    assert result.summary["cider_ptb_like"] == pytest.approx(10 * result.mean)
    assert [score.value > 0 for score in result.scores] == [True, True, False]
    with pytest.raises(DataError, match="over"):
        ScorerConfig.parse("cider").score(Sample("s", (), meta={"references": ["x"]}), "x")


def test_weights_in_intervals():
    values, clusters = [1.0, 1.0, 0.0, 1.0, 0.0], ["a", "b", "c", "d", "e"]
    plain = mean_interval(values, clusters)
    assert mean_interval(values, clusters, weights=[3] * 5) == plain
    heavy = mean_interval(values, clusters, weights=[1, 1, 8, 1, 1])
    assert heavy.mean == pytest.approx(3 / 12)
    assert heavy.n == 5
    assert heavy.low <= heavy.mean <= heavy.high
    assert Score("x", 1.0, "c").weight == 1.0
    with pytest.raises(Exception, match="weights must be positive"):
        mean_interval(values, clusters, weights=[0, 1, 1, 1, 1])
    with pytest.raises(Exception, match="5 values and 4 weights"):
        mean_interval(values, clusters, weights=[1, 1, 1, 1])
