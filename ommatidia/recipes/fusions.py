"""How to join eyes: the quickstart's space extended by every fusion, by tiles and their tags, and by injections."""

from __future__ import annotations

from typing import Any

from ommatidia.lab.recipe import Recipe
from ommatidia.lab.search import Search
from ommatidia.recipes.quickstart import design, expert, joined, pool


def _joins() -> dict[str, dict[str, Any]]:
    """Every fusion over experts of three grids (4x4, 8x8, 12x12), each small, and each down to 2 x 2 visual tokens."""
    fold = {"kind": "pixel_shuffle_mlp", "factor": 2, "depth": 1}
    small = {"heads": 4, "dim": 128}
    fusions: dict[str, dict[str, Any]] = {
        "channel_concat": {"fusion": joined("channel_concat")},
        "sequence_append": {"fusion": joined("sequence_append")},
        "interleave": {"fusion": {**joined("interleave"), "dim": 128}},
        "gated_sum": {"fusion": {**joined("gated_sum"), "dim": 256}},
        "patch_mining": {"fusion": {"kind": "patch_mining"}, "projector": fold},
        "deformable": {"fusion": {"kind": "deformable", **small}, "projector": fold},
        "routing": {
            "fusion": {
                "kind": "routing",
                "grid": [4, 4],
                "top_k": 2,
                "blocks": 1,
                "stages": 1,
                "heads": 4,
                "head_dim": 32,
            }
        },
        "resampler": {"fusion": {"kind": "resampler", "queries": 4, "bank": 128, "layers": 2, **small}},
        "sva": {"fusion": {"kind": "sva", "side": 2, "width": 128, "depth": 2, "heads": 4, "groups": [2]}},
    }
    again = {"kind": "deep_sva", "count": 1, "start": 0, "stride": 1}
    fusions["deep_sva"] = {**fusions["sva"], "injection": again}
    return fusions


def search(seeds: int = 1) -> Search:
    """Every fusion, tiles under each kind of tag, and layers inside the decoder, on the quickstart's experts and tasks.

    Three experts, EfficientNet-Lite0 at 64 and 128 pixels and CRAFT, four visual tokens a view (twelve where a fusion
    keeps each expert's), so that what differs is how they are joined. LLaVA-HR's adapters need blocks to stand between:
    there the small untrained transformer is what they go into. Tiles are seen by the two classifiers alone: the text
    detector costs twenty times as much a view.
    """
    base = design().to_dict()
    experts = {**pool(), "craft": expert("craft@96", dim=32)}  # 12x12: a multiple of the others' grids
    three = {name: experts[name] for name in ("lite0_64", "lite0", "craft")}
    two = {name: experts[name] for name in ("lite0_64", "lite0")}

    def made(encoders: dict[str, Any], **changes: Any) -> dict[str, Any]:
        recipe = {**base, "model": {**base["model"], "encoders": encoders, **changes}}
        return {**recipe, "name": Recipe.parse(recipe).label()}

    tiles = {"kind": "fixed_grid", "rows": 2, "columns": 2, "tile": 96}
    concat, crossed = joined("channel_concat"), {"kind": "cross_attention", "every": 1}
    steered = {"vit": experts["vit"], "lite0": experts["lite0"], "craft": experts["craft"]}
    recipes = [made({"lite0": experts["lite0"]}, fusion=joined("none"))]
    recipes += [made(three, **join) for join in _joins().values()]
    recipes.append(
        made(
            steered,
            fusion={"kind": "mixture_of_resolution"},
            projector={"kind": "pixel_shuffle_mlp", "factor": 4, "depth": 1},
        )
    )
    recipes += [made(two, fusion=concat, tiling={**tiles, "tags": tags}) for tags in ("none", "one_d", "two_d", "box")]
    recipes.append(made(three, fusion=concat, injection=crossed))
    recipes += [
        made(two, fusion=concat, tiling={**tiles, "tags": "one_d"}, injection=injection)
        for injection in (crossed, {"kind": "hybrid", "every": 1})
    ]
    for recipe in recipes:  # layers in the decoder learn with the projector
        for stage in recipe["stages"]:
            if stage["scope"] != "language":
                stage["train"] = {**stage["train"], "injection": 3e-3}
    return Search.parse(
        {
            "name": "quickstart-fusions",
            "strategy": {"kind": "listed", "recipes": recipes, "seeds": list(range(seeds))},
        }
    )
