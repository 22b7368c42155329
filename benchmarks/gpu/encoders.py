"""The five encoders of Eagle-X5 at 1024 px here against the straightforward modules, on a CUDA device. Prints JSON.

python -m benchmarks.gpu.encoders [--batches 1 4] [--rounds 10]

Full size, random weights, bfloat16, no gradients. The straightforward side is what Eagle's code runs: CLIP, SAM and
Pix2Struct of transformers with their scores laid out (Pix2Struct's patches cut by its processor on the CPU), EVA-02
with its scores laid out, timm's ConvNeXt in the usual memory layout. Ours: the same functions through fused kernels,
Pix2Struct's patches cut on the device, ConvNeXt with channels innermost. ``convnext_variants`` tells layout and
compilation apart, forward and forward with backward.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu.timing import ceiling, interleaved, machine, medians, peak_gib, ratio
from ommatidia.models.vision import EncoderConfig
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD

NAMES = {
    "clip": "eagle_clip_448",
    "convnext": "eagle_convnext_xxl",
    "sam": "eagle_sam_l",
    "eva02_det": "eagle_eva02_l_det",
    "pix2struct": "eagle_pix2struct_l",
}
SIDE = 1024
Run = Callable[[Tensor], Tensor]


def laid_out(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, *_: Any, scale: float | None = None, **__: Any
) -> Tensor:
    """Attention with its whole matrix of scores in memory."""
    scores = (q @ k.transpose(-2, -1)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v


def eagerly(run: Run) -> Run:
    def laid(pixels_BCHW: Tensor) -> Tensor:
        with mock.patch.object(functional, "scaled_dot_product_attention", laid_out):
            return run(pixels_BCHW)

    return laid


def ours(name: str) -> nn.Module:
    with torch.device("cuda"):
        trunk = EncoderConfig.parse(NAMES[name]).trunk(pretrained=False)
    return trunk.cuda().eval().bfloat16()


def with_channels_last(trunk: nn.Module) -> Run:
    last = copy.deepcopy(trunk).to(memory_format=torch.channels_last)
    return lambda pixels_BCHW: last(pixels_BCHW.to(memory_format=torch.channels_last))


def straightforward(name: str, trunk: nn.Module) -> Run:
    """What Eagle's code runs for an encoder, x_BHWD; where a module of its own is made, ours lends no weights."""
    if name == "convnext":
        return trunk
    if name == "eva02_det":
        return eagerly(trunk)
    with torch.device("cuda"):
        made = {"clip": theirs_clip, "sam": theirs_sam, "pix2struct": theirs_pix2struct}[name]()
    return made


def theirs_clip() -> Run:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
        image_size=448, attn_implementation="eager",
    )  # fmt: skip
    model = CLIPVisionModel(config).cuda().eval().bfloat16()

    def run(pixels_BCHW: Tensor) -> Tensor:
        small = functional.interpolate(pixels_BCHW.float(), (448, 448), mode="bilinear", align_corners=True)
        return model(small.bfloat16(), output_hidden_states=True).hidden_states[-2][:, 1:].unflatten(1, (32, 32))

    return run


def theirs_sam() -> Run:
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    config = SamVisionConfig(
        hidden_size=1024, mlp_dim=4096, num_hidden_layers=24, num_attention_heads=16,
        global_attn_indexes=[5, 11, 17, 23], attn_implementation="eager",
    )  # fmt: skip
    model = SamVisionEncoder(config).cuda().eval().bfloat16()

    def run(pixels_BCHW: Tensor) -> Tensor:
        return functional.pixel_unshuffle(model(pixels_BCHW).last_hidden_state, 2).permute(0, 2, 3, 1)

    return run


