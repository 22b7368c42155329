"""Eagle's two ways from an image to pixels, exact up to float rounding: both end in bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ommatidia.models.vision import Preprocess
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD

NAMES = ("w640h480", "w31h500", "w1024h1024", "w2000h1333", "w1h1", "rgba_w300h211", "gray_w257h390", "w500h1")


@pytest.mark.parametrize(("mode", "fit"), [("pad", "pad_first"), ("square", "crop_last")])
@pytest.mark.parametrize("name", NAMES)
def test_pixels(golden: Callable, name: str, mode: str, fit: str) -> None:
    case = golden("eagle_preprocess")
    image = next(entry for entry in case.config["images"] if entry["name"] == name)
    pixels_CHW = Preprocess(size=1024, fit=fit, mean=CLIP_MEAN, std=CLIP_STD)(case.image(image["file"]))
    assert pixels_CHW.shape == (3, 1024, 1024)
    assert torch.isfinite(pixels_CHW).all()
    if f"{name}.{mode}" in case.config["original_raises"]:
        return  # the original stops here; a sensible image is all there is to ask
    out = case.tensors("outputs")
    double = pixels_CHW.double()
    for what, ours, bound in (
        ("sub", pixels_CHW[:, ::16, ::16], 1e-6),
        ("mean", double.mean((1, 2)), 1e-6),
        ("std", double.std((1, 2), correction=0), 1e-6),
        ("row_mean", double.mean((0, 2)), 1e-6),
        ("col_mean", double.mean((0, 1)), 1e-6),
    ):
        torch.testing.assert_close(ours.float(), out[f"{name}.{mode}.{what}"], atol=bound, rtol=0, msg=what)


def test_the_recordings_are_those_named_here(golden: Callable) -> None:
    case = golden("eagle_preprocess")
    assert tuple(entry["name"] for entry in case.config["images"]) == NAMES
    assert case.config["pad_color_rgb"] == [int(255 * mean) for mean in CLIP_MEAN]
