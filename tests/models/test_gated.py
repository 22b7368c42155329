"""Gated layers before the decoder's blocks: the equations, who sees what, what is refused, any checkpointing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from model_toys import Colour, config, lively, sample
from tiles import Halves, Wide, cut_samples, opened
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import IMAGE_TOKEN_ID, NO_TOKEN, Example, ImagePart, Views
from ommatidia.models.between import before
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.injection import CrossAttention, Hybrid, VisualContext
from ommatidia.models.injection.gated import GatedLayer, Look
from ommatidia.models.injection.injection import InjectionContext
from ommatidia.models.language.scratch import ScratchLanguage
from ommatidia.models.processor import Processor
from ommatidia.models.vision.tiling import Mark, Tag, VisualTokens

GRID = Grid(2, 2, 32)
LANGUAGE = {"kind": "scratch", "width": 32, "layers": 2, "heads": 2, "context": 256}
WIDE, TALL = (40, 80), (40, 40)


def model_config(injection: Any, tiling: Halves | str = "whole", **changes: Any) -> MLLMConfig:
    return config("a", **({"language": LANGUAGE, "injection": injection, "tiling": tiling} | changes))


def seen_of(v_KHWE: Tensor, views: Views, visible_views_BT2: Tensor) -> VisualContext:
    return VisualContext(
        v_KHWE, views, torch.zeros(visible_views_BT2.shape[:2], dtype=torch.bool), None, visible_views_BT2
    )


def look_of(seen: VisualContext, numbers: list[int]) -> Look:
    tokens_KLE = seen.v_KHWE[numbers].flatten(1, 2)
    return Look(tokens_KLE, torch.ones(tokens_KLE.shape[:2], dtype=torch.bool), torch.tensor(numbers), seen)


def by_hand(layer: GatedLayer, x_TE: Tensor, memory: list[Tensor | None]) -> Tensor:
    """One row, position by position and head by head: the two equations of the file's head."""
    out = []
    for x_E, keys_LE in zip(x_TE, memory, strict=True):
        if keys_LE is None:
            out.append(x_E)
            continue
        query = layer.query(layer.norm(x_E)).view(layer.heads, -1)
        key, value = layer.key_value(keys_LE).chunk(2, -1)
        found = []
        for head, q in enumerate(query):
            part = slice(head * len(q), (head + 1) * len(q))
            weights = (key[:, part] @ q / len(q) ** 0.5).softmax(0)
            found.append(weights @ value[:, part])
        y_E = x_E + torch.tanh(layer.gate) * layer.out(torch.cat(found))
        out.append(y_E + torch.tanh(layer.ffn_gate) * layer.narrow(layer.activation(layer.widen(layer.ffn_norm(y_E)))))
    return torch.stack(out)


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_is_its_equations(bias: bool) -> None:
    torch.manual_seed(0)
    layer = GatedLayer(12, 3, 5, 20, functional.silu, bias=bias).double()
    opened(layer)
    v_KHWE, x_BTE = torch.randn(3, 1, 2, 12, dtype=torch.double), torch.randn(3, 4, 12, dtype=torch.double)
    views = replace(Views.whole(3), rows_K=torch.tensor([0, 0, 2]))  # two views, none, one
    visible_views_BT2 = torch.tensor([[[0, 0], [0, 1], [1, 2], [0, 2]], [[0, 0]] * 4, [[2, 3], [3, 3], [2, 3], [2, 2]]])
    out_BTE = layer(x_BTE, look_of(seen_of(v_KHWE, views, visible_views_BT2), [0, 1, 2]))
    a, b, c = v_KHWE.flatten(1, 2)
    torch.testing.assert_close(out_BTE[0], by_hand(layer, x_BTE[0], [None, a, b, torch.cat([a, b])]))
    assert torch.equal(out_BTE[1], x_BTE[1])
    torch.testing.assert_close(out_BTE[2], by_hand(layer, x_BTE[2], [c, None, c, None]))


def test_what_is_generated_sees_what_the_last_position_sees() -> None:
    visible_views_BT2 = torch.tensor([[[0, 0], [0, 1], [1, 2]]])
    seen = seen_of(torch.randn(2, 1, 1, 8), replace(Views.whole(2), rows_K=torch.tensor([0, 0])), visible_views_BT2)
    look = look_of(seen, [0, 1])

    def masks(positions: int) -> list[list[bool]]:
        return look.at(torch.zeros(1, positions, 8))[0][0, 0].tolist()

    prompt = [[True, True], [True, False], [False, True]]  # open where there is nothing to see
    assert masks(3) == prompt
    assert masks(1) == prompt[-1:]
    assert masks(5) == [*prompt, prompt[-1], prompt[-1]]
    assert look.at(torch.zeros(1, 3, 8))[1].flatten().tolist() == [False, True, True]
    with pytest.raises(AlignmentError, match=r"1 rows of 2 positions in the decoder, but .* 1 rows of 3 positions"):
        masks(2)
    with pytest.raises(AlignmentError, match="4 rows of 3 positions"):
        look.at(torch.zeros(4, 3, 8))