def theirs_pix2struct() -> Run:
    from transformers import Pix2StructImageProcessor, Pix2StructVisionConfig, Pix2StructVisionModel

    config = Pix2StructVisionConfig(
        hidden_size=1536, d_ff=3968, d_kv=64, num_hidden_layers=18, num_attention_heads=24,
        attn_implementation="eager",
    )  # fmt: skip
    model = Pix2StructVisionModel(config).cuda().eval().bfloat16()
    processor = Pix2StructImageProcessor(max_patches=2048, is_vqa=False)

    def run(pixels_BCHW: Tensor) -> Tensor:
        with torch.device("cpu"):
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
            pictures = [(one.float().cpu() * std + mean) * 255 for one in pixels_BCHW]
            found = processor(pictures, return_tensors="pt")
        patches = found["flattened_patches"].cuda().bfloat16()
        out = model(patches, attention_mask=found["attention_mask"].cuda()).last_hidden_state
        return out[:, : 45 * 45].unflatten(1, (45, 45))

    return run


def picture(batch: int) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(batch)
    return torch.randn(batch, 3, SIDE, SIDE, device="cuda", dtype=torch.bfloat16, generator=generator)


def quietly(run: Run, pixels_BCHW: Tensor) -> Tensor:
    with torch.no_grad():
        return run(pixels_BCHW)


def compare(sides: dict[str, Run], pixels_BCHW: Tensor, *, rounds: int) -> dict[str, Any]:
    taken = interleaved({side: lambda run=run: quietly(run, pixels_BCHW) for side, run in sides.items()}, rounds=rounds)
    return {
        "milliseconds": medians(taken),
        "time_ratio": ratio(taken, "straightforward", "ours"),
        "peak_gib": {side: peak_gib(lambda run=run: quietly(run, pixels_BCHW)) for side, run in sides.items()},
    }


def convnext_variants(trunk: nn.Module, pixels_BCHW: Tensor, *, rounds: int) -> dict[str, Any]:
    """Memory layout and compilation, each alone and together, without and with gradients."""
    compiled = torch.compile(trunk)

    def forward(model: nn.Module, layout: torch.memory_format) -> None:
        with torch.no_grad():
            model(pixels_BCHW.to(memory_format=layout))

    def both(model: nn.Module, layout: torch.memory_format) -> None:
        model(pixels_BCHW.to(memory_format=layout)).float().square().mean().backward()
        trunk.zero_grad()

    result: dict[str, Any] = {}
    for layout_name, layout in (("plain", torch.contiguous_format), ("channels_last", torch.channels_last)):
        trunk.to(memory_format=layout)
        for model_name, model in (("eager", trunk), ("compiled", compiled)):
            for what, run in (("forward", forward), ("train", both)):
                side = {"it": lambda run=run, model=model, layout=layout: run(model, layout)}
                key = f"{what} {layout_name} {model_name}"
                result[key] = medians(interleaved(side, rounds=rounds))["it"]
                result[f"{key} peak_gib"] = peak_gib(side["it"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "ceiling_tflops": round(ceiling() / 1e12, 1)}
    trunks = {name: ours(name) for name in NAMES}
    plain = {name: straightforward(name, trunk) for name, trunk in trunks.items()}
    fast: dict[str, Run] = {**trunks, "convnext": with_channels_last(trunks["convnext"])}
    for batch in given.batches:
        pixels_BCHW = picture(batch)
        found: dict[str, Any] = {}
        for name in trunks:
            sides = {"ours": fast[name], "straightforward": plain[name]}
            found[name] = compare(sides, pixels_BCHW, rounds=given.rounds)
        times = [found[name]["milliseconds"] for name in trunks]
        totals = {side: round(sum(time[side] for time in times), 3) for side in ("ours", "straightforward")}
        found["all five"] = {"milliseconds": totals, "time_ratio": round(totals["straightforward"] / totals["ours"], 3)}
        result[f"batch {batch}"] = found
    flops = sum(EncoderConfig.parse(entry).trunk_cost().flops for entry in NAMES.values())
    result["tflop_a_picture"] = round(flops / 1e12, 2)
    largest = max(given.batches)
    spent = result[f"batch {largest}"]["all five"]["milliseconds"]["ours"] / 1e3
    result["share_of_ceiling"] = round(flops * largest / spent / (result["ceiling_tflops"] * 1e12), 3)
    result["convnext_variants"] = convnext_variants(trunks["convnext"], picture(largest), rounds=given.rounds)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
