"""Preprocess: exact pixels for the three fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ommatidia.core.errors import ConfigError
from ommatidia.models.vision import Preprocess
from ommatidia.models.vision.preprocess import prepare_all


def gradient(rows: int, columns: int) -> Image.Image:
    values = np.arange(rows * columns * 3, dtype=np.uint8).reshape(rows, columns, 3)
    return Image.fromarray(values, "RGB")


def test_same_size_is_normalised_and_nothing_else() -> None:
    image = gradient(2, 4)
    preprocess = Preprocess(size=(2, 4), mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    expected = (np.asarray(image, np.float64) / 255 - [0.5, 0.25, 0.0]) / [0.5, 1.0, 2.0]
    np.testing.assert_allclose(preprocess(image).permute(1, 2, 0), expected, atol=1e-6)


def test_pad_centres_the_picture_in_zeros() -> None:
    out = Preprocess(size=8, fit="pad")(Image.new("RGB", (8, 4), (255, 255, 255)))
    assert not out[:, :2].any()
    assert not out[:, 6:].any()
    assert (out[:, 2:6] > 1).all()


def test_crop_keeps_the_centre_and_stretch_keeps_everything() -> None:
    image = Image.new("RGB", (12, 4), (0, 0, 0))
    image.paste((255, 255, 255), (4, 0, 8, 4))  # black | white | black
    plain = {"size": 4, "interpolation": "box", "mean": (0, 0, 0), "std": (1, 1, 1)}
    assert Preprocess(**plain, fit="crop")(image).eq(1).all()
    assert Preprocess(**plain, fit="stretch")(image)[0, 0].tolist() == pytest.approx(
        [0, 1 / 3 + 1 / 3, 2 / 3, 0], abs=0.01
    )


def test_a_long_thin_picture_costs_no_memory() -> None:
    assert Preprocess(size=224, fit="crop")(Image.new("RGB", (60000, 1))).shape == (3, 224, 224)


def test_other_modes_become_rgb_and_the_result_is_repeatable() -> None:
    grey = Image.new("L", (5, 7), 100)
    preprocess = Preprocess(size=(6, 10))
    assert torch.equal(preprocess(grey), preprocess(grey.convert("RGB")))


@pytest.mark.parametrize("bad", [{"size": 0}, {"size": 8, "std": (0, 1, 1)}, {"size": 8, "fit": "squash"}])
def test_bad_values_are_refused(bad: dict) -> None:
    with pytest.raises(ConfigError):
        Preprocess(**bad)


def whole(image: Image.Image, fit: str, rows: int, columns: int) -> Image.Image:
    """The same image by way of the whole canvas or the whole resized image."""
    if fit == "pad_first":
        width = max(image.width, round(image.height * columns / rows))
        height = max(image.height, round(image.width * rows / columns))
        canvas = Image.new("RGB", (width, height), (127, 63, 0))
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return canvas.resize((columns, rows), Image.Resampling.BICUBIC)
    scale = max(rows / image.height, columns / image.width)
    wide = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (wide.width - columns) // 2, (wide.height - rows) // 2
    return wide.crop((left, top, left + columns, top + rows))


@pytest.mark.parametrize("fit", ["pad_first", "crop_last"])
@pytest.mark.parametrize("shape", [(37, 90), (90, 37), (64, 64), (16, 32), (1, 9), (300, 7)])
@pytest.mark.parametrize("size", [(32, 32), (32, 64)])
@pytest.mark.parametrize("strips", [False, True])
def test_padding_first_and_cropping_last(fit, shape, size, strips, monkeypatch) -> None:
    if strips and fit == "pad_first":
        monkeypatch.setattr("ommatidia.models.vision.preprocess._LARGEST", 500)
    image = gradient(*shape)
    ours = Preprocess(size=size, fit=fit, mean=(0.5, 0.25, 0.0), std=(1, 1, 1))(image)
    theirs = np.asarray(whole(image, fit, *size), np.float32).transpose(2, 0, 1) / 255
    expected = theirs - np.asarray([0.5, 0.25, 0.0], np.float32)[:, None, None]
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("fit", ["pad_first", "crop_last"])
@pytest.mark.parametrize("size", [(1, 1), (6000, 1), (1, 6000)])
def test_one_pixel_of_height_or_width_is_a_picture(fit: str, size: tuple[int, int]) -> None:
    pixels_CHW = Preprocess(size=32, fit=fit, mean=(0.5, 0.5, 0.5), std=(1, 1, 1))(Image.new("RGB", size, (255,) * 3))
    assert pixels_CHW.shape == (3, 32, 32)
    assert pixels_CHW.max() <= 0.5
    if fit == "crop_last" or size == (1, 1):
        assert pixels_CHW.eq(0.5).all()


def test_many_transforms_together_give_what_each_gives_alone() -> None:
    image = gradient(37, 90)
    same = {"size": 32, "fit": "pad_first"}
    transforms = {
        "a": Preprocess(**same),
        "b": Preprocess(**same),
        "other_std": Preprocess(**same, std=(1, 1, 1)),
        "other_border": Preprocess(**same, mean=(0, 0, 1)),
        "cropped": Preprocess(size=32, fit="crop"),
        "padded": Preprocess(size=32, fit="pad"),
        "smaller": Preprocess(size=16, fit="pad"),
    }
    together = prepare_all(image, transforms)
    assert list(together) == list(transforms)
    assert all(torch.equal(together[name], transform(image)) for name, transform in transforms.items())
    assert together["a"] is together["b"]
