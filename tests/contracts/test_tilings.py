"""Contracts of every registered tiling. A new one needs no test here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image

from ommatidia.core.grid import Grid
from ommatidia.core.types import IMAGE_TOKEN_ID, ROW_END, ImagePart, Message, Sample
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.models.vision.tiling import Mark, TilingConfig, VisualTokens

KINDS = sorted(TilingConfig.kinds())
SIDES = (2, 3, 17, 40, 64, 333, 1000)
SIZES = [(height, width) for height in SIDES for width in SIDES] + [(1, 1000), (1000, 1), (1, 1)]


@dataclass(frozen=True)
class Painted:
    """An image of this size in which every place differs."""

    height: int
    width: int

    @property
    def digest(self) -> str:
        return f"painted-{self.height}-{self.width}"

    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def open(self) -> Image.Image:
        noise = torch.randint(
            0, 256, (self.height, self.width, 3), generator=torch.Generator().manual_seed(self.height)
        )
        return Image.fromarray(noise.to(torch.uint8).numpy())


def member(kind: str, default: bool = False) -> TilingConfig:
    return TilingConfig.kinds()[kind]() if default else TilingConfig.kinds()[kind].tiny()


def config(kind: str, **tiling: Any) -> MLLMConfig:
    """Two encoders of unlike grids under this tiling."""

    def eye(patch: int, dim: int) -> dict[str, Any]:
        return {"kind": "patches", "patch": patch, "image_size": 32, "neck": {"kind": "linear", "dim": dim}}

    return MLLMConfig.parse(
        {
            "encoders": {"coarse": eye(16, 8), "fine": eye(8, 12)},
            "tiling": {**member(kind).to_dict(), **tiling},
            "fusion": {"kind": "channel_concat", "grid": [2, 2]},
            "injection": {"kind": "inline", "row_end": True},
            "language": {"kind": "scratch", "width": 32, "layers": 1, "heads": 2, "context": 256},
            "chat": "compact",
        }
    )


@cache
def built(kind: str) -> tuple[MLLM, Processor]:
    cfg = config(kind)
    model = build_model(cfg, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    return model.eval(), Processor(cfg)


def sample(*pictures: Painted, answer: str | None = "seen") -> Sample:
    parts = (*(ImagePart(n) for n in range(len(pictures))), "What?")
    turns = (Message("user", parts), *([Message("assistant", (answer,))] if answer else []))
    return Sample("-".join(p.digest for p in pictures), turns, pictures)


ROWS = [
    sample(Painted(40, 40)),
    sample(Painted(20, 90), Painted(64, 30)),
    sample(),
    sample(Painted(2, 70), answer="long and thin"),
]


@pytest.mark.parametrize("default", [False, True], ids=["tiny", "default"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_size_is_laid_out_in_advance(kind: str, default: bool) -> None:
    tiling, grid = member(kind, default), Grid(4, 4, 8) if not default else Grid(24, 24, 8)
    most = sum(len(p.numbers) for p in tiling.token_layout(*tiling.largest(), grid) if isinstance(p, VisualTokens))
    for height, width in SIZES:
        views, script = tiling.views(height, width), tiling.token_layout(height, width, grid)
        numbers = [n for piece in script if isinstance(piece, VisualTokens) for n in piece.numbers]
        seen = [n for n in numbers if n != ROW_END]
        assert views, (height, width)
        assert seen, (height, width)
        assert sum(view.overview for view in views) <= (len(views) > 1)
        assert len(seen) == len(set(seen))
        assert set(seen) <= set(range(len(views) * grid.tokens)), (height, width)
        assert len(numbers) <= most, (height, width)
        assert len(views) <= len(tiling.views(*tiling.largest())), (height, width)
        for piece in script:
            assert piece.text if isinstance(piece, Mark) else True
            assert not isinstance(piece, Mark) or piece.view is None or 0 <= piece.view < len(views)
        for view in views:
            top, left, bottom, right = view.box
            assert view.picture == 0
            assert 0 <= top < bottom <= 1
            assert 0 <= left < right <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_what_is_cut(kind: str) -> None:
    tiling = member(kind)
    for height, width in SIZES:
        image = Image.new("RGB", (width, height), (9, 9, 9))
        assert [(v.height, v.width) for v in tiling.cut(image)] == [v.size for v in tiling.views(height, width)]


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_places_as_the_model_fills(kind: str) -> None:
    model, processor = built(kind)
    for one in ROWS:
        example = processor(one)
        expected = sum(processor.config.visual_tokens(p.height, p.width) for p in one.images)
        assert int((example.ids == IMAGE_TOKEN_ID).sum()) == expected
        batch = processor.collate([example])
        x_BTE, seen = model.embed(batch)
        assert x_BTE.shape[1] == len(example.ids)
        assert (0 if seen is None else len(seen.v_KHWE)) == len(example.views)
        assert {len(pixels) for pixels in example.pixels.values()} <= {len(example.views)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_stands_where_the_script_says(kind: str) -> None:
    model, processor = built(kind)
    cfg, batch = processor.config, processor.collate([processor(one) for one in ROWS])
    with torch.no_grad():
        x_BTE, seen = model.embed(batch)
    assert seen is not None
    v_NE, first, expected = seen.v_KHWE.flatten(0, 2), 0, []
    for picture in (picture for one in ROWS for picture in one.images):
        for piece in cfg.token_layout(picture.height, picture.width):
            for n in piece.numbers if isinstance(piece, VisualTokens) else ():
                expected.append(
                    model.injection.row_end_E if n == ROW_END else v_NE[first * processor.tokens_per_view + n]
                )
        first += len(cfg.tiling.views(picture.height, picture.width))
    assert first == len(seen.v_KHWE)
    torch.testing.assert_close(x_BTE[seen.slots_BT], torch.stack(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_views_of_every_encoder_are_prepared_in_order(kind: str) -> None:
    _, processor = built(kind)
    for one in ROWS:
        example = processor(one)
        cut = [view for picture in one.images for view in processor.config.tiling.cut(picture.open())]
        for name, prepare in processor.preprocess.items():
            if cut:
                assert torch.equal(example.pixels[name], torch.stack([prepare(view) for view in cut]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_unlike_layouts_is_as_one_by_one(kind: str) -> None:
    model, processor = built(kind)
    examples = [processor(one) for one in ROWS]
    together = processor.collate(examples)
    with torch.no_grad():
        h_BTE = model(together)
        for row, example in enumerate(examples):
            alone = model(processor.collate([example]))[0]
            torch.testing.assert_close(h_BTE[row][together.mask_BT[row]], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_parameter(kind: str) -> None:
    cfg = config(kind)
    if not any(isinstance(p, VisualTokens) and ROW_END in p.numbers for p in cfg.token_layout(40, 90)):
        cfg = cfg.model_copy(update={"injection": cfg.injection.model_copy(update={"row_end": False})})
    model, processor = build_model(cfg, seed=0), Processor(cfg)
    loss, _ = model.loss(processor.collate([processor(one) for one in ROWS]))
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_generation_with_a_cache_is_as_without(kind: str) -> None:
    model, processor = built(kind)
    asked = [sample(*one.images, answer=None) for one in ROWS]
    answers = generate(model, processor, asked, Decoding(max_new_tokens=4), batch=len(asked))
    ends = {processor.end_id, processor.tokenizer.eos_id}
    for one, answer in zip(asked, answers, strict=True):
        batch = processor.collate([processor(one, answer=False)])
        spoken: list[int] = []
        with torch.no_grad():
            x_BTE, seen = model.embed(batch)
            while len(spoken) < 4 and not ends.intersection(spoken):
                mask_BT = torch.ones(x_BTE.shape[:2], dtype=torch.bool)
                spoken.append(int(model.language.head(model.read(x_BTE, mask_BT, seen)[:, -1]).argmax()))
                x_BTE = torch.cat([x_BTE, model.language.embed(torch.tensor([[spoken[-1]]]))], 1)
        assert answer == processor.tokenizer.decode([t for t in spoken if t not in ends]).strip()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "whole" in type(member(kind)).model_fields])
def test_an_encoder_may_see_every_picture_whole(kind: str) -> None:
    cfg = config(kind, whole=["fine"])
    model, processor = build_model(cfg, seed=0), Processor(cfg)
    examples = [processor(one) for one in ROWS]
    for one, example in zip(ROWS, examples, strict=True):
        if one.images:
            assert {n: len(p) for n, p in example.pixels.items()} == {
                "coarse": len(example.views),
                "fine": len(one.images),
            }
    batch = processor.collate(examples)
    features = model.encode(batch)
    for name, grid in cfg.grids().items():
        assert batch.views is not None
        assert features[name].shape == (len(batch.views), grid.height, grid.width, grid.dim)
    loss, _ = model.loss(batch)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().any() for p in model.encoders["fine"].parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_state_and_config_round_trip(kind: str) -> None:
    tiling = member(kind)
    assert TilingConfig.parse(tiling.to_dict()) == tiling
    assert tiling.only(()).token_layout(40, 90, Grid(2, 2, 4)) == tiling.token_layout(40, 90, Grid(2, 2, 4))
