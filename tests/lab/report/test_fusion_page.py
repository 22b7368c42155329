"""The page of fusions is what the registry says today, and every kind has a drawing that shows its real shapes."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from ommatidia.core.grid import Grid
from ommatidia.lab.report.figures.fusion import draw
from ommatidia.lab.show.fusion_page import context_of, drawing, example, members, page, write
from ommatidia.models.fusion import Box, Sketch

DOCS = Path(__file__).resolve().parents[3] / "docs"
RENEW = "run: python -m ommatidia.lab.show.fusion_page docs"


def texts(svg: str) -> list[str]:
    return [mark.text or "" for mark in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("kind", sorted(members()))
def test_every_fusion_has_its_drawing(kind: str) -> None:
    file = DOCS / "images" / "fusions" / f"{kind}.svg"
    assert file.is_file(), RENEW
    svg = drawing(kind)
    assert file.read_text(encoding="utf-8") == svg, RENEW
    config, grids, _ = example(members()[kind])
    said = texts(svg)
    assert set(grids) <= set(said)
    assert {str(grid) for grid in grids.values()} | {str(config.out(grids))} <= set(said)
    assert {config.sketch(grids).join.name} <= set(said)


@pytest.mark.parametrize("kind", sorted(members()))
def test_the_parameters_on_the_page_are_those_of_the_module(kind: str) -> None:
    config, grids, cost = example(members()[kind])
    with torch.device("meta"):
        module = config.build(grids, context_of(config, grids))
    assert cost.parameters == sum(parameter.numel() for parameter in module.parameters())


def test_the_page_is_what_the_registry_says() -> None:
    assert (DOCS / "fusions.md").read_text(encoding="utf-8") == page(), RENEW


def test_no_drawing_outlives_its_fusion(tmp_path: Path) -> None:
    written = {path.name for path in write(tmp_path)}
    assert written == {path.name for path in (DOCS / "images" / "fusions").iterdir()} | {"fusions.md"}


def test_a_drawing_stays_inside_its_frame_with_any_number_of_encoders() -> None:
    for count in (1, 2, 5):
        grids = {f"eye{i}": Grid(2**i, 2 ** (i + 1), 8) for i in range(1, count + 1)}
        lanes = {"eye1": (Box("one"), Box("two", "lines <&>"))}
        sketch = Sketch(
            Box("meet", "in a box", "of three lines"),
            lanes,
            (Box("after"),),
            passes="eye1",
            question=True,
            steered="eye1",
        )
        root = ElementTree.fromstring(draw("made_up", sketch, grids, Grid(4, 4, 8)))
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for mark in root.iter():
            x, y = float(mark.attrib.get("x", 0)), float(mark.attrib.get("y", 0))
            assert 0 <= x <= x + float(mark.attrib.get("width", 0)) <= width or mark is root
            assert 0 <= y <= height
