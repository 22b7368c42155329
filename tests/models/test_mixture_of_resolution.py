"""Mixture of resolution: where the adapters stand, that they start as nothing, and any pair of sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Blocks, Grid
from ommatidia.core.types import IMAGE_TOKEN_ID, Batch, Views
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.cost import cost_by_part
from ommatidia.models.fusion import BlockEdits, Fusion, MixtureOfResolution
from ommatidia.models.fusion.fusion import FusionContext
from ommatidia.models.model import MLLM

FAST = {
    "kind": "timm", "model": "vit_small_patch14_reg4_dinov2", "image_size": 28,
    "args": {"depth": 4, "embed_dim": 32, "num_heads": 2},
}  # fmt: skip
SLOW = {"kind": "patches", "patch": 8, "image_size": 24}
OTHER = {"kind": "patches", "patch": 16, "image_size": 32, "neck": {"kind": "linear", "dim": 12}}


def config(**changes: Any) -> MLLMConfig:
    data = {
        "encoders": {"fast": FAST, "slow": SLOW, "other": OTHER},
        "fusion": "mixture_of_resolution",
        "language": {"kind": "scratch", "width": 32, "layers": 1, "heads": 2, "context": 256},
        "chat": "compact",
    }
    return MLLMConfig.parse(data | changes)


def batch(model: MLLMConfig, count: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(1, 100, (count, 12), generator=generator)
    ids_BT[:, 2:6] = IMAGE_TOKEN_ID
    pixels = {
        name: torch.randn(count, 3, *encoder.preprocess().size, generator=generator)
        for name, encoder in model.encoders.items()
    }
    labels_BT = torch.where(ids_BT > 0, ids_BT, -100)
    return Batch(
        tuple("ab"[:count]), ids_BT, labels_BT, torch.ones_like(ids_BT).bool(), pixels, views=Views.whole(count)
    )


def fast_features(model: MLLM, given: Batch) -> Tensor:
    return model.encode(given)["fast"]


@torch.no_grad()
def test_at_the_start_the_fast_encoder_is_as_if_alone() -> None:
    cfg = config()
    model, given = build_model(cfg, seed=0), batch(cfg)
    alone = model.encoders["fast"](given.pixels["fast"])
    assert torch.equal(fast_features(model, given), alone)
    last = model.fusion.get_submodule("adapters.2.slow")
    nn.init.normal_(last.get_parameter("slow_proj.weight"))
    assert not torch.allclose(fast_features(model, given), alone, atol=1e-3)


def test_gradients_reach_every_part_once_it_has_moved() -> None:
    cfg = config()
    model = build_model(cfg, seed=0)
    for parameter in model.fusion.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    model.loss(batch(cfg))[0].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert silent == []
    fresh = build_model(cfg, seed=0)
    fresh.loss(batch(cfg))[0].backward()
    for name in ("slow_proj", "fast_proj"):
        gradient = fresh.fusion.get_parameter(f"adapters.0.slow.{name}.weight").grad
        assert gradient is not None
        assert gradient.any(), f"{name} learns from the first step"


def test_the_price_and_the_tokens_are_known_before_weights() -> None:
    cfg = config()
    assert cfg.fused_grid() == Grid(2, 2, 32)
    assert cfg.fusion.steered(tuple(cfg.encoders)) == {"fast"}
    cost = cost_by_part(cfg, text_tokens=8, views=1, head_tokens=1)["fusion"]
    assert cost.parameters == sum(p.numel() for p in build_model(cfg, seed=0).fusion.parameters())


def echo(blocks: int) -> Any:
    """An encoder of zeros whose blocks pass on what they get, and the numbers of those that were steered."""
    steered: list[int] = []

    def look(name: str, between: BlockEdits | None = None) -> Tensor:
        x_KHWD = torch.zeros(1, 2, 2, 4) if name == "fast" else torch.ones(1, 2, 2, 6)
        for block in range(blocks):
            if between and block in between:
                steered.append(block)
                x_KHWD = between[block](x_KHWD)
        return x_KHWD

    return look, steered


@pytest.mark.parametrize(
    ("blocks", "adapters", "expected"), [(24, 3, [5, 11, 17]), (23, 3, [4, 10, 16]), (4, 3, [0, 1, 2]), (5, 0, [])]
)
def test_adapters_stand_behind_equal_parts_of_the_blocks(blocks: int, adapters: int, expected: list[int]) -> None:
    grids = {"fast": Grid(2, 2, 4), "slow": Grid(2, 2, 6)}
    plain = MixtureOfResolution(adapters=adapters)
    steered = plain.steered(tuple(grids))
    assert steered == ({"fast"} if adapters else set())
    module = plain.build(grids, FusionContext(blocks={name: Blocks(blocks, grids[name]) for name in steered}))
    look, seen = echo(blocks)
    module.encode(("fast", "slow"), look)
    assert seen == expected


def test_several_slow_encoders_add_their_changes() -> None:
    grids = {"fast": Grid(2, 2, 4), "one": Grid(4, 4, 6), "two": Grid(3, 2, 5)}
    config, context = MixtureOfResolution(adapters=1), FusionContext(blocks={"fast": Blocks(2, grids["fast"])})

    def moved(names: tuple[str, ...]) -> Fusion:
        module = config.build({name: grids[name] for name in names}, context)
        for name, parameter in sorted(module.named_parameters()):
            torch.manual_seed(len(name) + 100 * ("two" in name))
            nn.init.normal_(parameter)
        return module

    maps = {n: torch.randn(1, g.height, g.width, g.dim) for n, g in grids.items()}

    def changed(*names: str) -> Tensor:
        def look(name: str, between: BlockEdits | None = None) -> Tensor:
            return between[0](maps[name]) if between else maps[name]

        return moved(names).encode(names, look)["fast"] - maps["fast"]

    torch.testing.assert_close(changed("fast", "one", "two"), changed("fast", "one") + changed("fast", "two"))


@pytest.mark.parametrize("slow", [(4, 4), (5, 7), (3, 3), (1, 2), (2, 9), (36, 36)])
def test_sizes_that_do_not_divide_one_another_meet_all_the_same(slow: tuple[int, int]) -> None:
    grids = {"fast": Grid(4, 4, 8), "slow": Grid(*slow, 6)}
    module = MixtureOfResolution(adapters=0).build(grids)
    flat = {n: torch.ones(1, g.height, g.width, g.dim) for n, g in grids.items()}
    y_KHWD = module(flat, Views.whole(1)).y_KHWD
    torch.testing.assert_close(y_KHWD, y_KHWD[:, :1, :1].expand(1, 4, 4, 8))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fusion": {"kind": "mixture_of_resolution", "adapters": 4}}, "need at least 5 blocks, but 'fast' has 4"),
        ({"encoders": {"fast": SLOW, "slow": OTHER}}, "patches: its trunk is no row of equal blocks"),
        ({"encoders": {"fast": FAST}}, "a fast and a slow encoder are wanted, got 'fast'"),
    ],
)
def test_designs_that_do_not_fit_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config(**changes)