def texts(cfg: MLLMConfig, size: tuple[int, int]) -> list[Any]:
    return [list(piece.numbers) if isinstance(piece, VisualTokens) else piece for piece in cfg.token_layout(*size)]


def test_what_stands_in_the_text() -> None:
    cross = model_config(CrossAttention(every=1, mark="<image>"), Halves())
    tags = [Mark("("), Mark("<tile 0>", 0), Mark("<tile 1>", 1), Mark("<all>", 2), Mark(")")]
    assert texts(cross, WIDE) == [Mark("<image>", whole=True), *tags]
    assert cross.tokens_per_view == cross.visual_tokens(*WIDE) == 0
    hybrid = model_config(Hybrid(every=1), Halves())
    assert texts(hybrid, WIDE) == [
        Mark("("), Tag("<tile 0>", 0), Tag("<tile 1>", 1), Mark("<all>", 2), [8, 9, 10, 11], Mark(")")
    ]  # fmt: skip
    assert texts(hybrid, TALL) == [Mark("("), Mark("<all>", 0), [0, 1, 2, 3], Mark(")")]
    assert hybrid.visual_tokens(*WIDE) == hybrid.tokens_per_view == 4
    mixed = (VisualTokens([0, 1, -1, 4, 5, -1]), VisualTokens([6]), VisualTokens([-1]))
    views = Halves().views(*WIDE)
    assert Hybrid().token_layout(mixed, Grid(2, 1, 8), views) == (VisualTokens([4, 5]),)


def read(processor: Processor, example: Example, position: int) -> str:
    return processor.tokenizer.inner.decode([example.ids[position]])


def seen_text(cfg: MLLMConfig) -> dict[tuple[int, int], str]:
    """Of a sample with a wide and a tall image: the text that sees each interval of views."""
    processor = Processor(cfg)
    example = processor(sample("See ", ImagePart(0), "then", ImagePart(1), "?", images=(Wide(9), Colour(1))))
    assert example.sees is not None
    found: dict[tuple[int, int], str] = {}
    for token, (first, end) in zip(example.ids.tolist(), example.sees.tolist(), strict=True):
        text = "#" if token == IMAGE_TOKEN_ID else processor.tokenizer.inner.decode([token])
        found[first, end] = found.get((first, end), "") + text
    return found


def test_who_sees_what() -> None:
    last = seen_text(model_config(CrossAttention(every=1, mark="<image>"), Halves()))
    assert last == {
        (0, 0): "<|user|>See ()",  # a mark that announces no view sees what the text before the image does
        (0, 3): "<image>then()",
        (0, 1): "<tile 0>",
        (1, 2): "<tile 1>",
        (2, 3): "<all>",
        (3, 4): "<image><all>?<|assistant|>yes<|end|>",
    }
    every = seen_text(model_config(CrossAttention(every=1, pictures="all", mark="<image>"), Halves()))
    assert every[0, 4].startswith("<image>")
    assert every[3, 4] == "<all>"
    hybrid = seen_text(model_config(Hybrid(every=1), Halves(tags=False)))
    assert hybrid[0, 0].endswith("(####)")
    assert hybrid[0, 3] == "then(####)"


def test_tags_of_tiles_stand_beside_their_tokens() -> None:
    cfg = model_config(Hybrid(every=1), Halves())
    processor, model = Processor(cfg), lively(build_model(cfg, seed=0))
    opened(model.injection)
    batch = processor.collate([processor(one) for one in cut_samples()])
    tags = [processor.tokenizer.encode(text, special=False) for text in ("<tile 0>", "<tile 1>")]
    length = max(map(len, tags))
    rows = [*([*ids, *[NO_TOKEN] * (length - len(ids))] for ids in tags), [NO_TOKEN] * length]
    none = [NO_TOKEN] * length
    assert batch.tags_KG is not None
    assert batch.tags_KG.tolist() == [*rows, none, *rows, none]  # one: cut; two: whole and cut; late: whole
    with torch.no_grad():
        x_BTE, seen = model.embed(batch)
        assert seen is not None
        assert model.injection.looked_at(seen).tolist() == [0, 1, 4, 5]
        with_tags = model.read(x_BTE, batch.mask_BT, seen)
        without = model.read(x_BTE, batch.mask_BT, replace(seen, tags_KG=None))
        padded = torch.cat([batch.tags_KG, torch.full((8, 3), NO_TOKEN)], 1)
        torch.testing.assert_close(model.read(x_BTE, batch.mask_BT, replace(seen, tags_KG=padded)), with_tags)
    changed = [(one - other).abs().max().item() > 1e-3 for one, other in zip(with_tags, without, strict=True)]
    assert changed == [False, True, True, False]


def test_pictures_that_are_not_cut_need_no_layer() -> None:
    cfg = model_config(Hybrid(every=1), Halves())
    processor, model = Processor(cfg), build_model(cfg, seed=0)
    batch = processor.collate([processor(cut_samples()[3])])
    _, seen = model.embed(batch)
    assert seen is not None
    with model.injection.inside(model.language, seen):
        assert model.language.blocks[0] is model.language.decoder.model.layers[0]
        assert type(model.language.blocks[0]).__name__ == "LlamaDecoderLayer"


