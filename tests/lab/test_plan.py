"""Plan: equal work is one node, keys change with what they depend on and with nothing else, prices are arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from lab_toys import APPEND, COARSE, FINE, VIT, recipe, recipe_data, round_robin

from ommatidia.core.config import override
from ommatidia.core.errors import ConfigError
from ommatidia.lab.nodes.features import FeatureJob
from ommatidia.lab.nodes.job import Job
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.run.plan import Plan, plan_trial
from ommatidia.models.vision.encoder import EncoderConfig


def keys(one: Recipe) -> dict[str, str]:
    """Keys of a recipe's jobs by what they are."""
    trial = plan_trial(one)
    found = {f"{job.stage.name} {'+'.join(job.weights.model.encoders)}": job.key for job in trial.training}
    found |= {f"answers {name} {mode}": job.key for (name, mode), job in trial.predictions.items()}
    found |= {f"gallery {job.benchmark.name}": job.key for job in trial.galleries}
    found |= {job.label: job.key for job in trial.jobs() if isinstance(job, FeatureJob)}
    return found | {"checkpoint": trial.checkpoint.key}


def changed(path: str, value: Any) -> set[str]:
    """What gets another key when one field of the pair's recipe changes."""
    before, after = keys(recipe("coarse", "fine")), keys(override(recipe("coarse", "fine"), path, value))
    assert set(before) == set(after)
    return {name for name in before if before[name] != after[name]}


ANSWERS = {f"answers {task} {mode}" for task in ("attributes", "counts") for mode in ("full", "blind")}
LAST = {"tune coarse+fine", *ANSWERS, "checkpoint"}
TRAINED = {"pre-align coarse", "pre-align fine", *LAST}


def test_a_recipe_has_one_job_a_stage_and_one_an_expert() -> None:
    assert [name for name in keys(recipe("coarse", "fine")) if "answers" not in name and "of" not in name] == [
        "language ", "pre-align coarse", "pre-align fine", "tune coarse+fine", "gallery attributes", "gallery counts",
        "checkpoint",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("seed", 1, LAST),
        ("stages.2.batch", 4, LAST),
        ("stages.2.steps", 4, LAST),
        ("stages.2.seed", 5, LAST),
        ("model.fusion", APPEND, LAST),
        ("model.fusion.norm", True, LAST),
        ("stages.1.steps", 4, TRAINED),
        ("model.projector", "mlp", TRAINED),
        ("stages.0.steps", 4, {"language ", *TRAINED}),
        ("model.language.layers", 2, {"language ", *TRAINED}),
        ("model.chat.name", "other", {"language ", *TRAINED}),
        (
            "benchmarks.0.max_new_tokens",
            4,
            {"answers attributes full", "answers attributes blind", "gallery attributes"},
        ),
        ("benchmarks.0.scorer", "contains", {"gallery attributes"}),
        ("name", "other", set()),
        ("eval_batch", 8, set()),
        ("stages.2.micro_batch", 4, set()),
        ("stages.2.save_every", 1, set()),
        ("stages.2.log_every", 1, set()),
        ("model.encoders.coarse.neck.dim", 24, {"pre-align coarse", *LAST}),
    ],
)
def test_a_field_changes_the_keys_of_what_depends_on_it(path: str, value: Any, expected: set[str]) -> None:
    assert changed(path, value) == expected


def test_a_changed_trunk_changes_its_features_and_its_own_training() -> None:
    moved = changed("model.encoders.fine.mean", [0.4, 0.5, 0.6])
    assert {"pre-align fine", *LAST} <= moved
    assert {name for name in moved if name.startswith("features")} == {
        name for name in keys(recipe("coarse", "fine")) if name.startswith("features of fine")
    }
    assert "pre-align coarse" not in moved


def test_the_order_of_encoders_is_part_of_the_design() -> None:
    one, other = keys(recipe("coarse", "fine")), keys(recipe("fine", "coarse"))
    assert one["pre-align coarse"] == other["pre-align coarse"]
    assert one["tune coarse+fine"] != other["tune fine+coarse"]


def test_designs_share_their_language_and_expert_stages() -> None:
    pair = recipe("coarse", "fine")
    appended = override(pair, "model.fusion", APPEND)
    single = with_encoders(pair, {"coarse": pair.model.encoders["coarse"]})
    blind = with_encoders(pair, {})
    found = [keys(one) for one in (pair, appended, single, blind)]
    assert len({one["language "] for one in found}) == 1
    assert len({one["pre-align coarse"] for one in found[:3]}) == 1
    assert found[0]["pre-align fine"] == found[1]["pre-align fine"]
    assert len({one["checkpoint"] for one in found}) == 4


