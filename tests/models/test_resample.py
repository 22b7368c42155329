"""Resampling: exact values of bilinear interpolation, aligned by pixel centres or by corners, in any float type."""

from __future__ import annotations

import pytest
import torch

from ommatidia.models.fusion import Bilinear


@pytest.mark.parametrize(("align_corners", "row"), [(True, [0.0, 1 / 3, 2 / 3, 1.0]), (False, [0.0, 0.25, 0.75, 1.0])])
def test_two_become_four(align_corners: bool, row: list[float]) -> None:
    x_BHWD = torch.tensor([[[[0.0], [1.0]]]])
    out_BHWD = Bilinear(align_corners=align_corners)(x_BHWD, 1, 4)
    torch.testing.assert_close(out_BHWD.flatten(), torch.tensor(row))


def test_half_precision_is_interpolated_in_float32_and_given_back() -> None:
    x_BHWD = torch.randn(1, 9, 7, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    resample = Bilinear(align_corners=True)
    assert torch.equal(resample(x_BHWD, 5, 11), resample(x_BHWD.float(), 5, 11).bfloat16())
