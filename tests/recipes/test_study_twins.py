"""Every study runs: its tiny twin has its kinds of parts, trains each of its stages, is asked and reported on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ommatidia.core.config import override
from ommatidia.core.console import Console, use
from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe, read
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan
from ommatidia.lab.search import Listed, RoundRobin, Search
from ommatidia.lab.search.twin import twin, twin_of_recipe
from ommatidia.models.build import build_model
from ommatidia.models.vision.tiling import Whole
from ommatidia.train.freeze import select


def study(reference: str, **arguments: Any) -> Recipe:
    recipe: Recipe = read(f"ommatidia.recipes.{reference}", Recipe, arguments)
    return recipe


@pytest.mark.parametrize(
    "reference",
    [
        "eagle:x5_7b", "cambrian:8b", "nvlm:d_72b", "nvlm:x", "nvlm:h", "vila:7b", "mm1:3b", "llava:v15_7b",
        "llava:next", "llava_hr", "mini_gemini:7b", "mini_gemini:7b_hd", "internvl:v15_26b",
    ],
)  # fmt: skip
def test_a_small_twin_of_the_study_trains(reference: str, tmp_path: Path) -> None:
    whole = study(reference)
    recipe = twin_of_recipe(whole)
    assert [type(part) for part in (recipe.model.fusion, recipe.model.projector, recipe.model.injection)] == [
        type(part) for part in (whole.model.fusion, whole.model.projector, whole.model.injection)
    ]
    assert [(s.name, s.scope, s.train) for s in recipe.stages] == [(s.name, s.scope, s.train) for s in whole.stages]
    store, plan = Store(tmp_path), Plan.of([recipe.model_copy(update={"benchmarks": ()})])
    with use(Console(quiet=True)), store.writing():
        result = execute(plan, store)
    assert result.failed == {}
    trained = [job for job in plan.jobs.values() if job.kind == "training"]
    pre_aligned = sum(stage.scope == "expert" for stage in recipe.stages) * (len(recipe.model.encoders) - 1)
    assert len(trained) == len(recipe.stages) + pre_aligned


def test_a_stage_of_a_twin_reads_otherwise_where_the_study_does() -> None:
    for reference, chat, views in (
        ("llava:next", "plain", 1),
        ("nvlm:x", "nvlm_pretrain", 1),
        ("nvlm:h", "nvlm_pretrain", 5),
    ):
        for recipe in (study(reference), small := twin_of_recipe(study(reference))):
            align, tune = recipe.stages
            assert align.chat is not None
            assert (align.chat.name, tune.chat, tune.tiling) == (chat, None, None)
        read = small.stages[0].model_for_stage(small.model)
        assert read.chat.drop_user_text == (chat == "plain")
        assert len(read.tiling.views(*read.tiling.largest())) == views


def test_the_tiled_twin_of_mm1_and_every_tag_of_nvlm_fit() -> None:
    mm1 = twin_of_recipe(study("mm1:3b", tiled=True))
    assert mm1.model.visual_tokens(40, 40) == 5 * 9
    assert mm1.model.visual_grid() == Grid(3, 3, 32)
    for tags in ("none", "one_d", "two_d", "box"):
        tiled = twin_of_recipe(study("nvlm:d_72b", tags=tags)).model.tiling
        assert not isinstance(tiled, Whole)


def test_a_twin_looks_at_larger_pictures_where_the_study_does() -> None:
    """1536 px where the catalog's ConvNeXt is native to 1024; the catalog has CLIP at 336 px and at 672."""

    def sides(recipe: Recipe) -> list[int]:
        return [encoder.preprocess().size[0] for encoder in twin_of_recipe(recipe).model.encoders.values()]

    assert sides(study("mini_gemini:7b")) == [56, 64]
    assert sides(study("mini_gemini:7b_hd")) == [56, 128]
    assert sides(override(study("llava:v15_7b"), "model.encoders.clip.image_size", 672)) == [70]


def test_cambrian_aligns_with_a_lower_rate_inside_the_aggregator() -> None:
    recipe = twin_of_recipe(study("cambrian:8b"))
    rates = select(build_model(recipe.model, seed=0).parts(), recipe.stages[0].train).rates
    slow = {name for name, rate in rates.items() if rate == 1e-4}
    assert {name.partition(".")[0] for name in slow} == {"fusion:query_GC", "fusion:groups", "injection:layers"}
    fast = {name.partition(".")[0] for name in rates.keys() - slow}
    assert fast == {"fusion:adapters", "projector:0", "projector:2", "injection:row_end_E"}
    assert {rates[name] for name in rates.keys() - slow} == {1e-3}


def listed(*recipes: Recipe) -> Search:
    return Search.parse(
        {"name": "some", "strategy": {"kind": "listed", "recipes": [recipe.to_dict() for recipe in recipes]}}
    )


def test_designs_that_a_twin_cannot_tell_apart_are_counted() -> None:
    one = study("llava:v15_7b")
    larger, colder = override(one, "stages.1.batch", 256), override(one, "stages.1.train.language", 1e-6)
    made = twin(listed(one, larger, colder))
    assert isinstance(made.value, Search)
    assert isinstance(made.value.strategy, Listed)
    assert len(made.value.strategy.recipes) == 2
    assert made.notes[-1].startswith("1 designs differ from others only in what a twin leaves out")


def test_a_search_over_a_pool_stays_one() -> None:
    whole: Search = read("ommatidia.recipes.quickstart:search", Search)
    made = twin(whole).value
    assert isinstance(made, Search)
    assert isinstance(made.strategy, RoundRobin)
    assert isinstance(whole.strategy, RoundRobin)
    assert list(made.strategy.pool) == list(whole.strategy.pool)
    assert made.strategy.variants.keys() == whole.strategy.variants.keys()


def test_an_encoder_that_is_not_in_the_catalog_has_no_twin() -> None:
    recipe = override(study("llava:v15_7b"), "model.encoders.clip.config.hidden_size", 512)
    with pytest.raises(ConfigError, match=r"encoders\.clip: no entry of the catalog has these parts"):
        twin(recipe)


def test_run_and_search_of_a_twin_end_in_reports(omma: Callable[..., Any], tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    said = omma("run", "ommatidia.recipes.llava:v15_7b", "--twin", *store, "--out", str(tmp_path / "one"), "--json")
    assert said.code == 0, said.err
    assert set(said.data()["scores"]) == {
        f"{name}/{mode}" for name in ("attributes", "counts") for mode in ("full", "blind")
    }
    assert (tmp_path / "one" / "report.html").is_file()
    one = study("llava:v15_7b")
    (tmp_path / "search.yaml").write_text(listed(one, study("vila:7b")).to_yaml(), encoding="utf-8")
    said = omma("search", str(tmp_path / "search.yaml"), "--twin", *store, "--out", str(tmp_path / "two"), "--json")
    assert said.code == 0, said.err
    assert not any(trial["error"] for trial in said.data()["trials"])
    assert len(said.data()["trials"]) == 2
    assert (tmp_path / "two" / "report.html").is_file()