def test_a_search_prepares_each_part_once() -> None:
    search = round_robin()
    plan = Plan.of(search.strategy.horizon())
    labels = [job.label for job in plan.jobs.values() if job.kind == "training"]
    assert sorted(label for label in labels if not label.startswith("tune")) == [
        "language: language model (seed 0)",
        "pre-align: coarse (seed 0)",
        "pre-align: fine (seed 0)",
    ]
    assert sum(label.startswith("tune") for label in labels) == len(plan.trials)


def test_blind_designs_of_any_fusion_are_one() -> None:
    blind = with_encoders(recipe("coarse", "fine"), {})
    assert blind.digest() == with_encoders(override(recipe("coarse", "fine"), "model.fusion", APPEND), {}).digest()
    assert blind.label() == blind.name == "blind"
    assert [stage.name for stage in blind.stages] == ["language", "tune"]
    assert list(blind.stages[1].train) == ["language"]
    assert set(plan_trial(blind).predictions) == {("attributes", "full"), ("counts", "full")}


def test_needs_come_first() -> None:
    plan = Plan.of([recipe("coarse", "fine"), recipe("fine", "vit"), recipe("coarse", "fine", seed=1)])
    seen: set[str] = set()
    for key, job in plan.jobs.items():
        assert job.key == key
        assert {need.key for need in job.needs()} <= seen
        seen.add(key)
    assert seen >= {job.key for trial in plan.trials for job in trial.jobs()}


def features(one: Recipe) -> set[str]:
    return {job.name for job in plan_trial(one).jobs() if isinstance(job, FeatureJob)}


def test_features_are_stored_where_it_pays() -> None:
    assert features(recipe("coarse", "vit")) == {"coarse", "vit"}
    assert features(recipe("coarse", "vit", features="never")) == set()
    once = recipe_data("coarse", "vit", steps=1)
    once["stages"][1]["batch"] = once["stages"][2]["batch"] = 4  # 8 looks at 12 images
    assert features(Recipe.parse(once)) == set()


def test_a_trained_trunk_stores_no_features() -> None:
    for pattern in ("encoders.vit", "encoders.vit:trunk", "encoders.vit:trunk.model.blocks*", "encoders.*:*"):
        data = recipe_data("coarse", "vit")
        data["stages"][2]["train"][pattern] = 1e-4
        assert features(Recipe.parse(data)) == (set() if pattern == "encoders.*:*" else {"coarse"}), pattern
    data = recipe_data("coarse", "vit")
    data["stages"][2]["train"]["encoders.vit:neck"] = 1e-4
    assert features(Recipe.parse(data)) == {"coarse", "vit"}


def test_only_a_whole_benchmark_is_stored() -> None:
    def sources(one: Recipe) -> list[str]:
        jobs = [job for job in plan_trial(one).jobs() if isinstance(job, FeatureJob)]
        return [job.source.describe() for job in jobs]

    assert sum("test" in text for text in sources(recipe("coarse"))) == 2
    data = recipe_data("coarse")
    data["benchmarks"][0]["limit"] = 3
    assert sum("test" in text for text in sources(Recipe.parse(data))) == 1


def job_named(one: Recipe, start: str) -> Job:
    return next(job for job in plan_trial(one).jobs() if job.label.startswith(start))


def test_the_price_of_training_is_arithmetic() -> None:
    stored, plain = recipe("vit"), recipe("vit", features="never")
    trunk = EncoderConfig.parse(VIT).trunk_cost().flops
    samples = 3 * 8
    with_trunk, without = job_named(plain, "tune").price(), job_named(stored, "tune").price()
    assert with_trunk.flops - without.flops == pytest.approx(samples * trunk)
    assert (with_trunk.samples, with_trunk.tokens) == (without.samples, without.tokens)
    assert without.samples == samples
    data = recipe_data("vit")
    data["stages"][2]["train"]["encoders.vit"] = 1e-4
    trained = job_named(Recipe.parse(data), "tune").price()
    assert trained.flops - with_trunk.flops == pytest.approx(2 * samples * trunk)  # backward costs two more passes
    features_job = job_named(stored, "features of vit on drawn counts (train")
    assert features_job.price().flops == 6 * trunk
    assert features_job.price().bytes == 6 * 2 * EncoderConfig.parse(VIT).trunk_grid().values


def tiled(*experts: str, tiling: dict[str, Any], **changes: Any) -> Recipe:
    one = recipe(*experts)
    return recipe(*experts, model={**one.model.to_dict(), "tiling": tiling}, **changes)


