"""Copies of images by appearance: changed ones are found, different ones of one template are not. Rates: benchmarks."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.image_likeness import CHANGES, chart, drawing, page
from ommatidia.data.curation.image_index import ImageIndex
from ommatidia.data.curation.image_likeness import LIKE, Placement, Profiles, Thumbnail, likeness

SURE = [name for name in CHANGES if name not in ("watermark", "crop to 5 % a side", "10 % of one side")]


@pytest.mark.parametrize("make", [page, chart, drawing])
def test_copies_are_found_and_others_are_not(make, tmp_path: Path) -> None:
    index = ImageIndex(tmp_path)
    held = [make(seed) for seed in range(3)]
    assert all(index.add(image) for image in held)
    for name in SURE:
        found = [index.find(Thumbnail.of(CHANGES[name](image, random.Random(n)))) for n, image in enumerate(held)]
        assert found == [0, 1, 2], name
    assert not any(index.holds(make(seed)) for seed in range(10, 13))


def test_flat_images_are_told_apart_by_nothing(tmp_path: Path) -> None:
    index = ImageIndex(tmp_path)
    assert not index.add(Image.new("RGB", (50, 50), "white"))
    assert not index.holds(Image.new("RGB", (50, 50), "white"))
    assert index.find(Thumbnail.of(drawing(1))) is None
    assert index.add(drawing(1))
    assert not index.holds(Image.new("RGB", (50, 50), "white"))


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 0.08), st.floats(0, 0.08), st.floats(0.7, 1.3), st.integers(-30, 30))
def test_an_image_is_like_its_crops_at_any_brightness(left: float, top: float, gain: float, light: int) -> None:
    image = chart(3)
    box = (round(left * image.width), round(top * image.height), image.width, image.height)
    pixels = np.asarray(image.crop(box)).astype(float) * gain * 0.6 + 40 + light
    changed = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    assert likeness(Thumbnail.of(changed), Thumbnail.of(image)) >= LIKE


def test_profiles_say_how_one_lies_in_the_other() -> None:
    image = page(1)
    cropped = image.crop((0, 0, image.width, round(0.95 * image.height)))
    ((_, placement),) = Profiles(Thumbnail.of(cropped)).match([Thumbnail.of(image).profiles()])
    assert placement.scale == pytest.approx((0.95, 1.0), abs=0.011)
    assert placement.shift == pytest.approx((-0.025, 0.0), abs=0.011)
    assert Placement() == Placement((1.0, 1.0), (0.0, 0.0))
