"""MLLM: what runs and what does not, the loss against a plain computation, starts that do not depend on neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from model_toys import PATCHES, SCRATCH, VIT, Colour, config, lively, mixed_samples, parts_of, sample
from torch import Tensor, nn
from torch.nn import functional

from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Batch, ImagePart
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.cost import cost_by_part
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor


@pytest.fixture(scope="module")
def built() -> tuple[MLLM, Processor]:
    return parts_of(config("a", "b"))


@contextmanager
def counted(model: MLLM) -> Iterator[dict[str, int]]:
    """How often each part runs inside the block."""
    calls = dict.fromkeys(model.parts(), 0)

    def count(name: str) -> None:
        calls[name] += 1

    hooks = [part.register_forward_hook(lambda *_, name=name: count(name)) for name, part in model.parts().items()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def batch_of(processor: Processor, *numbers: int) -> Batch:
    samples = mixed_samples()
    return processor.collate([processor(samples[n]) for n in numbers])


def test_a_batch_of_words_runs_no_visual_part(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    with counted(model) as calls, torch.no_grad():
        model(batch_of(processor, 0, 0))
    assert {name for name, n in calls.items() if n} == {"language"}
    with counted(model) as calls, torch.no_grad():
        model(batch_of(processor, 0, 1, 2, 3))
    assert set(calls.values()) == {1}


def test_every_row_of_a_mixed_batch_is_as_if_alone(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    together = batch_of(processor, 0, 1, 2, 3)
    with torch.no_grad():
        h_BTE = model(together)
        for row in range(4):
            alone = model(batch_of(processor, row))[0]
            torch.testing.assert_close(h_BTE[row][together.mask_BT[row]], alone, rtol=1e-4, atol=1e-5)


def test_padding_may_stand_on_either_side(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    examples = [processor(one) for one in mixed_samples()]
    right, left = processor.collate(examples), processor.collate(examples, left=True)
    with torch.no_grad():
        torch.testing.assert_close(model(right)[right.mask_BT], model(left)[left.mask_BT], rtol=1e-4, atol=1e-5)


def test_visual_tokens_stand_where_their_places_are(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    batch = batch_of(processor, 0, 2, 1)
    with torch.no_grad():
        x_BTE, seen = model.embed(batch)
    assert seen is not None
    v_KHWE = seen.v_KHWE
    assert v_KHWE.shape == (3, 2, 2, 32)
    slots_BT = batch.ids_BT == IMAGE_TOKEN_ID
    assert torch.equal(x_BTE[slots_BT], v_KHWE.flatten(0, 2))
    assert torch.equal(x_BTE[~slots_BT], model.language.embed(batch.ids_BT[~slots_BT]))


def test_the_model_sees(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    dark, bright = (
        processor.collate([processor(sample(ImagePart(0), "Is it bright?", images=(Colour(c),)))]) for c in (0, 255)
    )
    words_T = dark.ids_BT[0] != IMAGE_TOKEN_ID
    with torch.no_grad():
        change_TE = (model(dark) - model(bright))[0].abs()
    assert change_TE[0].max() == 0, "what stands before the image does not know it"
    assert change_TE[words_T].max() > 1e-3


def test_counts_that_differ_are_named(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    batch = batch_of(processor, 1, 2)
    batch.ids_BT[0, 1] = 5
    with pytest.raises(AlignmentError) as error:
        model(batch)
    assert str(error.value) == "11 image placeholders in the text but 12 visual tokens from the encoders"


def reference_loss(model: MLLM, batch: Batch) -> Tensor:
    """The sum over all supervised positions, from logits at every position."""
    logits_BTV = model.language.head(model(batch)).float()
    predicted, wanted = logits_BTV[:, :-1].flatten(0, 1), batch.labels_BT[:, 1:].flatten()
    return functional.cross_entropy(predicted, wanted, ignore_index=IGNORE_LABEL, reduction="sum")


def test_the_loss_is_the_plain_cross_entropy_and_so_are_its_gradients(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    batch = batch_of(processor, 0, 1, 2, 3)
    total, count = model.loss(batch)
    assert count == batch.supervised
    torch.testing.assert_close(total, reference_loss(model, batch))
    parameters = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(total, parameters)
    plain = torch.autograd.grad(reference_loss(model, batch), parameters)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert all(gradient.abs().sum() > 0 for gradient in ours)


def test_the_loss_of_a_batch_is_the_sum_over_its_rows(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    with torch.no_grad():
        whole, count = model.loss(batch_of(processor, 0, 1, 2, 3))
        rows = [model.loss(batch_of(processor, row)) for row in range(4)]
    torch.testing.assert_close(whole, torch.stack([loss for loss, _ in rows]).sum())
    assert count == sum(n for _, n in rows)


def test_stored_features_give_what_pixels_give(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    seen = batch_of(processor, 1, 2)
    stored = batch_of(processor, 1, 2)
    with torch.no_grad():
        stored.features = {name: model.encoders[name].features(stored.pixels.pop(name)) for name in ("a", "b")}
        assert torch.equal(model(seen), model(stored))


def state(part: nn.Module) -> dict[str, Tensor]:
    return part.state_dict()


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = state(one), state(other)
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_a_parts_start_does_not_depend_on_the_other_parts() -> None:
    alone, other, both = (build_model(config(*names), seed=7) for names in (("a",), ("b",), ("a", "b")))
    bare = build_model(config(), seed=7)
    assert same(alone.encoders["a"], both.encoders["a"])
    assert same(other.encoders["b"], both.encoders["b"])
    assert all(same(model.language, bare.language) for model in (alone, other, both))
    appended = build_model(config("a", "b", fusion={"kind": "sequence_append", "dim": 16}), seed=7)
    assert same(alone.projector, appended.projector)  # same shape, same name: same start
    assert list(bare.parts()) == ["language"]
    assert list(both.parts()) == ["encoders.a", "encoders.b", "fusion", "projector", "injection", "language"]


def test_the_seed_decides_the_start_and_the_ambient_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    one = build_model(config("a", "b"), seed=7)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    torch.manual_seed(2)
    again, other = build_model(config("a", "b"), seed=7), build_model(config("a", "b"), seed=8)
    assert same(one, again)
    assert not same(one.language, other.language)
    assert not same(one.encoders["a"].neck, other.encoders["a"].neck)
    assert not same(one.projector, other.projector)


def test_a_model_without_trunks_has_the_same_necks_and_sees_no_pixels() -> None:
    whole, without = (
        build_model(config("a", "b"), seed=3),
        build_model(config("a", "b"), seed=3, without_trunks=frozenset({"b"})),
    )
    assert same(whole.encoders["b"].neck, without.encoders["b"].neck)
    assert same(whole.encoders["a"], without.encoders["a"])
    assert same(whole.projector, without.projector)
    assert list(without.encoders["b"].trunk.parameters()) == []
    with pytest.raises(AlignmentError, match="encoder 'b' was built for stored features"):
        without(batch_of(Processor(config("a", "b")), 1))


def test_grids_and_tokens_are_known_before_weights() -> None:
    both = config("a", "b")
    assert both.grids() == {"a": Grid(2, 2, 16), "b": Grid(2, 2, 8)}
    assert both.fused_grid() == Grid(2, 2, 24)
    assert both.visual_grid() == Grid(2, 2, 32)
    assert both.tokens_per_view == 4
    append = config("a", "b", fusion="sequence_append")
    assert append.tokens_per_view == 8
    assert (config().visual_grid(), config().tokens_per_view) == (None, 0)


def test_the_price_counts_the_parameters_that_are_built() -> None:
    cfg = config("a", "b", fusion={"kind": "sequence_append", "dim": 24})
    costs = cost_by_part(cfg, text_tokens=20, views=2, head_tokens=3)
    for name, part in build_model(cfg, seed=0).parts().items():
        assert costs[name].parameters == sum(p.numel() for p in part.parameters()), name
    once = cost_by_part(cfg, text_tokens=20, views=1, head_tokens=3)
    for name in ("encoders.a", "encoders.b", "fusion", "projector"):
        assert costs[name].flops == 2 * once[name].flops
        assert costs[name].parameters == once[name].parameters
    assert set(cost_by_part(config(), text_tokens=20, views=1, head_tokens=3)) == {"language"}


def test_parts_that_do_not_fit_are_refused() -> None:
    wide = {**PATCHES, "patch": 4}
    for data, message in (
        (
            {"encoders": {"a": PATCHES, "w": wide}, "fusion": "channel_concat"},
            "2x2 of 'a' and 8x8 of 'w' cannot be joined",
        ),
        ({"encoders": {"a": PATCHES, "b": VIT}}, "exactly one encoder is wanted, got 2"),
        ({"encoders": {"Clip-L": PATCHES}}, "'Clip-L' must be at most 100 lower-case letters"),
        ({"encoders": {"train": PATCHES}}, "'train' is a word that torch's modules keep"),
        ({"encoders": {"w": wide}, "language": {**SCRATCH, "context": 64}}, "64 visual tokens a view leave no room"),
    ):
        with pytest.raises(ConfigError) as error:
            MLLMConfig.parse({"language": SCRATCH, "chat": "compact"} | data)
        assert message in str(error.value)


def test_half_precision_language_takes_full_precision_pictures() -> None:
    cfg = config("a")
    model, processor = lively(build_model(cfg, seed=0)), Processor(cfg)
    model.language.bfloat16()
    loss, _ = model.loss(batch_of(processor, 0, 1))
    assert loss.dtype == torch.float32
    assert loss.isfinite()
