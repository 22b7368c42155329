"""Tilings with known answers: published sizes and counts, the exact words of tags, and designs that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import ROW_END, View, Views
from ommatidia.models.config import MLLMConfig
from ommatidia.models.vision import AnyResolution, Dynamic, FixedGrid, Slices, TilingConfig, Unpad, Windows
from ommatidia.models.vision.tiling import Mark, TokenLayout, VisualTokens, Whole
from ommatidia.models.vision.tilings.cutting import cut_maps
from ommatidia.models.vision.tilings.unpad import content

CLIP = Grid(24, 24, 8)


def tokens(layout: TokenLayout) -> int:
    return sum(len(piece.numbers) for piece in layout if isinstance(piece, VisualTokens))


def words(layout: TokenLayout) -> list[str]:
    """Marks as they are, and how many visual tokens stand between."""
    return [piece.text if isinstance(piece, Mark) else str(len(piece.numbers)) for piece in layout]


def counts(tiling: TilingConfig, grid: Grid = CLIP) -> list[tuple[int, int]]:
    """(views, visual tokens) of images of common sizes."""
    sizes = ((336, 336), (640, 480), (1024, 768), (1920, 1080), (500, 2000))
    return [(len(tiling.views(h, w)), tokens(tiling.token_layout(h, w, grid))) for w, h in sizes]


@pytest.mark.parametrize(
    ("tiling", "expected"),
    [
        (Whole(), [(1, 576)] * 5),
        (Unpad(), [(1, 600), (1, 450), (1, 450), (1, 350), (1, 24 * 7)]),
        (FixedGrid(rows=2, columns=2), [(5, 2880)] * 5),
        (FixedGrid(rows=1, columns=3, overview=None), [(3, 1728)] * 5),
        (Windows(), [(5, 2880)] * 5),
        (AnyResolution(), [(3, 1176), (5, 2340), (5, 2340), (5, 576 + 28 * 49), (4, 576 + 72 * 19)]),
        (Dynamic(max_tiles=6), [(1, 576), (7, 4032), (7, 4032), (3, 1728), (5, 2880)]),
        (Slices(), [(1, 576), (5, 2880), (7, 4032), (7, 4032), (6, 3456)]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_common_sizes(tiling: TilingConfig, expected: list[tuple[int, int]]) -> None:
    assert counts(tiling) == expected


def test_published_examples() -> None:
    layout = Dynamic().layout(1300, 800)
    assert (layout.columns, layout.canvas) == (2, (1344, 896))
    assert len(Dynamic().views(1300, 800)) == 7
    assert tokens(AnyResolution().token_layout(672, 672, CLIP)) == 576 + 48 * 49
    nvlm = Dynamic(max_tiles=6, tags="one_d")
    assert tokens(nvlm.token_layout(1300, 800, Grid(16, 16, 8))) == 7 * 256
    assert tokens(Dynamic(max_tiles=12).token_layout(*Dynamic().largest(), Grid(16, 16, 8))) == 3328
    assert tokens(Dynamic(max_tiles=40).token_layout(*Dynamic(max_tiles=40).largest(), Grid(16, 16, 8))) == 41 * 256
    assert tokens(Unpad().token_layout(2000, 1000, CLIP)) == 24 * 13
    assert tokens(Unpad().token_layout(2, 1000, CLIP)) == 2 * 25, "two rows: an even grid has no middle one"
    assert tokens(Unpad().token_layout(2, 1000, Grid(27, 27, 8))) == 28


def test_ties_and_rounding() -> None:
    """5:4 lies as near to 1:1 and 2:2 as to 3:2: whether the image has pixels for half of a grid decides."""
    nvlm = Dynamic(max_tiles=6)
    sizes = ((400, 500), (564, 705), (568, 710), (692, 865), (696, 870), (2000, 2500))
    assert [len(nvlm.layout(*size).tiles) for size in sizes] == [1, 1, 4, 4, 6, 6]
    weighted = Dynamic(rule="area_weighted")
    assert [len(tiling.layout(1440, 2560).tiles) for tiling in (Dynamic(), weighted)] == [8, 12]
    assert [len(tiling.layout(950, 951).tiles) for tiling in (Dynamic(), weighted)] == [9, 4]
    # Rounding up carries float noise: a square of 300 px grows to 336 x 337.
    top, left, bottom, right = AnyResolution().layout(300, 300).picture
    assert (bottom - top, right - left) == (337, 336)
    assert content(48, 24, 1000, 1) == (0, 12, 48, 12), "no column is left"
    assert content(81, 27, 1000, 1) == (0, 13, 81, 14)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("none", ["9"] * 3),
        ("one_d", ["<tile_1>", "9", "<tile_2>", "9", "<tile_global>", "9"]),
        ("two_d", ["<tile_x0_y0>", "9", "<tile_x1_y0>", "9", "<tile_global>", "9"]),
        (
            "box",
            ["<box> (0, 0), (448, 448) </box>", "9", "<box> (448, 0), (896, 448) </box>", "9", "<tile_global>", "9"],
        ),
    ],
)
def test_tags_of_nvlm(tags: Any, expected: list[str]) -> None:
    tiling = Dynamic(max_tiles=6, tags=tags, overview_tag="<tile_global>")
    layout = tiling.token_layout(448, 896, Grid(3, 3, 8))
    assert words(layout) == expected
    if tags != "none":
        assert [piece.view for piece in layout if isinstance(piece, Mark)] == [0, 1, 2]
        assert words(tiling.token_layout(448, 448, Grid(3, 3, 8))) == ["<tile_global>", "9"]
        released = tiling.model_copy(update={"overview_tag": "<tile_global_thumbnail>"})
        assert words(released.token_layout(448, 896, Grid(3, 3, 8)))[-2] == "<tile_global_thumbnail>"


def test_two_d_tags_name_column_then_row() -> None:
    layout = FixedGrid(rows=2, columns=3, tags="two_d").token_layout(9, 9, Grid(1, 1, 8))
    assert [piece.text for piece in layout if isinstance(piece, Mark)] == [
        *(f"<tile_x{x}_y{y}>" for y in range(2) for x in range(3)),
        "<tile_global_thumbnail>",
    ]


def test_an_overview_may_come_first() -> None:
    tiling = FixedGrid(rows=1, columns=2, overview="first", tags="one_d")
    assert words(tiling.token_layout(9, 9, Grid(1, 1, 8))) == [
        "<tile_global_thumbnail>",
        "1",
        "<tile_1>",
        "1",
        "<tile_2>",
        "1",
    ]
    assert [view.box for view in tiling.views(9, 9)] == [(0, 0, 1, 1), (0, 0, 1, 0.5), (0, 0.5, 1, 1)]


def test_slices_are_parted_by_commas_and_lines() -> None:
    layout = Slices().layout(1008, 672)
    assert (layout.columns, len(layout.tiles), layout.canvas) == (2, 6, (1008, 672))
    layout = Slices().token_layout(1008, 672, Grid(1, 1, 8))
    assert words(layout) == ["1", ",", "1", "\n"] * 3 + ["1"]
    assert words(Slices().token_layout(300, 300, Grid(1, 1, 8))) == ["1"]
    height, width = Slices().views(700, 1000)[0].size
    assert (height % 14, width % 14) == (0, 0)
    assert height * width <= 336**2


def test_rows_of_tiles_become_rows_of_one_map() -> None:
    tiling = AnyResolution(tile=4, pinpoints=((2, 2),))
    numbers = [
        n
        for piece in tiling.token_layout(8, 8, Grid(2, 2, 8))
        if isinstance(piece, VisualTokens)
        for n in piece.numbers
    ]
    assert numbers[:4] == [0, 1, 2, 3]
    assert numbers[4:] == [4, 5, 8, 9, ROW_END, 6, 7, 10, 11, ROW_END, 12, 13, 16, 17, ROW_END, 14, 15, 18, 19, ROW_END]
    # A tall image: half a tile of padding on either side, one column of each tile left.
    tall = [
        n
        for piece in tiling.token_layout(8, 4, Grid(2, 2, 8))
        if isinstance(piece, VisualTokens)
        for n in piece.numbers
    ]
    assert tall[4:] == [5, 8, ROW_END, 7, 10, ROW_END, 13, 16, ROW_END, 15, 18, ROW_END]


def gradient(height: int, width: int) -> Image.Image:
    """Red grows downwards, green to the right."""
    red_HW = torch.arange(height).mul(255).div(height).view(-1, 1).expand(height, width)
    green_HW = torch.arange(width).mul(255).div(width).expand(height, width)
    return Image.fromarray(torch.stack([red_HW, green_HW, torch.zeros(height, width)], -1).to(torch.uint8).numpy())


def test_tiles_are_cut_from_the_resized_picture() -> None:
    image = gradient(130, 80)
    resized = image.resize((32, 48), Image.Resampling.BICUBIC)
    cut = Dynamic(tile=16).cut(image)
    assert len(cut) == 7
    for number, tile in enumerate(cut[:-1]):
        row, column = divmod(number, 2)
        box = (16 * column, 16 * row, 16 * column + 16, 16 * row + 16)
        assert tile.tobytes() == resized.crop(box).tobytes()
    assert cut[-1].tobytes() == image.tobytes(), "each encoder resizes the overview itself"


def test_a_padded_canvas_keeps_the_picture_in_its_middle() -> None:
    tiling, image = FixedGrid(tile=(16, 16), fit="pad", fill=(1, 2, 3)), gradient(20, 40)
    canvas = tiling.canvas(image)
    assert canvas.size == (40, 40)
    assert canvas.crop((0, 10, 40, 30)).tobytes() == image.tobytes()
    assert canvas.getpixel((0, 9)) == canvas.getpixel((39, 30)) == (1, 2, 3)
    *tiles, overview = tiling.cut(image)
    assert overview.tobytes() == canvas.tobytes()
    assert tiles[0].getpixel((0, 7)) == (1, 2, 3)
    assert tiles[0].getpixel((15, 8)) != (1, 2, 3)
    assert Dynamic().canvas(image) is image


def x_of(pictures: int, height: int, width: int) -> Tensor:
    return torch.randn(pictures, height, width, 3, generator=torch.Generator().manual_seed(2))


def test_a_whole_map_is_cut_to_tiles_and_shrunk_for_the_overview() -> None:
    """Mini-Gemini HD: crops of the high-resolution map as they are, half its size for the global view."""
    tiling = FixedGrid(overview="first")
    assert tiling.view_grid(Grid(384, 384, 2880)) == Grid(192, 192, 2880)
    x_PHWD = x_of(2, 8, 8)
    views = Views.of([tiling.views(50, 50), tiling.views(20, 70)])
    cut = cut_maps(x_PHWD, views, 4, 4)
    assert cut.shape == (10, 4, 4, 3)
    for picture in range(2):
        overview, *tiles = cut[5 * picture : 5 * picture + 5]
        small = functional.interpolate(x_PHWD[picture : picture + 1].permute(0, 3, 1, 2), (4, 4), mode="bilinear")
        torch.testing.assert_close(overview, small[0].permute(1, 2, 0))
        for number, tile in enumerate(tiles):
            top, left = 4 * (number // 2), 4 * (number % 2)
            assert torch.equal(tile, x_PHWD[picture, top : top + 4, left : left + 4])


def test_boxes_between_cells_are_read_bilinearly() -> None:
    ramp_PHWD = torch.arange(9.0).view(1, 1, 9, 1).expand(1, 9, 9, 1)
    views = Views.of([[View(0, (1, 1), (0.0, 0.25, 1.0, 0.75)), View(0, (1, 1), (0.0, 1 / 3, 1.0, 2 / 3))]])
    cut = cut_maps(ramp_PHWD, views, 9, 3)
    torch.testing.assert_close(cut[0, 0, :, 0], torch.tensor([2.5, 4.0, 5.5]))
    assert torch.equal(cut[1, 0, :, 0], torch.tensor([3.0, 4.0, 5.0]))


EYE = {"kind": "patches", "patch": 8, "image_size": 32, "neck": {"kind": "linear", "dim": 8}}


def model(**changes: Any) -> MLLMConfig:
    return MLLMConfig.parse(
        {
            "encoders": {"clip": EYE, "sam": EYE},
            "fusion": "channel_concat",
            "language": {"kind": "scratch", "width": 32, "layers": 1, "heads": 2, "context": 128},
            "chat": "compact",
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tiling": "unpad"}, "tiling unpad ends each row of visual tokens, but injection inline has no vector"),
        (
            {"tiling": {"kind": "dynamic", "whole": ["sma"]}},
            "tiling dynamic: whole: unknown encoder 'sma'; did you mean 'sam'",
        ),
        (
            {"tiling": "dynamic"},
            "208 visual tokens of an image of 5376x448 px leave no room for text in a context of 128",
        ),
        (
            {
                "tiling": "unpad",
                "fusion": "sequence_append",
                "injection": {"kind": "inline", "row_end": True},
            },
            "tiling unpad keeps cells by where they lie in a square view, but the projector gives a grid of 8x4",
        ),
        (
            {
                "tiling": "unpad",
                "encoders": {"clip": EYE, "sam": {**EYE, "fit": "stretch"}},
                "injection": {"kind": "inline", "row_end": True},
            },
            "leaves out what padding fills, but encoder 'sam' fits images by 'stretch'",
        ),
        (
            {"tiling": {"kind": "windows", "size": [900, 896]}},
            "windows of 448 px at every 448 px do not end where 900 px",
        ),
        ({"tiling": {"kind": "windows", "stride": 500}}, "a stride of 500 px leaves gaps"),
        ({"tiling": {"kind": "dynamic", "min_tiles": 9, "max_tiles": 4}}, "min_tiles 9 is more than max_tiles 4"),
        ({"tiling": {"kind": "any_resolution", "pinpoints": []}}, "pinpoints"),
    ],
)
def test_impossible_designs_are_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        model(**changes)
    assert says in str(error.value)


def test_a_model_without_encoders_may_keep_its_tiling() -> None:
    tiling = {"kind": "dynamic", "whole": ["sam"], "max_tiles": 4}
    seeing = model(tiling=tiling, language={"kind": "scratch", "width": 32, "layers": 1, "heads": 2, "context": 256})
    blind = seeing.model_copy(update={"encoders": {}})
    assert MLLMConfig.parse(blind.to_dict()) == blind
    assert blind.digest() == blind.model_copy(update={"tiling": Whole()}).digest()
    assert seeing.tiling.only(["clip"]).seen_whole == ()
