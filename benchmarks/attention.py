"""SAM, EVA-02 and Pix2Struct here against the modules of transformers and timm: time and peak memory. Prints JSON.

python -m benchmarks.attention [--full] [--rounds 5] [--only NAME ...] [--threads 1]

The same weights and the same image of 1024 px on both sides (random weights for timm, whose names differ), float32 on
a CPU. By default width 256 and 6 blocks, of which 1 is global for SAM (the share in SAM-L); ``--full`` is the size that
Eagle uses, forward only. ``train`` is forward and backward. Time: processor seconds of both sides in one process,
rounds interleaved, median of each round's own ratio. Memory: growth of the resident set while running, each side in a
process of its own, two passes. ``*_difference`` is the largest difference of the outputs.

``pix2struct`` of transformers takes pixels by way of its processor, as Eagle's forward pass does. timm's EVA-02 has no
windows, so ours is run without them too. ``plain`` is the same with the scores laid out, as Eagle's EVA-02 does.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ommatidia.models.vision import EncoderConfig
from ommatidia.models.vision.preprocess import HALF

Run = Callable[[Tensor], Tensor]


def sizes(full: bool) -> dict[str, int]:
    return {"width": 1024, "depth": 24, "heads": 16} if full else {"width": 256, "depth": 6, "heads": 4}


def sam(full: bool, who: str) -> nn.Module:
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    some = sizes(full)
    blocks = [5, 11, 17, 23] if full else [5]
    hidden = 4 * some["width"]
    if who == "timm":
        import timm

        return timm.create_model(
            "samvit_large_patch16", img_size=1024, embed_dim=some["width"], depth=some["depth"],
            num_heads=some["heads"], global_attn_indexes=blocks, num_classes=0, global_pool="",
        )  # fmt: skip
    torch.manual_seed(0)
    config = SamVisionConfig(
        hidden_size=some["width"], mlp_dim=hidden, num_hidden_layers=some["depth"], num_attention_heads=some["heads"],
        global_attn_indexes=blocks, attn_implementation="eager" if who == "plain" else "sdpa",
    )  # fmt: skip
    theirs = SamVisionEncoder(config)
    for name, parameter in theirs.named_parameters():
        if "pos" in name:  # made as zeros, which would hide a mistake
            nn.init.normal_(parameter, std=0.02)
    if who != "ours":
        return theirs
    ours = EncoderConfig.parse({"kind": "sam", **some, "hidden": hidden, "global_blocks": blocks})
    return loaded(ours, theirs)


def eva02(full: bool, who: str) -> nn.Module:
    some = sizes(full)
    if who == "ours":
        every = list(range(some["depth"]))
        config = EncoderConfig.parse({"kind": "eva02_det", **some, "global_blocks": every})
        return config.trunk(pretrained=False)
    import timm

    model: Any = timm.create_model(
        "eva02_large_patch14_224", img_size=1024, patch_size=16, embed_dim=some["width"], depth=some["depth"],
        num_heads=some["heads"], class_token=False, num_classes=0, global_pool="",
    )  # fmt: skip
    for block in model.blocks:
        block.attn.fused_attn = who != "plain"
    return model


def pix2struct(full: bool, who: str) -> nn.Module:
    from transformers import Pix2StructImageProcessor, Pix2StructVisionConfig, Pix2StructVisionModel

    some = {"width": 1536, "depth": 18, "heads": 24} if full else sizes(False)
    hidden = 3968 if full else 640
    torch.manual_seed(0)
    config = Pix2StructVisionConfig(
        hidden_size=some["width"], d_ff=hidden, d_kv=64, num_hidden_layers=some["depth"],
        num_attention_heads=some["heads"], attn_implementation="eager" if who == "plain" else "sdpa",
    )  # fmt: skip
    theirs = Pix2StructVisionModel(config)
    if who == "ours":
        return loaded(EncoderConfig.parse({"kind": "pix2struct", **some, "hidden": hidden}), theirs)
    processor = Pix2StructImageProcessor(max_patches=2048, is_vqa=False)

    class Processed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = theirs

        def forward(self, pixels_BCHW: Tensor) -> Tensor:
            pictures = [(one * HALF[0] + HALF[0]) * 255 for one in pixels_BCHW]
            found = processor(pictures, return_tensors="pt")
            return self.model(**found).last_hidden_state[:, : 45 * 45].unflatten(1, (45, 45))

    return Processed()


MODELS: dict[str, Callable[[bool, str], nn.Module]] = {"sam": sam, "eva02": eva02, "pix2struct": pix2struct}
PEERS = {"sam": ("transformers", "plain", "timm"), "eva02": ("timm", "plain"), "pix2struct": ("transformers", "plain")}


def loaded(config: EncoderConfig, theirs: nn.Module) -> nn.Module:
    trunk = config.trunk(pretrained=False)
    trunk.load_state_dict(config.published(theirs.state_dict()))
    return trunk


def output(model: nn.Module, pixels_BCHW: Tensor) -> Tensor:
    """x_BHWD, whatever the side calls it."""
    out = model(pixels_BCHW)
    out = getattr(out, "last_hidden_state", out)
    if out.ndim == 3:
        out = out.unflatten(1, (64, 64))
    return out if out.shape[1] == out.shape[2] else out.permute(0, 2, 3, 1)


def step(model: nn.Module, pixels_BCHW: Tensor, *, train: bool) -> Tensor:
    with torch.set_grad_enabled(train):
        out = output(model, pixels_BCHW)
        if train:
            out.square().mean().backward()
            model.zero_grad()
    return out.detach()


def picture() -> Tensor:
    return torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0)) * 2 - 1


def growth(name: str, who: str, *, full: bool, train: bool) -> None:
    """Print the MiB by which the resident set grew over two passes."""
    model, pixels_BCHW = MODELS[name](full, who).eval(), picture()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # start the peak anew: making the model is not what is asked
    unit = 1 if sys.platform == "darwin" else 1024
    before = peak(unit)
    for _ in range(2):
        step(model, pixels_BCHW, train=train)
    sys.stdout.write(str(round((peak(unit) - before) / 2**20)))


def peak(unit: int) -> float:
    """Bytes of the largest resident set since it was last started anew."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory(name: str, who: str, given: argparse.Namespace, *, train: bool) -> int:
    command = [sys.executable, "-m", "benchmarks.attention", "--measure", name, who]
    options = [*(["--full"] if given.full else []), *(["--train"] if train else []), "--threads", str(given.threads)]
    return int(subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True, check=True).stdout)


