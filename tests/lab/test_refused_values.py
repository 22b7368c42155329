"""Values of the command line that are refused where they stand, before anything is worked out."""

from __future__ import annotations

from pathlib import Path

import pytest

from ommatidia.core.errors import ConfigError
from ommatidia.lab.search.load import read_value
from ommatidia.lab.show.describe import describe

DESIGN = "ommatidia.recipes.quickstart:design"


@pytest.mark.parametrize(
    ("arguments", "changes", "wrong"),
    [
        (["seed=1", "seed=2"], [], "seed is given twice: 'seed=1' and 'seed=2'"),
        (["seed=true"], [], "seed: .*valid integer, got True"),
        (["seed=banana"], [], "seed: .*got 'banana'"),
        ([], ["seed=1", "seed=2"], "seed is given twice"),
        ([], ["device=banana"], "device: .*got 'banana'"),
        ([], ["stages.0.train={projector: true}"], r"train\.projector: .*valid number, got True"),
        ([], ["stages.0.train={projector: 1e12}"], r"train\.projector: .*less than or equal to 10"),
        ([], ["stages.0.steps=5:00"], r"steps: .*got '5:00'"),
        ([], ["model.fusion.kind=[]"], r"fusion: 'kind' is \[\]"),
        ([], ["stages.0.data.sources.scenes.source.pictures=1000000000000"], "pictures: .*got 1000000000000"),
        ([], [f"name={'[' * 300}"], "not valid YAML"),
    ],
)
def test_a_wrong_value_is_one_line(arguments, changes, wrong):
    with pytest.raises(ConfigError, match=wrong) as caught:
        read_value(DESIGN, arguments, changes)
    assert "\n" not in str(caught.value)


def test_numbers_are_numbers_of_yaml_1_2():
    assert read_value(DESIGN, ["seed=0300"], []).seed == 300  # type: ignore[union-attr]


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("seed: 1\nname: a\nseed: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recipe\.yaml: .*line 3: the key 'seed' stands in line 1 already"):
        read_value(str(path), [], [])


def test_show_refuses_a_part_that_the_model_has_not():
    value = read_value(DESIGN, [], ["stages.1.train={projektor: 1e-3}"])
    with pytest.raises(ConfigError, match="unknown part 'projektor'; did you mean 'projector'"):
        describe(value)
