"""BRAVE's resampler: dropped encoders, the question, published size; and whole models with fusions that read."""

from __future__ import annotations

import pytest
import torch
from model_toys import config as toy
from model_toys import mixed_samples, parts_of
from torch import Tensor

from ommatidia.core.errors import AlignmentError, ConfigError
from ommatidia.core.grid import Grid
from ommatidia.core.types import Views
from ommatidia.models.cost import cost_by_part
from ommatidia.models.fusion import Resampler
from ommatidia.models.fusion.fusion import FusionContext

GRIDS = {"a": Grid(4, 4, 6), "b": Grid(1, 7, 8), "c": Grid(3, 2, 5)}
SMALL = {"kind": "resampler", "queries": 5, "dim": 8, "bank": 12, "layers": 3, "heads": 2}


def small(**changes: object) -> Resampler:
    return Resampler.parse(SMALL | {"reads_question": False} | changes)


def features(views: int) -> dict[str, Tensor]:
    return {name: torch.randn(views, g.height, g.width, g.dim) for name, g in GRIDS.items()}


def test_a_dropped_encoder_is_an_encoder_that_is_not_there() -> None:
    module, x, views = small().build(GRIDS), features(2), Views.whole(2)
    fewer = small().build({name: GRIDS[name] for name in ("a", "c")})
    fewer.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("layers.b.")})
    kept = torch.tensor([[True, False, True]]).expand(2, 3)
    torch.testing.assert_close(module.read(x, views, kept), fewer.read(x, views))
    assert not torch.allclose(module.read(x, views), fewer.read(x, views))


def test_encoders_drop_in_training_alone_and_never_all() -> None:
    module, views = small(drop=0.9).build(GRIDS), Views.whole(400)
    kept = module.kept(views)
    assert kept is not None
    assert kept.any(-1).all()
    # 0.1 stay by themselves; of the views that would lose all (0.9 cubed) each keeps one of the three.
    assert kept.float().mean().item() == pytest.approx(0.1 + 0.9**3 / 3, abs=0.05)
    assert module.eval().kept(views) is None
    assert small(drop=0.0).build(GRIDS).kept(views) is None
    assert small(drop=0.9).build({"a": GRIDS["a"]}).kept(views) is None


def test_the_bank_has_no_order() -> None:
    module, x, views = small().build(GRIDS).eval(), features(1), Views.whole(1)
    shuffled = {**x, "a": x["a"].flip(1, 2)}
    torch.testing.assert_close(module(shuffled, views).y_KHWD, module(x, views).y_KHWD)
    assert module(x, views).y_KHWD.shape == (1, 1, 5, 8)


def test_the_question_changes_what_is_read() -> None:
    config = small(reads_question=True)
    with pytest.raises(ConfigError, match="say it in the context"):
        config.cost(GRIDS)
    module, x = config.build(GRIDS, FusionContext(4)).eval(), features(1)
    one, two = (module(x, Views.whole(1).asked(torch.randn(1, 4))).y_KHWD for _ in range(2))
    assert not torch.allclose(one, two)
    with pytest.raises(AlignmentError, match="reads the question"):
        module(x, Views.whole(1))


def test_published_size() -> None:
    # BRAVE's five encoders at 224 pixels: 1223 tokens, 116 M trainable.
    widths = {"eva": 1408, "clip": 1024, "silc": 1664, "vit_e": 1792, "dino": 1024}
    grids = {name: Grid(1, 245, width) for name, width in widths.items()}
    brave = Resampler()
    assert brave.out(grids) == Grid(1, 160, 768)
    assert brave.cost(grids, FusionContext(2048)).parameters == pytest.approx(116e6, rel=0.02)


@pytest.mark.parametrize(
    "fusion",
    [
        SMALL,
        {"kind": "routing", "blocks": 1, "heads": 2, "head_dim": 4, "stages": 1, "grid": [1, 1]},
        {"kind": "deformable", "heads": 4, "points": 2, "zero_init": False},
        "patch_mining",
        "gated_sum",
        "interleave",
    ],
    ids=lambda fusion: fusion if isinstance(fusion, str) else fusion["kind"],
)
def test_a_whole_model_learns_through_it(fusion: object) -> None:
    design = toy("a", "b", fusion=fusion)
    model, processor = parts_of(design)
    batch = processor.collate([processor(sample) for sample in mixed_samples()])
    total, count = model.loss(batch)
    total.backward()
    assert count > 0
    reached = [p.grad is not None and bool(p.grad.abs().any()) for p in model.fusion.parameters()]
    assert sum(reached) > 0 or fusion == "interleave"
    assert cost_by_part(design, text_tokens=9, views=1, head_tokens=1)["fusion"].parameters == sum(
        p.numel() for p in model.fusion.parameters()
    )
