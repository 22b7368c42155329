"""A stage that reads otherwise than its model: another chat format, another tiling, the same parts and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab_toys import recipe_data
from safetensors.torch import load_file

from ommatidia.core.config import override
from ommatidia.core.console import Console, use
from ommatidia.core.errors import ConfigError
from ommatidia.core.types import IMAGE_TOKEN_ID
from ommatidia.lab.describe import describe
from ommatidia.lab.inspection import inspect_recipe
from ommatidia.lab.packing_data import pack
from ommatidia.lab.plan import Plan, plan_trial
from ommatidia.lab.pricing import stage_prices
from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.run import execute
from ommatidia.lab.store import Store
from ommatidia.models.processor import Processor
from ommatidia.models.vision.tiling import Whole

TILES: dict[str, Any] = {"kind": "fixed_grid", "rows": 1, "columns": 2, "tile": [16, 16], "overview": "last"}
BARE: dict[str, Any] = {"name": "bare", "end": "<|end|>", "drop_user_text": True}


def reading(**fields: Any) -> Recipe:
    """A tiled model, a first stage of this scope and fields, and a second one that reads as the model does."""
    data = recipe_data("coarse", "fine")
    data["model"]["tiling"] = TILES
    tune = data["stages"][2]
    align = tune | {"name": "align", "train": {"projector": 1e-3, "encoders.*:neck": 1e-3}}
    return Recipe.parse(data | {"stages": [align | fields, tune], "features": "never"})


def test_what_is_not_said_changes_no_key() -> None:
    plain = reading()
    assert not {"chat", "tiling"} & plain.stages[0].hashed().keys()
    assert plain.stages[0].reading(plain.model) is plain.model
    other = reading(chat=BARE)
    assert other.digest() != plain.digest()
    (first, _), (second, _) = (plan_trial(one).training for one in (plain, other))
    assert first.key != second.key


def test_one_stage_reads_otherwise_and_the_next_as_the_model_does(tmp_path: Path) -> None:
    recipe = reading(chat=BARE, tiling="whole")
    align, tune = plan_trial(recipe).training
    assert (align.weights.model.chat.name, align.weights.model.tiling) == ("bare", Whole())
    assert tune.weights.model == recipe.model
    sample = recipe.stages[0].data.open().draw(0, seed=0)
    said = []
    for job in (align, tune):
        processor = Processor(job.weights.model)
        ids = processor(sample).ids.tolist()
        words = processor.tokenizer.inner.decode([one for one in ids if one != IMAGE_TOKEN_ID])
        said.append((ids.count(IMAGE_TOKEN_ID), words))
    assert said == [(4, f"{sample.answer}<|end|>"), (12, said[1][1])]
    assert "<|user|>" in said[1][1]

    plan, store = Plan.of([recipe]), Store(tmp_path)
    with use(Console(quiet=True)), store.writing():
        assert execute(plan, store).failed == {}
    assert load_file(align.folder(store) / "trained.safetensors").keys() == {
        name for name in load_file(tune.folder(store) / "trained.safetensors") if not name.startswith("language:")
    }


def test_it_is_priced_shown_inspected_and_tokenised_as_it_reads(tmp_path: Path) -> None:
    plain, other = reading(), reading(chat=BARE, tiling="whole")
    before, after = (stage_prices(one)[0].tokens for one in (plain, other))
    assert (before.views, after.views, before.visual, after.visual) == (3, 1, 12, 4)
    assert before.text > after.text
    assert stage_prices(plain)[1].tokens == stage_prices(other)[1].tokens
    (stages,) = [rows for name, _, rows in describe(other) if name == "stages"]
    assert [row[-1] for row in stages] == ["chat bare, tiling whole, 1 view at most", ""]
    assert all(len(row) == 8 for name, _, rows in describe(plain) if name == "stages" for row in rows)
    assert inspect_recipe(other, "align", 0, tmp_path / "a.png").data["visual_tokens"] == 4
    assert inspect_recipe(other, "tune", 0, tmp_path / "t.png").data["visual_tokens"] == 12
    with use(Console(quiet=True)):
        pack(other, "align", tmp_path / "tokens")
    made = override(other, "stages.0.data", Recipe.parse(other.to_dict()).stages[0].data.to_dict())
    data = type(other.stages[0].data).read(tmp_path / "tokens" / "mixture.yaml")
    sample = data.open().draw(0, seed=0)
    assert Processor(made.stages[0].reading(made.model))(sample).ids.tolist().count(IMAGE_TOKEN_ID) == 4
    with pytest.raises(ConfigError, match="another chat format and another tiling"):
        Processor(made.model)(sample)


def test_experts_and_blind_models_read_so_too() -> None:
    recipe = reading(chat=BARE, tiling=TILES | {"columns": 1, "whole": []}, scope="expert")
    jobs = plan_trial(recipe).training
    assert [list(job.weights.model.encoders) for job in jobs] == [["coarse"], ["fine"], ["coarse", "fine"]]
    assert [job.weights.model.chat.name for job in jobs] == ["bare", "bare", "compact"]
    assert with_encoders(recipe, {}).stages[0].tiling is None


def test_what_changes_the_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stage 'align': by its tiling a view brings .* of encoder 'fine', but"):
        reading(tiling=TILES | {"whole": ["fine"]})
    with pytest.raises(ConfigError, match=r"stage 'align': .*leave no room for text in a context of 256"):
        reading(tiling=TILES | {"rows": 9, "columns": 9})
    with pytest.raises(ConfigError, match=r"unknown chat format 'vicuna'; did you mean 'vicuna_v1'\?"):
        reading(chat="vicuna")
