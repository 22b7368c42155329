"""The studies' comparisons: every design is complete, they differ in what is compared, and twins of them train."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ommatidia.core.console import Console, use
from ommatidia.core.errors import ConfigError
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.price.memory import held, parameters
from ommatidia.lab.recipe import Recipe, find, read
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan
from ommatidia.lab.search import RoundRobin, Search
from ommatidia.lab.search.twin import twin_of_recipe
from ommatidia.lab.show import designs as kept
from ommatidia.lab.show.pricing import stage_prices
from ommatidia.lab.show.study_page import row

DESIGNS = {
    "eagle_studies:resolution": 10, "eagle_studies:singles": 12, "eagle_studies:fusion": 10,
    "eagle_studies:pre_alignment": 24, "eagle_studies:round_robin": 10, "cambrian_studies:trainings": 4,
    "cambrian_studies:backbones": 23, "cambrian_studies:combinations": 7, "cambrian_studies:aggregator": 7,
    "vila_studies:freezing": 4, "vila_studies:corpora": 4, "vila_studies:text": 4, "nvlm_studies:tags": 4,
    "nvlm_studies:designs": 3, "mm1_studies:resolution": 4, "mm1_studies:connector": 12, "mm1_studies:ratio": 8,
}  # fmt: skip
"""How many designs each comparison has; of the round robin, as many as it may come to."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder: no data, no tokenizer, no weights; the network is blocked for every test."""
    monkeypatch.chdir(tmp_path)


def designs(reference: str, **arguments: Any) -> dict[str, Recipe]:
    search: Search = read(f"ommatidia.recipes.{reference}", Search, arguments)
    return {recipe.name: recipe for recipe in search.strategy.horizon()}


@pytest.mark.parametrize("reference", DESIGNS)
def test_every_design_is_complete_and_unlike_the_others(reference: str) -> None:
    search: Search = read(f"ommatidia.recipes.{reference}", Search, {"data": "elsewhere"})
    assert Search.parse(search.to_dict()) == search
    found = search.strategy.horizon()
    assert len(found) == DESIGNS[reference]
    entry = f"ommatidia.recipes.{reference}"
    assert kept.designs(entry, find(entry)).removeprefix("up to ") == str(len(found)), "ommatidia.lab.show.designs"
    assert len({recipe.digest() for recipe in found}) == len(found)
    for recipe in found:
        assert recipe.benchmarks
        total = sum(parameters(recipe.model).values())
        for stage in recipe.stages:
            assert 0 < held(recipe, stage).trained <= total
            assert all(str(one.source.absent()).startswith("elsewhere/") for one in stage.data.sources.values())


@pytest.mark.parametrize(
    ("reference", "name", "tokens"),
    [
        ("eagle_studies:resolution", "224 frozen", 256),
        ("eagle_studies:resolution", "448 trained", 1024),
        ("eagle_studies:resolution", "672 frozen", 2304),
        ("eagle_studies:resolution", "672 in tiles frozen", 4 * 576),
        ("eagle_studies:singles", "dinov2 trained", 1024),
        ("eagle_studies:fusion", "clip + convnext + sam, sequence append", 3 * 1024),
        ("eagle_studies:fusion", "clip + convnext + sam, llava-hr", 1024),
        ("cambrian_studies:backbones", "siglip_so400m_384", 729),
        ("cambrian_studies:backbones", "mae_l", 196),
        ("cambrian_studies:backbones", "sam_l_raw", 576),
        ("cambrian_studies:backbones", "sam_h_raw", 576),
        ("cambrian_studies:combinations", "S+D+X+C", 576),
        ("cambrian_studies:aggregator", "depth 3", 576),
        ("vila_studies:freezing", "both, transformer", 256),
        ("vila_studies:freezing", "both, linear", 256),
        ("mm1_studies:connector", "attention, 64 tokens, 224 px", 64),
        ("mm1_studies:connector", "c_abstractor, 144 tokens, 336 px", 144),
    ],
)
def test_visual_tokens_are_those_of_the_paper(reference: str, name: str, tokens: int) -> None:
    assert designs(reference)[name].model.most_visual_tokens == tokens


