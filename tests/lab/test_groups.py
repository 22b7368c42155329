"""Benchmark groups: the published averages, hand-made likeness, components and clusters, and input that is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.eval.statistics.grouping import components, correlations, group_means, tree
from ommatidia.eval.statistics.stability import adjusted_rand, find_groups
from ommatidia.lab.analysis.groups import group_benchmarks, read_scores

PUBLISHED = Path(__file__).parents[1] / "eval" / "published_scores.csv"
"""Cambrian-1's rows with 1.2M adapter samples and frozen encoders, as printed."""

CAMBRIAN = {
    "CLIP L@336": (66.01, 48.12, 39.77, 48.08, 50.49),
    "SigLIP SO400M@384": (66.94, 49.77, 45.74, 53.20, 53.91),
    "ConvNeXt L@1024": (64.05, 47.84, 44.46, 47.65, 51.00),
    "DINOv2 L@336": (57.16, 46.01, 19.16, 45.06, 41.85),
    "SAM H": (33.49, 44.78, 17.23, 34.67, 32.54),
}
COLUMNS = ("scienceqa", "mmmu", "mathvista", "ai2d", "mme", "mmbench", "seed", "gqa")
MORE = ("chartqa", "ocrbench", "textvqa", "docvqa", "mmvp", "realworldqa")
EAGLE = {  # row of the table: knowledge, general, document and vision averages as printed
    (84.3, 43.4, 52.7, 76.1, 1559, 75.9, 76.3, 64.9, 80.1, 62.6, 77.1, 86.6, 71.6, 66.5): (64.2, 73.8, 76.6, 69.1),
    (82.0, 41.0, 54.4, 74.0, 1651, 75.7, 74.8, 65.3, 77.6, 61.9, 75.5, 85.4, 58.0, 64.8): (63.0, 74.6, 75.1, 61.4),
    (85.5, 51.8, 57.9, 79.1, 1677, 81.0, 75.6, 64.9, 77.2, 62.4, 78.8, 83.0, 67.0, 69.5): (68.6, 76.3, 75.4, 68.3),
}


def test_averages_are_those_that_cambrian_prints():
    table = read_scores([PUBLISHED])
    for model, printed in CAMBRIAN.items():
        means = group_means(table.row(model))
        assert [means[g] for g in ("general", "knowledge", "ocr_chart", "vision_centric", "overall")] == pytest.approx(
            printed, abs=0.011
        )


@pytest.mark.parametrize(("row", "printed"), EAGLE.items())
def test_averages_are_those_that_eagle_prints(row, printed, tmp_path):
    names = [{"mme": "mme:2000", "ocrbench": "ocrbench:1000"}.get(name, name) for name in (*COLUMNS, *MORE)]
    values = [value * 10 if name == "ocrbench:1000" else value for name, value in zip(names, row, strict=True)]
    (tmp_path / "eagle.json").write_text(json.dumps({"Eagle": dict(zip(names, values, strict=True))}))
    means = group_means(read_scores([tmp_path / "eagle.json"]).row("Eagle"), layout="eagle")
    assert [means[g] for g in ("general", "ocr_chart", "vision_centric")] == pytest.approx(printed[1:], abs=0.06)
    # The printed knowledge averages are off their own columns by up to 0.15, more than rounding can explain.
    assert means["knowledge"] == pytest.approx(printed[0], abs=0.16)
    assert "vision_centric" not in group_means(dict.fromkeys(COLUMNS + MORE, 50.0))  # Cambrian's has CV-Bench


def test_correlations_by_hand():
    scores = np.array([[1.0, 2.0, -1.0, 5.0], [2.0, 4.0, -8.0, 5.0], [3.0, 6.0, -27.0, 5.0], [4.0, np.nan, -64, 5]])
    pearson, ranks = correlations(scores), correlations(scores, method="spearman")
    assert pearson[0, 1] == pytest.approx(1.0)
    assert pearson[0, 2] == pytest.approx(np.corrcoef(scores[:, 0], scores[:, 2])[0, 1])
    assert ranks[0, 2] == pytest.approx(-1.0)
    assert np.isnan(pearson[0, 3])  # constant: nothing to correlate


def test_components_are_eigenvectors_of_the_correlation():
    scores = np.random.default_rng(0).normal(size=(20, 5))
    found = components(scores)
    values, vectors = np.linalg.eigh(correlations(scores))
    assert found.explained_C == pytest.approx(values[::-1][:2] / 5)
    assert np.abs(found.places_BC) == pytest.approx(np.abs(vectors[:, ::-1][:, :2]))
    assert (found.places_BC[np.abs(found.places_BC).argmax(0), [0, 1]] > 0).all()
    with pytest.raises(RunError, match="column 1 scores all models alike"):
        components(np.array([[1.0, 2.0], [2.0, 2.0], [4.0, 2.0]]))


def test_the_tree_joins_what_is_alike():
    likeness = np.array([[1, 0.9, 0.1, 0.2], [0.9, 1, 0.2, 0.1], [0.1, 0.2, 1, 0.8], [0.2, 0.1, 0.8, 1]])
    found = tree(likeness)
    assert [{*found.cut(2)[0]}, {*found.cut(2)[1]}] in ([{0, 1}, {2, 3}], [{2, 3}, {0, 1}])
    assert [distance for _, _, distance in found.merges] == pytest.approx([0.1, 0.2, 0.85])  # the last is their average
    assert len(found.cut(4)) == 4


