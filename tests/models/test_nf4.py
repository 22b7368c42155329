"""Four bits: what codes stand for, sizes of every kind, the same bits everywhere, and nothing that drifts."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ommatidia.models.nf4 import _LEVELS, BLOCK, dequantize_nf4, quantize_nf4
from ommatidia.models.quantized import QuantizedLinear

SIZES = [(48, 96), (64, 128), (7, 13), (3, 65), (1, 64), (1, 1), (5, 127)]


def exact(rows: int, columns: int) -> Tensor:
    """Numbers between -1 and 1 that integer arithmetic makes, so that they are the same bits everywhere."""
    count = torch.arange(rows * columns)
    return ((count * 7919 + count * count * 31) % 4001 - 2000).view(rows, columns) / 2048


def held(weight: Tensor) -> Tensor:
    return dequantize_nf4(*quantize_nf4(weight), tuple(weight.shape), torch.float32)


def nearest(weight: Tensor) -> np.ndarray:
    """The same in float64, block by block and number by number."""
    flat, levels = weight.double().numpy().reshape(-1), np.array(_LEVELS)
    made = np.zeros_like(flat)
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK]
        largest = np.abs(block).max()
        for place, number in enumerate(block):
            ratio = number / largest if largest else 0.0
            made[start + place] = levels[np.abs(levels - ratio).argmin()] * largest
    return made.reshape(weight.shape)


@pytest.mark.parametrize("shape", SIZES)
def test_every_number_becomes_the_nearest_level_of_its_block(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02
    assert np.allclose(held(weight).numpy(), nearest(weight), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [*SIZES, (1152, 4304)])
def test_saved_twice_it_is_the_same(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.02
    codes, scale = quantize_nf4(weight)
    once = held(weight)
    for _ in range(2):
        again = quantize_nf4(once)
        assert torch.equal(again[0], codes)
        assert torch.equal(again[1], scale)
        assert torch.equal(held(once), once)
        once = held(once)
    if min(shape) >= 48:
        assert 0.08 < float((once - weight).norm() / weight.norm()) < 0.1  # what 4 bits cost normal numbers


def test_a_block_of_zeros_and_a_largest_that_is_negative_stay_what_they_are() -> None:
    weight = torch.zeros(3, BLOCK)
    weight[1, 5], weight[1, 6] = -3.0, 0.001
    weight[2, 63] = torch.finfo(torch.float32).max
    wanted = weight.clone()
    wanted[1, 6] = 0.0
    assert torch.equal(held(weight), wanted)


def test_the_bits_are_these_on_every_processor() -> None:
    codes, scale = quantize_nf4(exact(48, 100))
    matrix = dequantize_nf4(codes, scale, (48, 100), torch.float32)
    half = dequantize_nf4(codes, scale, (48, 100), torch.bfloat16)
    made = (codes, scale, matrix, half)
    found = [hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest()[:16] for tensor in made]
    assert found == ["e3c9cfe49d45ca60", "f06b7d16dc7da9dd", "aaa464e8a6c5c4d3", "87569a35a397c5ee"]


def test_a_large_matrix_is_worked_on_in_slices() -> None:
    weight = exact(700, 1000)  # more than two slices, the last one short
    assert torch.equal(held(weight)[:1], held(weight[:64])[:1])
    assert torch.equal(held(weight).view(-1)[-512:], held(weight.view(-1)[-512 - 32 :].view(1, -1)).view(-1)[-512:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_computes_the_same_in_training_and_eval(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = QuantizedLinear(nn.Linear(96, 48), "nf4")
    x = torch.randn(5, 96, dtype=dtype)
    wanted = nn.functional.linear(x, layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype))
    for module in (layer.train(), layer.eval(), layer.train()):
        assert torch.equal(module(x), wanted)
