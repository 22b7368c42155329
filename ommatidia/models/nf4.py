"""NormalFloat of 4 bits (Dettmers et al. 2023, arXiv 2305.14314, section 3): blocks of numbers as codes beside a scale.

A block is 64 numbers of the flattened matrix, in order; the last one is filled up with zeros. Its scale is its largest
absolute value, and a code is the level nearest to number / scale. Both ways are comparisons, table look-ups and single
float32 operations, which IEEE 754 rounds in one way, so codes and numbers are the same bits on every processor and GPU.

The levels are those of the paper's appendix E. Compared with bitsandbytes 0.50.2 by hand, on a processor with AVX2 and
without ``avx512_bf16``, codes, scales and matrices were equal in every bit (``docs/reproducibility.md``).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 64
_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def quantize_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, two to a byte with the first in the high bits (uint8, [blocks * 32]), and scales (float32, [blocks]).

    Quantising what they stand for gives the same codes and scales, because a block's largest number is kept exactly
    (levels -1 and 1) and no other comes near to the middle between two levels.
    """
    flat = weight.detach().reshape(-1).float()
    blocks = functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scale = blocks.abs().amax(1)
    levels = torch.tensor(_LEVELS, device=flat.device)
    middles = (levels[1:] + levels[:-1]) / 2
    codes = torch.empty(len(blocks), BLOCK // 2, dtype=torch.uint8, device=flat.device)
    for part in _slices(len(blocks), flat.device):
        divisor = scale[part, None]
        ratio = blocks[part] / divisor.where(divisor > 0, 1.0)
        level = torch.bucketize(ratio, middles, out_int32=True).to(torch.uint8)
        codes[part] = level[:, ::2] << 4 | level[:, 1::2]
    return codes.view(-1), scale


def dequantize_nf4(codes: Tensor, scale: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The matrix of ``shape`` that codes and scales stand for: level * scale in float32, then rounded to ``dtype``."""
    made = torch.empty(len(scale), BLOCK, dtype=dtype, device=codes.device)
    pairs, rows = _pairs(codes.device), codes.view(-1, BLOCK // 2)
    for part in _slices(len(scale), codes.device):
        levels = pairs.index_select(0, rows[part].reshape(-1).int()).view(torch.float32).view(-1, BLOCK)
        made[part] = levels.mul_(scale[part, None].float())
    return made.view(-1)[: torch.Size(shape).numel()].view(shape)


@lru_cache(maxsize=16)
def _pairs(device: torch.device) -> Tensor:
    """The two levels that each byte stands for, as the 8 bytes of one int64: looking up whole numbers is faster."""
    byte = torch.arange(256, device=device)
    return torch.tensor(_LEVELS, device=device)[torch.stack((byte >> 4, byte & 15), 1)].view(torch.int64).view(-1)


def _slices(blocks: int, device: torch.device) -> list[slice]:
    """Blocks worked on at a time, so that no second copy of a large matrix exists: 2^18 numbers on a CPU, whose caches
    they fit, 2^24 elsewhere."""
    step = (2**18 if device.type == "cpu" else 2**24) // BLOCK
    return [slice(start, start + step) for start in range(0, blocks, step)]
