"""Names that would leave their folder are refused when the value is built, before anything is made."""

from __future__ import annotations

from typing import Any

import pytest
from lab_toys import benchmark, recipe_data, round_robin

from ommatidia.core.errors import ConfigError
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Search

STRANGE = ["a/b", "../../../escaped", "x" * 101]


@pytest.mark.parametrize("name", STRANGE)
def test_names_that_are_no_path_component_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name: the name"):
        Search.parse(round_robin().to_dict() | {"name": name})
    with pytest.raises(ConfigError, match="name: the name"):
        BenchmarkConfig.parse(benchmark("counts", "general") | {"name": name})
    data: dict[str, Any] = recipe_data("coarse")
    with pytest.raises(ConfigError, match="name: the name"):
        Recipe.parse(data | {"name": name})
    sources = data["stages"][0]["data"]["sources"]
    sources[name] = sources.pop("scenes")
    with pytest.raises(ConfigError, match=r"sources.*the name"):
        Recipe.parse(data)
    data = recipe_data("coarse")
    data["stages"][0]["name"] = name
    with pytest.raises(ConfigError, match="name"):
        Recipe.parse(data)
    data = recipe_data("coarse")
    data["model"]["encoders"][name] = data["model"]["encoders"].pop("coarse")
    with pytest.raises(ConfigError, match="encoders"):
        Recipe.parse(data)
