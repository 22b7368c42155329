"""LLaVA-HR's steered encoder from published weights gives the numbers that the published implementation gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ommatidia.core.grid import Blocks, Grid
from ommatidia.core.types import Views
from ommatidia.models.fusion import BlockEdits, Fusion, MixtureOfResolution
from ommatidia.models.fusion.fusion import FusionContext
from ommatidia.models.vision import EncoderConfig, Preprocess, VisionEncoder
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD

PREFIX = "model.vision_" + "tower."


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published names and shapes of adapters and merge as ours, for one slow encoder called ``slow``."""
    ours = {}
    for name, tensor in weights.items():
        kind, number, rest = name.split(".", 2)
        if kind == "align_stages_latent":
            conv = rest.startswith("fast_conv.")
            ours[f"adapters.{number}.slow.{rest}"] = tensor if conv or tensor.ndim < 3 else tensor.flatten(1)
        elif kind == "align_stages":
            ours["merge." + rest.replace("slow_proj", "slow_proj.slow")] = tensor
    return ours


def encoders(case: Any, size: int) -> dict[str, VisionEncoder]:
    sizes = case.config["towers"]
    clip, convnext = sizes["clip"], sizes["convnext"]
    common = {"image_size": size, "mean": CLIP_MEAN, "std": CLIP_STD}
    configs = {
        "fast": EncoderConfig.parse({
            "kind": "clip", "width": clip["width"], "depth": clip["depth"], "heads": clip["heads"],
            "hidden": clip["mlp"], "input_size": max(size // 32 * 14, 336), **common,
        }),
        "slow": EncoderConfig.parse({
            "kind": "timm", "model": "convnext_large", "features": -1, **common,
            "args": {"depths": convnext["depths"], "dims": convnext["dims"]},
        }),
    }  # fmt: skip
    built = {}
    for name, config in configs.items():
        built[name] = config.build()
        state = config.published(case.weights(f"{PREFIX}{name}_vision_" + "tower.vision_" + "tower."))
        known = built[name].trunk.state_dict()
        built[name].trunk.load_state_dict({key: t for key, t in state.items() if key in known})
    assert configs["fast"].blocks().count == clip["depth"]
    return built


def fusion(case: Any, fast: Grid, slow: Grid) -> Fusion:
    context = FusionContext(blocks={"fast": Blocks(case.config["towers"]["clip"]["depth"], fast)})
    module = MixtureOfResolution().build({"fast": fast, "slow": slow}, context)
    module.load_state_dict(renamed(case.weights(PREFIX)))
    return module.eval()


class Watch:
    """What goes into an adapter, its change, and its gate before the tanh."""

    def __init__(self, adapter: nn.Module) -> None:
        adapter.register_forward_hook(self._adapted)
        adapter.get_submodule("gate").register_forward_hook(self._gated)

    def _adapted(self, _module: nn.Module, given: tuple[Tensor, ...], change_KHWD: Tensor) -> None:
        self.x_KHWD, self.out_KHWD = given[0], given[0] + change_KHWD

    def _gated(self, _module: nn.Module, _given: Any, gate_K1: Tensor) -> None:
        self.gate_K1 = gate_K1


@pytest.mark.parametrize("size", [1024, 384])
@torch.no_grad()
def test_a_run(golden: Callable[[str], Any], close: Callable[[Tensor, Tensor, str], None], size: int) -> None:
    case = golden("llava_hr")
    out, run = case.tensors("outputs"), next(run for run in case.config["runs"] if run["image_size"] == size)
    preprocess = Preprocess(size=size, mean=CLIP_MEAN, std=CLIP_STD)
    pixels_BCHW = torch.stack([preprocess(case.image(name)) for name in run["images"]])
    built, name = encoders(case, size), run["name"]
    width, channels = case.config["towers"]["clip"]["width"], case.config["towers"]["convnext"]["dims"][-1]
    grids = Grid(*[int(out[f"{name}.fast_grid"])] * 2, width), Grid(*[int(out[f"{name}.slow_grid"])] * 2, channels)
    module = fusion(case, *grids)
    watches = [Watch(adapters["slow"]) for adapters in module.adapters]  # type: ignore[union-attr]

    def look(encoder: str, between: BlockEdits | None = None) -> Tensor:
        return built[encoder](pixels_BCHW, between)

    features = module.encode(("fast", "slow"), look)
    y_KHWD = module(features, Views.whole(2)).y_KHWD
    index, slow_index = out[f"{name}.index"], out[f"{name}.slow_index"]

    def sub(x_KHWD: Tensor) -> Tensor:
        return x_KHWD[:, index][:, :, index]

    slow_KDHW = features["slow"][:, slow_index][:, :, slow_index].permute(0, 3, 1, 2)
    close(slow_KDHW, out[f"{name}.slow.sub"], f"{name} slow")
    for number, watch in enumerate(watches):
        close(sub(watch.x_KHWD), out[f"{name}.adapter{number}.fast_in.sub"], f"{name} into adapter {number}")
        close(sub(watch.out_KHWD), out[f"{name}.adapter{number}.out.sub"], f"{name} out of adapter {number}")
        close(watch.gate_K1, out[f"{name}.adapter{number}.gate_before_tanh"], f"{name} gate {number}")
    close(sub(features["fast"]), out[f"{name}.merge.fast_in.sub"], f"{name} into the merge")
    close(sub(y_KHWD), out[f"{name}.out.sub"], f"{name} out")
    close(y_KHWD.mean(-1).flatten(1), out[f"{name}.out.token_mean"], f"{name} token mean")
    close(y_KHWD.square().mean(-1).sqrt().flatten(1), out[f"{name}.out.token_rms"], f"{name} token rms")
    close(y_KHWD.mean((1, 2)), out[f"{name}.out.channel_mean"], f"{name} channel mean")


@torch.no_grad()
def test_a_slow_map_twice_as_fine(golden: Callable[[str], Any], close: Callable[[Tensor, Tensor, str], None]) -> None:
    case = golden("llava_hr")
    given, out = case.tensors("inputs"), case.tensors("outputs")
    fast, slow = case.config["module_fast_grid"], case.config["module_slow_grid"]
    maps = {
        "fast": given["module.fast"].unflatten(1, (fast, fast)),
        "slow": given["module.slow"].permute(0, 2, 3, 1),
    }
    module = fusion(case, Grid(fast, fast, maps["fast"].shape[-1]), Grid(slow, slow, maps["slow"].shape[-1]))

    def look(encoder: str, between: BlockEdits | None = None) -> Tensor:
        return maps[encoder] if between is None else between[sorted(between)[1]](maps[encoder])

    steered_KHWD = module.encode(("fast", "slow"), look)["fast"]
    close(steered_KHWD.flatten(1, 2), out["module.adapter1.pooled"], "adapter, averaged")
    close(module(maps, Views.whole(2)).y_KHWD.flatten(1, 2), out["module.merge.pooled"], "merge, averaged")
