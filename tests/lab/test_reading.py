"""A stage that reads otherwise than its model: another chat format, tiling or image size, the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lab_toys import recipe_data
from safetensors.torch import load_file
from torch.nn.functional import interpolate

from ommatidia.core.config import override
from ommatidia.core.console import Console, use
from ommatidia.core.errors import ConfigError
from ommatidia.core.types import IMAGE_TOKEN_ID
from ommatidia.lab.data.packing import pack
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.recipe import Recipe, with_encoders
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan, plan_trial
from ommatidia.lab.show.describe import describe
from ommatidia.lab.show.inspection import inspect_recipe
from ommatidia.lab.show.pricing import stage_prices
from ommatidia.models.processor import Processor
from ommatidia.models.resizing import misfit, resized
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
    assert not {"chat", "tiling", "encoders"} & plain.stages[0].hashed().keys()
    assert plain.stages[0].model_for_stage(plain.model) is plain.model
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
    assert Processor(made.stages[0].model_for_stage(made.model))(sample).ids.tolist().count(IMAGE_TOKEN_ID) == 4
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


VIT: dict[str, Any] = {
    "kind": "timm", "model": "vit_tiny_patch16_224", "args": {"depth": 2, "embed_dim": 32, "num_heads": 2},
}  # fmt: skip


def growing(small: Any = None, **model: Any) -> Recipe:
    """A ViT that sees 32 x 48 px first and 64 x 64 px then."""
    data = recipe_data("coarse", "fine")
    alone = {"encoders": {"vit": VIT | {"image_size": 64}}, "fusion": "none", **model}
    tune = data["stages"][2] | {"train": {"encoders.vit": 1e-2, "projector": 1e-3}}
    align = tune | {"name": "align", "encoders": {"vit": small or VIT | {"image_size": [32, 48]}}}
    return Recipe.parse(data | {"stages": [align, tune], "features": "never", "model": data["model"] | alone})


def test_an_encoder_grows_between_stages_and_takes_its_positions_along(tmp_path: Path) -> None:
    recipe = growing()
    align, tune = plan_trial(recipe).training
    assert [job.weights.model.encoders["vit"].preprocess().size for job in (align, tune)] == [(32, 48), (64, 64)]
    assert align.price().flops < tune.price().flops
    plan, store = Plan.of([recipe]), Store(tmp_path)
    with use(Console(quiet=True)), store.writing():
        assert execute(plan, store).failed == {}
    name = "encoders.vit:trunk.model.pos_embed"
    small, large = (load_file(job.folder(store) / "trained.safetensors")[name] for job in (align, tune))
    assert (small.shape, large.shape) == ((1, 1 + 2 * 3, 32), (1, 1 + 4 * 4, 32))
    held = dict(tune.weights.build(store).encoders["vit"].named_parameters())["trunk.model.pos_embed"]
    assert torch.equal(held[:, :1], small[:, :1])  # the class token's place is nowhere
    wanted = interpolate(small[:, 1:].unflatten(1, (2, 3)).permute(0, 3, 1, 2), (4, 4), mode="bicubic", antialias=True)
    torch.testing.assert_close(held[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2), wanted)
    (stages,) = [rows for title, _, rows in describe(recipe) if title == "stages"]
    assert [row[-1] for row in stages] == ["vit at 32x48 px", ""]
    assert with_encoders(recipe, {"other": recipe.model.encoders["vit"]}).stages[0].encoders is None


def test_a_projector_s_places_grow_with_the_grid() -> None:
    recipe = growing(projector={"kind": "c_abstractor", "grid": [2, 2], "depth": 1, "hidden": 8})
    model = recipe.model
    read = recipe.stages[0].model_for_stage(model)
    place, (old, new) = "projector:0.places", (one.fused_grid() for one in (read, model))
    assert old is not None
    assert new is not None
    state = {place: torch.ones(old.tokens, old.dim), "language:x": torch.zeros(1)}
    found = resized(state, read, model)
    assert found.keys() == state.keys()
    torch.testing.assert_close(found[place], torch.ones(new.tokens, new.dim))
    assert misfit(read, model, "projector") is None


def test_another_size_is_refused_where_it_is_another_model() -> None:
    with pytest.raises(ConfigError, match=r"stage 'align': encoders: unknown encoder 'vito'; did you mean 'vit'\?"):
        Recipe.parse(growing().to_dict() | {"stages": [growing().stages[0].to_dict() | {"encoders": {"vito": VIT}}]})
    with pytest.raises(ConfigError, match=r"encoders.vit: not the model's own, by its features, args; only the size"):
        growing(small=VIT | {"features": 0, "args": {"depth": 1}})
    cut = {"kind": "none", "grid": [2, 2], "resample": "unshuffle"}
    with pytest.raises(ConfigError, match=r"stage 'align': as it reads, projector:\S+ has another shape than"):
        growing(small=VIT | {"image_size": 32}, fusion=cut)
    tables = VIT | {"model": "beit_base_patch16_224"}  # of distances between two places
    recipe = growing(small=tables | {"image_size": 32}, encoders={"vit": tables | {"image_size": 64}})
    with pytest.raises(ConfigError, match=r"encoders.vit: between 32x32 and 64x64 px encoders.vit:trunk\S+ changes"):
        plan_trial(recipe)
