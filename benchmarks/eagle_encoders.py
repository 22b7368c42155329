"""Eagle-X5's five encoders at 1024 px twice: as we run them, and by the straightforward modules Eagle's code runs.

Random weights; a part of benchmarks, no measurement itself. Straightforward: CLIP, SAM and Pix2Struct of transformers
with their scores laid out (Pix2Struct's patches cut by its processor on the CPU), EVA-02 with its scores laid out,
timm's ConvNeXt in the usual memory layout. Ours: the same functions through fused kernels, Pix2Struct's patches cut on
the device, ConvNeXt with channels innermost. ``Size.share`` keeps one block of so many, at full width and resolution.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

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


@dataclass(frozen=True)
class Size:
    """Where and how large."""

    device: str
    dtype: torch.dtype
    share: int = 1

    @property
    def globals(self) -> dict[str, list[int]]:
        """The blocks of SAM and EVA-02 that see everything: one in six and one in three, as published."""
        depth = 24 // self.share
        return {"sam": list(range(depth - 1, -1, -6))[::-1], "eva02_det": list(range(depth - 1, -1, -3))[::-1]}

    def config(self, name: str) -> EncoderConfig:
        """The catalog's encoder with a part of its blocks."""
        config = EncoderConfig.parse(NAMES[name])
        if self.share == 1:
            return config
        fewer: dict[str, Any] = {"depth": (18 if name == "pix2struct" else 24) // self.share}
        if name in self.globals:
            fewer["global_blocks"] = self.globals[name]
        if name == "convnext":
            fewer = {"args": {"depths": [max(1, blocks // self.share) for blocks in (3, 4, 30, 3)]}}
        return EncoderConfig.parse(config.to_dict() | fewer)


def ours(name: str, size: Size) -> nn.Module:
    with torch.device(size.device):
        trunk = size.config(name).trunk(pretrained=False)
    return trunk.to(size.device, size.dtype).eval()


def with_channels_last(trunk: nn.Module) -> Run:
    last = copy.deepcopy(trunk).to(memory_format=torch.channels_last)
    return lambda pixels_BCHW: last(pixels_BCHW.to(memory_format=torch.channels_last))


def straightforward(name: str, trunk: nn.Module, size: Size) -> Run:
    """What Eagle's code runs for an encoder, x_BHWD; where a module of its own is made, ours lends no weights."""
    if name == "convnext":
        return trunk
    if name == "eva02_det":
        return eagerly(trunk)
    with torch.device(size.device):
        return {"clip": theirs_clip, "sam": theirs_sam, "pix2struct": theirs_pix2struct}[name](size)


def theirs_clip(size: Size) -> Run:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24 // size.share, num_attention_heads=16,
        patch_size=14, image_size=448, attn_implementation="eager",
    )  # fmt: skip
    model = CLIPVisionModel(config).to(size.device, size.dtype).eval()

    def run(pixels_BCHW: Tensor) -> Tensor:
        small = functional.interpolate(pixels_BCHW.float(), (448, 448), mode="bilinear", align_corners=True)
        return model(small.to(size.dtype), output_hidden_states=True).hidden_states[-1][:, 1:].unflatten(1, (32, 32))

    return run


def theirs_sam(size: Size) -> Run:
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    config = SamVisionConfig(
        hidden_size=1024, mlp_dim=4096, num_hidden_layers=24 // size.share, num_attention_heads=16,
        global_attn_indexes=size.globals["sam"] if size.share > 1 else [5, 11, 17, 23], attn_implementation="eager",
    )  # fmt: skip
    model = SamVisionEncoder(config).to(size.device, size.dtype).eval()

    def run(pixels_BCHW: Tensor) -> Tensor:
        return functional.pixel_unshuffle(model(pixels_BCHW).last_hidden_state, 2).permute(0, 2, 3, 1)

    return run


def theirs_pix2struct(size: Size) -> Run:
    from transformers import Pix2StructImageProcessor, Pix2StructVisionConfig, Pix2StructVisionModel

    config = Pix2StructVisionConfig(
        hidden_size=1536, d_ff=3968, d_kv=64, num_hidden_layers=18 // size.share, num_attention_heads=24,
        attn_implementation="eager",
    )  # fmt: skip
    model = Pix2StructVisionModel(config).to(size.device, size.dtype).eval()
    processor = Pix2StructImageProcessor(max_patches=2048, is_vqa=False)

    def run(pixels_BCHW: Tensor) -> Tensor:
        with torch.device("cpu"):
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
            pictures = [(one.float().cpu() * std + mean) * 255 for one in pixels_BCHW]
            found = processor(pictures, return_tensors="pt")
        patches = found["flattened_patches"].to(size.device, size.dtype)
        out = model(patches, attention_mask=found["attention_mask"].to(size.device)).last_hidden_state
        return out[:, : 45 * 45].unflatten(1, (45, 45))

    return run


def picture(batch: int, size: Size) -> Tensor:
    generator = torch.Generator(size.device).manual_seed(batch)
    return torch.randn(batch, 3, SIDE, SIDE, device=size.device, generator=generator).to(size.dtype)


def quietly(run: Run, pixels_BCHW: Tensor) -> Tensor:
    with torch.no_grad():
        return run(pixels_BCHW)


def sides(name: str, size: Size) -> dict[str, Run]:
    """One encoder: ours and the straightforward one."""
    trunk = ours(name, size)
    fast = with_channels_last(trunk) if name == "convnext" else trunk
    return {"ours": fast, "straightforward": straightforward(name, trunk, size)}


def both_sides(size: Size) -> dict[str, dict[str, Run]]:
    """Both sides of all five, by encoder."""
    return {name: sides(name, size) for name in NAMES}
