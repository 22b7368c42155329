"""The five encoders of Eagle-X5 at 1024 px here against the straightforward modules, on a CUDA device. Prints JSON.

python -m benchmarks.gpu.encoders [--batches 1 4] [--rounds 10]

Full size, random weights, bfloat16, no gradients; see ``benchmarks/eagle_encoders.py`` for the two sides. ``compiled``:
ours with every block through torch.compile. ``convnext_variants`` tells layout and compilation apart, forward and
forward with backward.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.eagle_encoders import NAMES, Run, Size, both_sides, ours, picture, quietly
from benchmarks.gpu.timing import ceiling, interleaved, machine, medians, peak_gib, ratio
from ommatidia.models.vision import EncoderConfig

SIZE = Size("cuda", torch.bfloat16)


def compare(sides: dict[str, Run], pixels_BCHW: Tensor, *, rounds: int) -> dict[str, Any]:
    taken = interleaved({side: partial(quietly, run, pixels_BCHW) for side, run in sides.items()}, rounds=rounds)
    return {
        "milliseconds": medians(taken),
        "time_ratio": ratio(taken, "straightforward", "ours"),
        "peak_gib": {side: peak_gib(partial(quietly, run, pixels_BCHW)) for side, run in sides.items()},
    }


def compiled(trunk: nn.Module) -> Run:
    """Every block of the trunk through torch.compile."""
    for module in trunk.modules():
        rows = isinstance(module, nn.ModuleList) or type(module).__name__ == "ConvNeXtStage"
        found: Any = getattr(module, "blocks", module) if rows else ()
        for block in found:
            block.compile()
    return trunk


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
    made = both_sides(SIZE)
    for name, sides in made.items():
        sides["compiled"] = compiled(ours(name, SIZE))
    for batch in given.batches:
        pixels_BCHW = picture(batch, SIZE)
        found: dict[str, Any] = {name: compare(sides, pixels_BCHW, rounds=given.rounds) for name, sides in made.items()}
        times = [found[name]["milliseconds"] for name in made]
        totals = {side: round(sum(time[side] for time in times), 3) for side in times[0]}
        found["all five"] = {"milliseconds": totals, "time_ratio": round(totals["straightforward"] / totals["ours"], 3)}
        result[f"batch {batch}"] = found
    flops = sum(EncoderConfig.parse(entry).trunk_cost().flops for entry in NAMES.values())
    result["tflop_a_picture"] = round(flops / 1e12, 2)
    largest = max(given.batches)
    spent = result[f"batch {largest}"]["all five"]["milliseconds"]
    result["share_of_ceiling"] = {
        side: round(flops * largest / (ms / 1e3) / (result["ceiling_tflops"] * 1e12), 3) for side, ms in spent.items()
    }
    pixels_BCHW = picture(largest, SIZE)
    result["convnext_variants"] = convnext_variants(ours("convnext", SIZE), pixels_BCHW, rounds=given.rounds)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