def test_twelve_published_models_show_no_groups(tmp_path):
    table = read_scores([PUBLISHED])
    told = group_benchmarks(table, out=tmp_path, clusters=4)
    assert (told.data["clusters"], told.data["components"]["beyond_chance"]) == ([], 1)
    assert told.data["stability"]["adjusted_rand_index"] is None
    assert told.lines[0] == "The scores of 12 models show one common component and, beyond it, no groups."
    assert [title for title, _, _ in told.tables] == ["group averages, as cambrian"]
    assert ": no groups shown" in (tmp_path / "groups-correlation.svg").read_text()
    # The tree that is drawn joins the reading benchmarks all the same.
    (reading,) = [
        {table.benchmarks[i] for i in group} for group in tree(correlations(table.scores_MB)).cut(4)
        if table.benchmarks.index("docvqa") in group
    ]  # fmt: skip
    assert {"chartqa", "textvqa", "docvqa"} <= reading
    assert (tmp_path / "groups-correlation.svg").read_text().count("<rect") > 16 * 16
    assert "DocVQA".lower() in (tmp_path / "groups-components.svg").read_text()
    assert json.loads((tmp_path / "groups.json").read_text())["averages"]["MAE L"]["general"] == pytest.approx(
        53.28, abs=0.01
    )


def grouped(within: float, between: float, models: int, rng: np.random.Generator) -> np.ndarray:
    """Scores of sixteen benchmarks in four groups."""
    group = np.repeat(range(4), 4)
    correlation = np.where(group[:, None] == group, within, between)
    np.fill_diagonal(correlation, 1.0)
    return rng.standard_normal((models, 16)) @ np.linalg.cholesky(correlation).T


def test_groups_are_found_where_they_are_and_said_to_be_stable(tmp_path):
    found = find_groups(grouped(0.8, 0.3, 60, np.random.default_rng(0)))
    assert found.components == 4
    assert sorted(sorted(group) for group in found.members) == [list(range(4 * n, 4 * n + 4)) for n in range(4)]
    assert found.index is not None
    assert found.index > 0.9
    assert found.together_BB is not None
    assert found.together_BB[0, 3] > 0.9 > 0.1 > found.together_BB[0, 4]
    scores = 50 + 10 * grouped(0.8, 0.3, 60, np.random.default_rng(0)).clip(-4, 4)
    (tmp_path / "scores.json").write_text(
        json.dumps({f"m{m}": {f"b{b}": value for b, value in enumerate(row)} for m, row in enumerate(scores.tolist())})
    )
    told = group_benchmarks(read_scores([tmp_path / "scores.json"]), out=tmp_path, method="spearman")
    assert len(told.data["clusters"]) == 4
    assert told.lines[0].startswith("4 groups: 4 components of the scores of 60 models are beyond chance.")
    assert f": 4 groups, stability {told.data['stability']['adjusted_rand_index']:.2f}" in (
        tmp_path / "groups-components.svg"
    ).read_text()  # fmt: skip


@pytest.mark.parametrize("common", [0.0, 0.65])
def test_no_groups_are_found_where_there_are_none(common):
    rng = np.random.default_rng(1)
    found = [len(find_groups(grouped(common, common, 20, rng), draws=60).members) > 0 for _ in range(40)]
    assert np.mean(found) <= 0.15  # five in a hundred are expected


def test_groups_need_models_and_scores_that_differ():
    assert find_groups(np.random.default_rng(0).random((3, 5))).members == ()
    with pytest.raises(RunError, match="every score"):
        find_groups(np.array([[1.0, np.nan]] * 5))
    with pytest.raises(RunError, match="column 1 scores all models alike"):
        find_groups(np.array([[1.0, 2.0], [2.0, 2.0], [4.0, 2.0], [3.0, 2.0]]))


def test_the_adjusted_rand_index_by_hand():
    assert adjusted_rand([0, 0, 1, 1], [5, 5, 2, 2]) == 1.0
    # Two pairs together in the one, four in the other, one in both; 2 * 4 / 10 are expected by chance.
    assert adjusted_rand([0, 0, 1, 1, 2], [0, 0, 0, 1, 1]) == pytest.approx((1 - 2 * 4 / 10) / (3 - 2 * 4 / 10))
    assert adjusted_rand([0, 0, 0], [1, 1, 1]) == 1.0
    drawn = np.random.default_rng(0)
    chance = [adjusted_rand(drawn.integers(0, 3, 30).tolist(), drawn.integers(0, 3, 30).tolist()) for _ in range(200)]
    assert np.mean(chance) == pytest.approx(0.0, abs=0.02)


def test_results_of_eval_are_one_model_each(tmp_path):
    for number in range(3):
        scores = {f"{name}/full": {"score": 0.1 * number + 0.05 * k} for k, name in enumerate(("words", "charts"))}
        document = {"model": f"m{number}", "scores": scores | {"words/blind": {"score": 0.0}}}
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    table = read_scores([tmp_path])
    assert table.models == ("m0", "m1", "m2")
    assert table.row("m2") == pytest.approx({"words": 20.0, "charts": 25.0})
    with pytest.raises(ConfigError, match="second score for words"):
        read_scores([tmp_path, tmp_path / "1.json"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model,mme\na,1476\n", "mme:2000"),
        ("name,gqa\na,50\n", "column 'model'"),
        ("model,gqa\na,high\n", "no score"),
        ("model,gqa\na,50\n", "three or more"),
    ],
)
def test_bad_tables_are_refused(text, words, tmp_path):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        group_benchmarks(read_scores([tmp_path / "scores.csv"]), out=tmp_path)


def test_the_table_is_as_wide_as_the_paper():
    with PUBLISHED.open() as file:
        assert len(next(csv.reader(file))) == 17