def test_the_price_of_tiles_is_arithmetic() -> None:
    grid = {"kind": "fixed_grid", "rows": 1, "columns": 2, "tile": 16}
    plain = recipe("coarse", "fine", features="never")
    three = tiled("coarse", "fine", tiling=grid, features="never")
    once = tiled("coarse", "fine", tiling={**grid, "whole": ["fine"]}, features="never")
    trunk, samples = EncoderConfig.parse(FINE).trunk_cost().flops, 3 * 8
    prices = [job_named(one, "tune").price() for one in (plain, three, once)]
    assert prices[1].tokens - prices[0].tokens == samples * 2 * 4
    assert prices[2].tokens == prices[1].tokens
    neck = EncoderConfig.parse(FINE).cost().flops - trunk  # trained: three passes
    channels = 2 * 4 * 16 * 32  # of 32 channels of "fine" 16 are left, half its cells: a smaller projector
    saved = samples * (2 * (trunk + 3 * neck) + 3 * 3 * channels)
    assert prices[1].flops - prices[2].flops == pytest.approx(saved, rel=1e-6)
    tags = job_named(tiled("coarse", tiling={**grid, "tags": "one_d"}), "tune").price()
    bare = job_named(tiled("coarse", tiling=grid), "tune").price()
    words = recipe("coarse").model.language.tokenizer()
    said = sum(len(words.encode(tag, special=False)) for tag in ("<tile_1>", "<tile_2>", "<tile_global_thumbnail>"))
    assert tags.tokens - bare.tokens == samples * said


def test_designs_of_one_tiling_share_their_stored_features() -> None:
    grid = {"kind": "fixed_grid", "rows": 1, "columns": 2, "tile": 16}

    def stored(one: Recipe) -> set[str]:
        return {job.key for job in plan_trial(one).jobs() if isinstance(job, FeatureJob)}

    assert stored(tiled("vit", tiling=grid))
    assert stored(tiled("vit", tiling=grid)) == stored(tiled("vit", tiling={**grid, "tags": "box"}))
    assert not stored(tiled("vit", tiling=grid)) & stored(recipe("vit"))


def test_a_tiling_forgets_encoders_that_are_taken_away() -> None:
    both = tiled("coarse", "fine", tiling={"kind": "fixed_grid", "tile": 16, "whole": ["fine"]})
    assert with_encoders(both, {"coarse": both.model.encoders["coarse"]}).model.tiling.seen_whole == ()
    assert with_encoders(both, {}).model.tiling.seen_whole == ()
    experts = {
        tuple(job.weights.model.encoders): job.weights.model.tiling.seen_whole for job in plan_trial(both).training
    }
    assert experts[("coarse",)] == ()
    assert experts[("fine",)] == ("fine",)


def test_sharing_is_cheaper_than_working_alone() -> None:
    plan = Plan.of(round_robin().strategy.horizon())
    assert plan.price().flops == pytest.approx(sum(job.price().flops for job in plan.jobs.values()))
    assert plan.unshared_price().flops > 1.2 * plan.price().flops


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["stages"].reverse(), "first those of scope 'language', then 'expert', then 'mixture'"),
        (lambda d: d["stages"][1].update(name="language"), "names must differ, got language, language, tune"),
        (lambda d: d["benchmarks"][1].update(name="attributes"), "benchmarks: names must differ"),
        (lambda d: d["model"].update(fusion="none"), "exactly one encoder is wanted, got 2"),
        (lambda d: d["model"]["fusion"].update(grid=[3, 3]), "encoder 'coarse'"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(change: Any, message: str) -> None:
    data = recipe_data("coarse", "fine")
    change(data)
    with pytest.raises(ConfigError) as error:
        Recipe.parse(data)
    assert message in str(error.value)


def test_a_recipe_says_what_it_sees_with() -> None:
    assert recipe("coarse", "fine").label() == "coarse + fine · channel_concat"
    assert recipe("coarse").label() == "coarse"
    assert recipe("coarse", seed=3).design() == recipe("coarse", name="x").design()
    assert recipe("coarse", seed=3).digest() != recipe("coarse").digest()
    single = with_encoders(recipe("coarse", "fine"), {"fine": EncoderConfig.parse(FINE)})
    assert single.model.tokens_per_view == recipe("coarse", "fine").model.tokens_per_view == 4
    assert single.name == "fine"
    assert recipe("coarse").model.encoders["coarse"] == EncoderConfig.parse(COARSE)


def test_a_plan_needs_no_store(store_folder: Any) -> None:
    from ommatidia.lab.show.describe import describe_plan

    tables, summary, refused = describe_plan(round_robin(), Store(store_folder / "none"))
    assert not (store_folder / "none").exists()
    assert refused == []
    assert {row[-1] for row in tables[0][2]} == {"to do"}
    assert summary["nodes"] == len(tables[0][2]) == len(Plan.of(round_robin().strategy.horizon()).jobs)
