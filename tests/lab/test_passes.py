"""How often a part's operations are counted: patterns with wildcards reach every submodule, adapters spare a pass."""

from __future__ import annotations

import lab_toys
import pytest

from ommatidia.lab.price.cost import passes, trains
from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.run.plan import Plan
from ommatidia.models.config import MLLMConfig
from ommatidia.train.stage import Stage


def stage(*patterns: str) -> Stage:
    given = lab_toys.recipe("coarse", "vit").stages[-1]
    return Stage.parse(given.to_dict() | {"train": dict.fromkeys(patterns, 1e-3)})


@pytest.mark.parametrize(
    ("pattern", "trunk", "neck"),
    [
        ("encoders.vit", True, True),
        ("encoders.*:*norm*", True, True),
        ("encoders.vit:trunk", True, False),
        ("encoders.vit:trunk.model.blocks.1*", True, False),
        ("encoders.vit:neck*", False, True),
        ("encoders.vit:neck.0", False, True),
        ("projector", False, False),
    ],
)
def test_a_wildcard_may_reach_the_trunk(pattern: str, trunk: bool, neck: bool) -> None:
    assert trains(stage(pattern), "encoders.vit", below="trunk") is trunk
    assert trains(stage(pattern), "encoders.vit", below="neck") is neck


def test_adapters_spare_the_gradients_of_what_they_stand_beside() -> None:
    plain = lab_toys.recipe("coarse", "vit").model
    adapted = MLLMConfig.parse(plain.to_dict() | {"adapters": {"language": {"rank": 2}}})
    assert passes(plain, stage("language"), "language", before=True) == 3
    assert passes(adapted, stage("language"), "language", before=True) == 2
    assert passes(adapted, stage("language:*lora*"), "language", before=True) == 2
    assert passes(adapted, stage("language:*"), "language", before=True) == 3
    assert passes(adapted, stage("projector"), "language", before=False) == 1


def test_a_recipe_with_adapters_is_planned_and_its_singles_keep_what_is_about_them() -> None:
    data = lab_toys.recipe("coarse", "vit").to_dict()
    data["model"]["adapters"] = {"language": {"rank": 2}, "encoders.vit": {"rank": 2}}
    recipe = Recipe.parse(data)
    assert len(Plan.of([recipe]).jobs) == len(Plan.of([lab_toys.recipe("coarse", "vit")]).jobs)
    single = with_encoders(recipe, {"coarse": recipe.model.encoders["coarse"]})
    assert single.model.adapters.keys() == {"language"}
