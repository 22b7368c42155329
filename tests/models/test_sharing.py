"""Shared features: the trunks see an image once, and the answers are those of plain generation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_toys import Colour, config, mixed_samples, parts_of, sample

from ommatidia.core.errors import DataError
from ommatidia.core.types import ImagePart, Sample
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.sharing import SharedFeatures

SIX = Decoding(max_new_tokens=6)
TILED: dict[str, Any] = {
    "tiling": {"kind": "fixed_grid", "rows": 1, "columns": 2, "tile": 32, "whole": ["b"]},
    "fusion": {"kind": "channel_concat", "grid": [2, 1]},
}
VIT = {"kind": "timm", "model": "vit_tiny_patch16_224", "image_size": 32, "neck": {"kind": "linear", "dim": 8}}
STEERED: dict[str, Any] = {
    "encoders": {
        "low": {**VIT, "args": {"depth": 4, "embed_dim": 32, "num_heads": 2}},
        "high": {"kind": "patches", "patch": 8, "image_size": 64, "neck": {"kind": "linear", "dim": 8}},
    },
    "fusion": "mixture_of_resolution",
}


def questions(pictures: int, each: int) -> list[Sample]:
    return [
        sample(ImagePart(0), f"\nWhat is{' really' * n} it?", answer=None, images=(Colour(60 * p, p),), name=f"{p}-{n}")
        for n in range(each)
        for p in range(pictures)
    ]


def views_seen(model: MLLM) -> dict[str, int]:
    """Rows that pass each trunk from now on."""
    seen = dict.fromkeys(model.encoders, 0)

    def count(name: str) -> Any:
        def hook(module: Any, given: tuple[torch.Tensor, ...], out: Any) -> None:
            seen[name] += len(given[0])

        return hook

    for name, encoder in model.encoders.items():
        encoder.trunk.register_forward_hook(count(name))
    return seen


@pytest.mark.parametrize("changes", [{}, TILED], ids=["whole", "tiled"])
def test_a_picture_is_seen_once_however_many_questions(changes: dict[str, Any]) -> None:
    model, processor = parts_of(config("a", "b", **changes))
    asked = questions(pictures=3, each=4)
    expected = generate(model, processor, asked, SIX)
    assert len(set(expected)) > 1
    seen = views_seen(model)
    generate(model, processor, asked, SIX)
    alone = dict(seen)
    shared = SharedFeatures(model, processor, batch=5)
    seen.update(dict.fromkeys(seen, 0))
    assert shared.answer(asked, SIX) == expected
    assert {name: alone[name] / seen[name] for name in seen} == {"a": 4.0, "b": 4.0}
    assert shared.looked == 3
    assert shared.answer(asked[::-1], SIX) == expected[::-1]
    assert shared.looked == 3


@pytest.mark.parametrize("capacity", [0, 2**12])
def test_little_memory_costs_looks_and_no_answers(capacity: int) -> None:
    model, processor = parts_of(config("a", "b"))
    asked = questions(pictures=4, each=3)
    small = SharedFeatures(model, processor, batch=2, capacity=capacity)
    assert small.answer(asked, SIX) == generate(model, processor, asked, SIX)
    assert 4 <= small.looked <= 12
    assert len(small._kept.maps) <= 4


def test_text_several_pictures_and_no_encoders() -> None:
    for cfg in (config("a", "b"), config("a"), config()):
        model, processor = parts_of(cfg)
        asked = mixed_samples()
        expected = generate(model, processor, asked, SIX)
        assert SharedFeatures(model, processor).answer(asked, SIX) == expected
        shared = SharedFeatures(model, processor, batch=1)
        assert [shared.answer([one], SIX)[0] for one in asked] == expected


def test_a_steered_encoder_goes_on_seeing_pixels() -> None:
    data = config("a").to_dict() | STEERED
    cfg = type(config("a")).parse(data)
    model, processor = parts_of(cfg)
    shared = SharedFeatures(model, processor)
    steered = cfg.fusion.steered(tuple(cfg.encoders))
    assert steered
    assert set(shared.names) == set(cfg.encoders) - steered
    asked = questions(pictures=2, each=2)
    expected = generate(model, processor, asked, SIX)
    seen = views_seen(model)
    assert shared.answer(asked, SIX) == expected
    assert {name: seen[name] for name in shared.names} == dict.fromkeys(shared.names, 2)


def test_a_broken_picture_names_its_sample() -> None:
    class Broken(Colour):
        def open(self) -> Any:
            raise DataError("no such image file")

    model, processor = parts_of(config("a"))
    bad = sample(ImagePart(0), "What?", answer=None, images=(Broken(9),), name="bad")
    with pytest.raises(DataError, match="no such image file") as caught:
        SharedFeatures(model, processor).answer([*questions(1, 2), bad], SIX)
    assert caught.value.sample == "bad"