@pytest.mark.parametrize(
    ("depth", "fields", "blocks"),
    [
        (24, {"every": 1}, list(range(24))),  # Flamingo-3B
        (40, {"every": 4}, list(range(0, 40, 4))),  # Flamingo-9B: 10 layers
        (80, {"every": 7}, list(range(0, 80, 7))),  # Flamingo-80B: 12
        (32, {"every": 4, "first": 3}, list(range(3, 32, 4))),  # OpenFlamingo-9B: (index + 1) mod 4 = 0
        (60, {"every": 6, "layers": 10}, list(range(0, 60, 6))),  # NVLM-X 34B
        (80, {"every": 8, "layers": 10}, list(range(0, 80, 8))),  # NVLM-X 72B
        (8, {"every": 2, "layers": 2}, [0, 2]),
    ],
)
def test_layers_stand_where_the_papers_put_them(depth: int, fields: dict[str, int], blocks: list[int]) -> None:
    shape = ScratchLanguage(width=16, heads=2, layers=depth).shape()
    assert list(CrossAttention(**fields).placed(shape)) == blocks
    assert list(Hybrid(**fields).placed(shape)) == blocks


def test_the_size_of_flamingo() -> None:
    shape = replace(ScratchLanguage(width=16, heads=2, layers=24).shape(), width=2048)
    flamingo = CrossAttention(every=1, heads=16, head_dim=128, activation="squared_relu")
    cost = flamingo.cost(InjectionContext(Grid(1, 64, 2048), shape), tokens=1, views=1)
    assert cost.parameters == pytest.approx(1.2e9, rel=0.02)  # Flamingo-3B, 2204.14198


@pytest.mark.parametrize(
    ("injection", "tiling", "says"),
    [
        (
            CrossAttention(every=1, layers=3),
            "whole",
            "3 layers, one every 1 blocks .* a decoder of 3 blocks; this one has 2",
        ),
        (CrossAttention(first=2), "whole", "from block 2 on, need a decoder of 3 blocks; this one has 2"),
        (Hybrid(every=2, layers=2), "whole", "need a decoder of 3 blocks; this one has 2"),
        (
            Hybrid(every=1),
            Halves(thumbnail=False),
            "but of the 2 views .* a large one into none is its overview",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_both_numbers(injection: Any, tiling: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        model_config(injection, tiling)


def test_a_decoder_of_half_precision_keeps_it() -> None:
    cfg = model_config(Hybrid(every=1), Halves())
    model, processor = build_model(cfg, seed=0), Processor(cfg)
    opened(model.injection)
    batch = processor.collate([processor(one) for one in cut_samples()])
    exact = model(batch)
    model.language.bfloat16()
    rough = model(batch)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() <= 0.02 * exact.norm()


def test_a_batch_of_another_design_is_refused() -> None:
    inline, cross = model_config("inline"), model_config(CrossAttention(every=1))
    one = sample(ImagePart(0), "What?", images=(Colour(1),))
    model = build_model(cross, seed=0)
    with pytest.raises(AlignmentError, match="4 image placeholders in the text, but cross_attention fills none"):
        model(Processor(inline).collate([Processor(inline)(one)]))
    batch = Processor(cross).collate([Processor(cross)(one)])
    batch.visible_views_BT2 = None
    with pytest.raises(AlignmentError, match="does not say which views each position sees"):
        model(batch)


class _Recomputed(nn.Module):
    """A block that is recomputed as a whole, hooks and all, in the backward pass: long after any context has ended."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return checkpoint(super().__call__, *args, use_reentrant=False, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.block(*args, **kwargs)


def test_blocks_may_be_recomputed_from_outside() -> None:
    cfg = model_config(CrossAttention(every=1))
    model, processor = lively(build_model(cfg, seed=0)), Processor(cfg)
    opened(model.injection)
    batch = processor.collate([processor(one) for one in cut_samples()])

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model.loss(batch)[0].backward()
        return [p.grad.clone() for part in (model.injection, model.projector) for p in part.parameters()]  # type: ignore[union-attr]

    plain, blocks = gradients(), model.language.blocks
    for place, block in enumerate(list(blocks)):
        blocks[place] = _Recomputed(block)
    for one, other in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(one, other)


def test_blocks_are_put_back_after_an_error_and_keep_their_attributes() -> None:
    language = ScratchLanguage(width=16, layers=2, heads=2).build()
    originals = list(language.blocks)
    with pytest.raises(ZeroDivisionError), before(language.blocks, {1: lambda x_BTE: x_BTE}):  # noqa: PT012
        assert language.blocks[0] is originals[0]
        assert language.blocks[1] is not originals[1]
        assert language.blocks[1].self_attn is originals[1].self_attn
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = language.blocks[1].nothing
        _ = 1 / 0
    assert list(language.blocks) == originals
