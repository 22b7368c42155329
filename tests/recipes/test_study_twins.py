"""Every study runs: with its own parts shrunk to a few thousand weights, each of its stages trains two steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ommatidia.core.config import digest
from ommatidia.core.console import Console, use
from ommatidia.core.grid import Grid
from ommatidia.lab.plan import Plan
from ommatidia.lab.recipe import Recipe, read
from ommatidia.lab.run import execute
from ommatidia.lab.store import Store
from ommatidia.models.vision import CATALOG
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.models.vision.tiling import Whole
from ommatidia.train.freeze import select

SMALL: dict[str, dict[str, Any]] = {
    "channel_concat": {"grid": [2, 2]},
    "sva": {"side": 2, "sides": {}, "groups": [2], "width": 16, "heads": 2},
    "mixture_of_resolution": {"adapters": 2},
    "c_abstractor": {"grid": [2, 2], "hidden": 8, "depth": 1},
    "pixel_shuffle_mlp": {"hidden": 16},
    "dynamic": {"tile": 56, "max_tiles": 4},
    "any_resolution": {"tile": 56},
    "fixed_grid": {"tile": [56, 56]},
    "deep_sva": {"count": 1, "stride": 1},
    "cross_attention": {"layers": 1, "every": 1},
    "hybrid": {"layers": 1, "every": 1},
}
"""By kind of part: what makes it small."""
LANGUAGE = {"kind": "scratch", "width": 32, "layers": 2, "heads": 2, "context": 1024}
DRAWN = {"kind": "drawn_attributes", "split": "train", "pictures": 4, "per_picture": 1, "size": 40}

NOT_THE_SAME_PARTS = ("image_size", "fit", "weights", "neck", "mean", "std", "interpolation")


def parts_of(encoder: EncoderConfig) -> str:
    return digest({name: value for name, value in encoder.to_dict().items() if name not in NOT_THE_SAME_PARTS})


@pytest.fixture(scope="module")
def twins() -> dict[str, dict[str, Any]]:
    """The catalog's small twins by what their encoders are made of."""
    found: dict[str, dict[str, Any]] = {}
    for name, card in CATALOG.items():
        found.setdefault(parts_of(EncoderConfig.parse(name)), card.twin())  # the first is of the native size
    return found


def small(part: Any) -> dict[str, Any]:
    data: dict[str, Any] = part.to_dict()
    return data | SMALL.get(data["kind"], {})


def shrunk(recipe: Recipe, twins: dict[str, dict[str, Any]]) -> Recipe:
    """The recipe with small parts of the same kinds, two steps a stage, and a drawn source."""
    model = recipe.model
    return Recipe.parse(
        {
            "model": {
                "encoders": {
                    name: {**twins[parts_of(encoder)], "fit": encoder.preprocess().fit}
                    for name, encoder in model.encoders.items()
                },
                **{name: small(getattr(model, name)) for name in ("tiling", "fusion", "projector", "injection")},
                "language": LANGUAGE,
                "chat": "compact",
            },
            "stages": [
                stage.to_dict()
                | {"data": {"sources": {"drawn": {"source": DRAWN}}}, "epochs": None, "steps": 2, "batch": 2}
                for stage in recipe.stages
            ],
        }
    )


@pytest.mark.parametrize(
    "reference",
    [
        "eagle:x5_7b", "cambrian:8b", "nvlm:d_72b", "nvlm:x", "nvlm:h", "vila:7b", "mm1:3b", "llava:v15_7b",
        "llava:next", "llava_hr", "mini_gemini:7b", "mini_gemini:7b_hd", "internvl:v15_26b",
    ],
)  # fmt: skip
def test_a_small_twin_of_the_study_trains(reference: str, tmp_path: Path, twins: dict[str, dict[str, Any]]) -> None:
    whole: Recipe = read(f"ommatidia.recipes.{reference}", Recipe)
    recipe = shrunk(whole, twins)
    assert [type(part) for part in (recipe.model.fusion, recipe.model.projector, recipe.model.injection)] == [
        type(part) for part in (whole.model.fusion, whole.model.projector, whole.model.injection)
    ]
    store, plan = Store(tmp_path), Plan.of([recipe])
    with use(Console(quiet=True)), store.writing():
        result = execute(plan, store)
    assert result.failed == {}
    trained = [job for job in plan.jobs.values() if job.kind == "training"]
    pre_aligned = sum(stage.scope == "expert" for stage in recipe.stages) * (len(recipe.model.encoders) - 1)
    assert len(trained) == len(recipe.stages) + pre_aligned


def test_the_tiled_twin_of_mm1_and_every_tag_of_nvlm_fit(twins: dict[str, dict[str, Any]]) -> None:
    mm1 = shrunk(read("ommatidia.recipes.mm1:3b", Recipe, {"tiled": True}), twins)
    assert mm1.model.visual_tokens(40, 40) == 5 * 4
    assert mm1.model.visual_grid() == Grid(2, 2, 32)
    for tags in ("none", "one_d", "two_d", "box"):
        tiled = shrunk(read("ommatidia.recipes.nvlm:d_72b", Recipe, {"tags": tags}), twins).model.tiling
        assert not isinstance(tiled, Whole)


def test_cambrian_aligns_with_a_lower_rate_inside_the_aggregator(twins: dict[str, dict[str, Any]]) -> None:
    recipe = shrunk(read("ommatidia.recipes.cambrian:8b", Recipe), twins)
    rates = select(recipe.model.build(seed=0).parts(), recipe.stages[0].train).rates
    slow = {name for name, rate in rates.items() if rate == 1e-4}
    assert {name.partition(".")[0] for name in slow} == {"fusion:query_GC", "fusion:groups", "injection:layers"}
    fast = {name.partition(".")[0] for name in rates.keys() - slow}
    assert fast == {"fusion:adapters", "projector:0", "projector:2", "injection:row_end_E"}
    assert {rates[name] for name in rates.keys() - slow} == {1e-3}