def test_the_control_of_pre_alignment_spends_as_many_operations() -> None:
    found = designs("eagle_studies:pre_alignment", experts="sam")
    spent = {}
    for name, recipe in found.items():
        spent[name] = sum((price.samples or 0) * price.flops for price in stage_prices(recipe))
    for how in ("frozen", "trained"):
        pre_aligned, longer = (spent[f"clip + sam, {how}, {what}"] for what in ("pre-aligned", "longer"))
        assert longer == pytest.approx(pre_aligned, rel=2e-3)
        assert spent[f"clip + sam, {how}"] < 0.7 * longer


def test_the_round_robin_starts_from_the_two_best() -> None:
    search: Search = find("ommatidia.recipes.eagle_studies:round_robin")()
    assert isinstance(search.strategy, RoundRobin)
    assert search.strategy.start == ("clip", "convnext")
    assert set(search.strategy.pool) - {"dinov2"} == {"clip", "convnext", "sam", "pix2struct", "eva02_det"}


def test_stages_of_the_trainings() -> None:
    found = designs("cambrian_studies:trainings")
    assert [len(recipe.stages) for recipe in found.values()] == [1, 2, 2, 2]
    rates = {name: recipe.stages[-1].train.get("encoders.*") for name, recipe in found.items()}
    assert rates == {"0m": None, "0.5m": None, "1.2m": None, "1.2m_trained": 1e-5}
    with pytest.raises(ConfigError, match=r"training: .*'1.2m_trained', got '2m'"):
        designs("cambrian_studies:backbones", training="2m")


def test_mm1_falls_to_a_tenth_and_tunes_with_adafactor() -> None:
    recipe: Recipe = read("ommatidia.recipes.mm1:30b", Recipe)
    pretrain, tune = recipe.stages
    assert (pretrain.final_rate, pretrain.optimizer, pretrain.longest) == (0.1, "adamw", 4096)
    assert (tune.final_rate, tune.optimizer, tune.longest) == (0.1, "adafactor", 2048)
    assert parameters(recipe.model)["language"] / 1e9 == pytest.approx(32.5, abs=0.5)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("eagle_studies:resolution", "672 in tiles trained"),
        ("eagle_studies:fusion", "clip + convnext + sam, llava-hr"),
        ("eagle_studies:fusion", "clip + convnext + sam, deformable"),
        ("eagle_studies:pre_alignment", "clip + dinov2, trained, longer"),
        pytest.param("cambrian_studies:backbones", "stable_diffusion_2_1", marks=pytest.mark.slow),
        ("cambrian_studies:aggregator", "in the decoder"),
        ("vila_studies:freezing", "tuned, transformer"),
        ("vila_studies:text", "mmc4, visual + text"),
        ("mm1_studies:ratio", "45-45-10"),
    ],
)
def test_the_twin_of_a_design_trains(reference: str, name: str, tmp_path: Path) -> None:
    if "diffusion" in name:
        pytest.importorskip("diffusers")
    small = twin_of_recipe(designs(reference)[name]).model_copy(update={"benchmarks": ()})
    store, plan = Store(tmp_path), Plan.of([small])
    with use(Console(quiet=True)), store.writing():
        assert execute(plan, store).failed == {}


PAGES = Path(__file__).parents[2] / "docs" / "studies"
PRICED = ("eagle:x5_7b", "cambrian_studies:trainings", "vila_studies:text", "mm1_studies:ratio", "llava:v15_7b")


def test_the_pages_price_every_recipe_of_their_study() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md")))
    told = dict(re.findall(r"^(\| `(\w+:\w+)` .*\n)", text, re.MULTILINE))
    named = {name: line for line, name in told.items()}
    assert named.keys() >= DESIGNS.keys()
    assert all(f"| `{name}` | {count} |" in named[name] for name, count in DESIGNS.items())
    for name in PRICED:
        assert named[name] == row(name)
