"""Layers inside the decoder: prompts and decode steps, any padding and images, gradients, and what stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from model_toys import lively
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import content
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, ROW_END, Batch, View, Views
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.cost import cost_by_part
from ommatidia.models.model import MLLM

SIDE = 4
WORDS = 5
"""Words before and after each image, and after the last."""
ROWS: tuple[tuple[tuple[int, int], ...], ...] = (((30, 40),), (), ((90, 10), (20, 20)), ((16, 50),), ((9, 9),))
"""The sizes of the images of each row."""
DEEP = {"kind": "deep_sva", "row_end": True, "count": 2, "start": 0, "stride": 2}


def config(**changes: Any) -> MLLMConfig:
    return MLLMConfig.parse(
        {
            "encoders": {
                "a": {"kind": "patches", "patch": 8, "image_size": 32},
                "b": {"kind": "patches", "patch": 4, "image_size": 32},
            },
            "fusion": {"kind": "sva", "side": SIDE, "width": 16, "depth": 1, "heads": 2, "groups": [SIDE]},
            "injection": DEEP,
            "language": {"kind": "scratch", "width": 32, "layers": 4, "heads": 2, "context": 256},
            "chat": "compact",
        }
        | changes
    )


def built(**changes: Any) -> MLLM:
    return lively(build_model(config(**changes), seed=1))


@dataclass
class Row:
    """One row while it is written down."""

    number: int
    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    pixels: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.number)

    def say(self) -> None:
        self.ids += torch.randint(1, 200, (WORDS,), generator=self.generator).tolist()
        self.mask += [True] * WORDS

    def look(self, size: tuple[int, int], first: int, *, static: bool) -> None:
        self.pixels.append(torch.randn(3, 32, 32, generator=self.generator))
        top, left, bottom, right = content(SIDE, SIDE, *size, at_least=1)
        for r in range(SIDE):
            shown = [top <= r < bottom and left <= c < right for c in range(SIDE)]
            slots = [(first + r * SIDE + c, real) for c, real in enumerate(shown)] + [(ROW_END, any(shown))]
            kept = [(place, real) for place, real in slots if real or static]
            self.places += [place for place, _ in kept]
            self.ids += [IMAGE_TOKEN_ID] * len(kept)
            self.mask += [real for _, real in kept]


def batch(numbers: Sequence[int] = range(len(ROWS)), *, left: bool = False, static: bool = False) -> Batch:
    """Rows of words and unpadded images. ``static``: every cell has a slot, beside the image under the mask."""
    rows, views = [], 0
    for number in numbers:
        row = Row(number)
        row.say()
        for size in ROWS[number]:
            row.look(size, views * SIDE**2, static=static)
            row.say()
            views += 1
        rows.append(row)
    longest = max(len(row.ids) for row in rows)

    def padded(values: Sequence[Any], fill: Any) -> list[Any]:
        rest = [fill] * (longest - len(values))
        return [*rest, *values] if left else [*values, *rest]

    ids_BT = torch.tensor([padded(row.ids, 0) for row in rows])
    mask_BT = torch.tensor([padded(row.mask, False) for row in rows])
    labels_BT = torch.where(mask_BT & (ids_BT > 0), ids_BT, IGNORE_LABEL)
    names = tuple(str(number) for number in numbers)
    if not views:
        return Batch(names, ids_BT, labels_BT, mask_BT)
    pixels_KCHW = torch.stack([picture for row in rows for picture in row.pixels])
    return Batch(
        names, ids_BT, labels_BT, mask_BT, pixels={"a": pixels_KCHW, "b": pixels_KCHW},
        views=Views.of([[View(k, size) for k, size in enumerate(ROWS[number])] for number in numbers]),
        visual_index_N=torch.tensor([place for row in rows for place in row.places]),
    )  # fmt: skip


@contextmanager
def counted(model: MLLM) -> Iterator[list[int]]:
    """How often each layer inside the decoder looks, and over how many visual tokens."""
    tokens: list[int] = []
    layers = model.injection.get_submodule("layers")
    hooks = [
        layer.register_forward_hook(lambda _module, given, _out: tokens.append(len(given[0])))
        for layer in layers.children()
    ]
    try:
        yield tokens
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture(scope="module")
def model() -> MLLM:
    return built()


@torch.no_grad()
def test_every_row_is_as_if_alone_whatever_the_padding(model: MLLM) -> None:
    right, left = batch(), batch(left=True)
    h_right, h_left = model(right), model(left)
    torch.testing.assert_close(h_right[right.mask_BT], h_left[left.mask_BT], rtol=1e-4, atol=1e-4)
    for row in range(len(ROWS)):
        alone = batch([row])
        torch.testing.assert_close(h_right[row, right.mask_BT[row]], model(alone)[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_slots_under_the_mask_change_nothing(model: MLLM) -> None:
    short, static = batch(), batch(static=True)
    assert static.ids_BT.shape[1] > short.ids_BT.shape[1]
    torch.testing.assert_close(model(static)[static.mask_BT], model(short)[short.mask_BT], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_only_visual_tokens_change_and_only_behind_their_blocks(model: MLLM) -> None:
    given, out = batch(), {}
    blocks = model.language.blocks
    hooks = [
        block.register_forward_hook(lambda _m, x, y, n=n: out.update({n: (x[0], y[0] if isinstance(y, tuple) else y)}))
        for n, block in enumerate(blocks)
    ]
    model(given)
    for hook in hooks:
        hook.remove()
    visual_BT = torch.zeros_like(given.mask_BT)
    assert given.visual_index_N is not None
    visual_BT[given.ids_BT == IMAGE_TOKEN_ID] = given.visual_index_N != ROW_END
    assert 0 < int(visual_BT.sum()) < int((given.ids_BT == IMAGE_TOKEN_ID).sum())
    for n in range(len(blocks) - 1):
        left, entered = out[n][1], out[n + 1][0]
        assert torch.equal(left[~visual_BT], entered[~visual_BT])
        changed = (left[visual_BT] != entered[visual_BT]).any(-1)
        assert changed.all() if n in (0, 2) else not changed.any()


@torch.no_grad()
def test_decoding_with_a_cache_says_what_reading_again_says(model: MLLM) -> None:
    start, steps = batch(left=True), 6
    x_BTE, seen = model.embed(start)
    assert seen is not None
    settings: dict[str, Any] = {"do_sample": False, "use_cache": True, "pad_token_id": 0, "eos_token_id": None}
    with counted(model) as looks, model.injection.inside(model.language, seen):
        cached = model.language.decoder.generate(
            inputs_embeds=x_BTE, attention_mask=start.mask_BT.long(), max_new_tokens=steps, **settings
        )
    assert looks == [int((start.visual_index_N != ROW_END).sum())] * 2, "one look a layer, at the prompt"  # type: ignore[union-attr]
    plain = batch(left=True)
    for _ in range(steps):
        new_B1 = model.language.head(model(plain)[:, -1]).argmax(-1, keepdim=True)
        plain.ids_BT = torch.cat([plain.ids_BT, new_B1], 1)
        plain.mask_BT = torch.cat([plain.mask_BT, torch.ones_like(new_B1, dtype=torch.bool)], 1)
    assert cached.tolist() == plain.ids_BT[:, -steps:].tolist()
    assert len({tuple(row) for row in cached.tolist()}) == len(ROWS), "answers that do not differ prove nothing"


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable")
def test_gradients_reach_every_part_with_and_without_checkpoints() -> None:
    found = []
    for options in (None, {"use_reentrant": False}, {"use_reentrant": True}):
        trained = built().train()
        if options is not None:
            trained.language.decoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        runs: list[int] = []
        for block in trained.language.blocks:
            block.get_submodule("mlp").register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        total, _ = trained.loss(batch())
        total.backward()
        assert len(runs) == (4 if options is None else 8), "a checkpointed block runs twice"
        parts = ("fusion", "projector", "injection", "language")
        named = {f"{part}.{n}": p for part in parts for n, p in trained.parts()[part].named_parameters()}
        assert [n for n, p in named.items() if p.grad is None or not p.grad.abs().any()] == []
        found.append({n: p.grad for n, p in named.items()})
    for other in found[1:]:
        for name, gradient in found[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@torch.no_grad()
def test_started_at_zero_it_is_inline(model: MLLM) -> None:
    inline = built(injection={"kind": "inline", "row_end": True})
    still = built(injection={**DEEP, "zero_init": True})
    assert torch.equal(still(batch()), inline(batch()))
    assert not torch.allclose(model(batch()), inline(batch()), atol=1e-2)


@torch.no_grad()
def test_words_alone_and_half_precision(model: MLLM) -> None:
    with counted(model) as looks:
        model(batch([1]))
    assert looks == []
    half, whole = (build_model(config(), seed=1) for _ in range(2))
    half.language.bfloat16()
    rough, exact = half(batch([0])).float(), whole(batch([0]))
    assert (rough - exact).norm() < 0.05 * exact.norm()


@torch.no_grad()
def test_the_price_counts_parameters_and_operations() -> None:
    deep, inline = config(), config(injection={"kind": "inline", "row_end": True})
    square = batch([4])
    flops = []
    for cfg in (deep, inline):
        one = build_model(cfg, seed=0)
        cost = cost_by_part(cfg, text_tokens=2 * WORDS, views=1, head_tokens=0)["injection"]
        assert cost.parameters == sum(p.numel() for p in one.injection.parameters())
        x_BTE, seen = one.embed(square)
        with FlopCounterMode(display=False) as counter:
            one.read(x_BTE, square.mask_BT, seen)
        flops.append(counter.get_total_flops())
    price = cost_by_part(deep, text_tokens=2 * WORDS, views=1, head_tokens=0)["injection"].flops
    assert price == pytest.approx(flops[0] - flops[1], rel=0.01)


def test_state_round_trip(model: MLLM) -> None:
    other = build_model(config(), seed=9)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other.eval()(batch()), model(batch()))
    assert type(model.language.blocks[0]).__name__ == "LlamaDecoderLayer", "nothing is left inside the decoder"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fusion": {"kind": "channel_concat", "grid": [4, 4]}}, "the fusion leaves no windows to look at again"),
        ({"projector": "pixel_shuffle_mlp"}, r"windows stand on a grid of 4x4, .* one of 2x2"),
        ({"injection": {**DEEP, "count": 3}}, "end behind block 4, but the language model has blocks 0 to 3"),
        (
            {"encoders": {"a": {"kind": "patches", "patch": 8, "image_size": 32, "fit": "stretch"}}},
            "encoder 'a' has fit 'stretch' at 32x32 px",
        ),
        ({"encoders": {"a": {"kind": "patches", "patch": 8, "image_size": [32, 64]}}}, "'pad' at 32x64 px"),
    ],
)
def test_designs_that_do_not_fit_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config(**changes)