def compare(name: str, given: argparse.Namespace, *, train: bool) -> dict[str, Any]:
    pixels_BCHW = picture()
    models = {who: MODELS[name](given.full, who).eval() for who in ("ours", *PEERS[name])}
    first = {who: step(model, pixels_BCHW, train=train) for who, model in models.items()}
    taken: dict[str, list[float]] = {who: [] for who in models}
    for _ in range(given.rounds):
        for who, model in models.items():
            began = time.process_time()
            step(model, pixels_BCHW, train=train)
            taken[who].append(time.process_time() - began)
    result: dict[str, Any] = {"seconds": {who: round(statistics.median(times), 3) for who, times in taken.items()}}
    for who in PEERS[name]:
        ratios = [theirs / ours for theirs, ours in zip(taken[who], taken["ours"], strict=True)]
        result[f"time_ratio_{who}"] = round(statistics.median(ratios), 2)
        if who == "transformers":
            result["transformers_difference"] = float((first[who] - first["ours"]).abs().max())
    del models, first
    peaks = {who: memory(name, who, given, train=train) for who in ("ours", *PEERS[name])}
    result["peak_mib"] = peaks
    for who in PEERS[name]:
        result[f"memory_ratio_{who}"] = round(peaks[who] / max(1, peaks["ours"]), 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.measure:
        growth(*given.measure, full=given.full, train=given.train)
        return
    modes = ("forward",) if given.full else ("forward", "train")
    result = {name: {mode: compare(name, given, train=mode == "train") for mode in modes} for name in given.only}
    print(json.dumps({"size": sizes(given.full), **result}, indent=1))


if __name__ == "__main__":
    main()
