"""Tilings against recordings of InternVL, Megatron-LM, LLaVA-NeXT and Cambrian-1: integers, so exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ommatidia.core.grid import Grid
from ommatidia.core.types import ROW_END
from ommatidia.models.fusion.resample import space_to_depth
from ommatidia.models.vision import AnyResolution, Dynamic, Unpad
from ommatidia.models.vision.tiling import TokenLayout, VisualTokens
from ommatidia.models.vision.tilings.unpad import content

Golden = Callable[[str], Any]


def rows_of(numbers: list[int]) -> list[list[int]]:
    """The visual tokens between row ends."""
    rows: list[list[int]] = [[]]
    for number in numbers:
        if number == ROW_END:
            rows.append([])
        else:
            rows[-1].append(number)
    assert rows.pop() == []
    return rows


def numbers_of(script: TokenLayout) -> list[int]:
    return [number for piece in script if isinstance(piece, VisualTokens) for number in piece.numbers]


@pytest.mark.parametrize("rule", ["closest_aspect", "area_weighted"])
def test_dynamic_tiles(golden: Golden, rule: str) -> None:
    recorded = golden("tiling").json("tiling.json")
    cases = recorded["internvl_dynamic" if rule == "closest_aspect" else "megatron_area_weighted"]
    seen = 0
    for case in cases:
        config = Dynamic(tile=case["tile_size"], min_tiles=case["min_num"], max_tiles=case["max_num"], rule=rule)
        for width, height, columns, rows, views in case["rows"]:
            layout = config.layout(height, width)
            assert (layout.columns, len(layout.tiles)) == (columns, columns * rows), (width, height)
            assert layout.canvas == (rows * config.tile, columns * config.tile)
            assert len(config.views(height, width)) == views
            seen += 1
    assert seen > 500


def test_any_resolution(golden: Golden) -> None:
    for case in golden("tiling").json("tiling.json")["llava_anyres"]:
        tile, side = case["tile_size"], case["tokens_per_tile_side"]
        pinpoints = tuple((h // tile, w // tile) for w, h in case["pinpoints_wh"])
        config = AnyResolution(tile=tile, pinpoints=pinpoints)
        for row in case["rows"]:
            one = dict(zip(case["columns"], row, strict=True))
            layout = config.layout(one["h"], one["w"])
            assert layout.canvas == (one["best_h"], one["best_w"]), row
            assert (len(layout.tiles) // layout.columns, layout.columns) == (one["grid_rows"], one["grid_cols"])
            top, left, bottom, right = layout.picture
            assert (bottom - top, right - left) == (one["resized_h"], one["resized_w"]), row
            assert (top, left) == (one["paste_y"], one["paste_x"]), row
            numbers = numbers_of(config.token_layout(one["h"], one["w"], Grid(side, side, 8)))
            assert numbers[: side * side] == list(range(side * side))
            rows = rows_of(numbers[side * side :])
            assert [len(kept) for kept in rows] == [one["unpad_cols"]] * one["unpad_rows"], row


def test_cells_of_a_padded_picture(golden: Golden) -> None:
    case = golden("cambrian_sva_g1")
    finals = case.tensors("outputs")["final_size_hw"].tolist()
    side = round(case.config["image_token_len"] ** 0.5)
    for (width, height), final in zip(case.config["image_sizes_wh"], finals, strict=True):
        rows = rows_of(numbers_of(Unpad().token_layout(height, width, Grid(side, side, 8))))
        assert [len(rows), len(rows[0])] == final
    assert len({tuple(final) for final in finals}) > 1
    # The SVA's own masks, from the same rounding at its finer grids too.
    assert content(24, 24, 1080, 1920) == (5, 0, 19, 24)
    assert content(96, 96, 1080, 1920) == (21, 0, 75, 96)


@pytest.mark.parametrize("name", ["a", "b"])
def test_pixel_shuffle(golden: Golden, name: str) -> None:
    case = golden("tiling")
    _, side, channels, scale = case.config["shuffles"][name]
    inputs, outputs = case.tensors("inputs"), case.tensors("outputs")
    keys = [key for key in inputs if key.startswith(name)]
    x_BHWD = inputs[keys[0]].reshape(-1, side, side, channels)
    ours = space_to_depth(x_BHWD, round(1 / scale), round(1 / scale))
    new = next(value for key, value in outputs.items() if key.startswith(name) and "v2" in key)
    old = next(value for key, value in outputs.items() if key.startswith(name) and "v1" in key)
    assert torch.equal(ours.flatten(1, 2), new.reshape(ours.flatten(1, 2).shape))
    # Version 1 forgot to swap rows and columns back: the same tokens, read column by column.
    assert torch.equal(ours.transpose(1, 2).flatten(1, 2), old.reshape(ours.flatten(1, 2).shape))
