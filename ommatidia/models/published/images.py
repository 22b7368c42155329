"""What a published image processor does to an image, in the words of an encoder's config; the rest is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ommatidia.core.errors import ConfigError
from ommatidia.models.published.fields import OUT, Fields
from ommatidia.models.vision.preprocess import CLIP_MEAN, CLIP_STD, HALF

FILES = ("preprocessor_config.json", "processor_config.json")
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers of its filters, which processors state."""
_TRUE = ("do_resize", "do_rescale", "do_normalize")
_IDLE = {
    **dict.fromkeys(
        (
            "processor_class",
            "return_tensors", "data_format", "input_data_format", "device", "disable_grouping", "do_convert_rgb",
            "default_to_square", "image_seq_length", "auto_map",
        ),
        "of transformers' own bookkeeping; images here are RGB always",
    ),
    "image_seq_length": "counts the marks of transformers' processor",
}  # fmt: skip
PROCESSOR = Fields(
    "image processor",
    frozenset({
        "image_mean", "image_std", "resample", "size", "crop_size", "do_center_crop", "do_pad", "rescale_factor",
        "image_grid_pinpoints", "image_processor_type", "feature_extractor_type",
    }),
    _IDLE,
    dict.fromkeys(_TRUE, (True,)),
)  # fmt: skip


def stated(folder: Path) -> dict[str, Any]:
    """The image processor's settings of a folder; empty where it has none. Raises ConfigError for broken JSON."""
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise ConfigError(f"{path}: not valid JSON") from None
        found = data.get("image_processor", data if name == FILES[0] else {})
        if found:
            return dict(found)
    return {}


def preparing(
    found: Mapping[str, Any], *, side: int, kind: str, pinpoints: list[list[int]] | None = None
) -> dict[str, Any]:
    """``fit``, ``interpolation``, ``mean`` and ``std`` of an encoder for the processor ``found``.

    ``kind``: ``clip`` (shortest edge, then cut), ``siglip`` (stretched), ``next`` (any resolution). ``side``: pixels of
    the encoder's square. Raises ConfigError by name for what an encoder's preprocessing here does not do.
    """
    PROCESSOR.check(found)
    title = str(found.get("image_processor_type") or found.get("feature_extractor_type") or "Llava")
    if not title.startswith(("CLIP", "Siglip", "Llava")):
        raise ConfigError(f"image processor: image_processor_type {title!r} is none of CLIP, SigLIP and LLaVA; {OUT}")
    pads = bool(found.get("do_pad")) and not title.startswith("CLIP")  # CLIP's own processor takes no notice of it
    factor = found.get("rescale_factor", 1 / 255)
    if factor is None or not math.isclose(factor, 1 / 255, rel_tol=1e-4):
        raise ConfigError(f"image processor: rescale_factor {factor!r} is not read here, 1/255 is; {OUT}")
    resample = found.get("resample", 3)
    if resample not in FILTERS or (kind == "next" and FILTERS[resample] != "bicubic"):
        raise ConfigError(f"image processor: resample {resample!r} is not read here, 3 (bicubic) is; {OUT}")
    _sizes(found, side, kind)
    if found.get("do_center_crop") is False and kind == "clip" and not pads:
        raise ConfigError(f"image processor: do_center_crop False gives images of many sizes; {OUT}")
    listed = found.get("image_grid_pinpoints")
    if listed is not None and kind == "next" and [list(pair) for pair in listed] != pinpoints:
        raise ConfigError(f"image processor: image_grid_pinpoints {listed} are not those of config.json, {pinpoints}")
    fit = {"next": "stretch_first", "siglip": "stretch_first"}.get(kind) or ("pad_first" if pads else "crop_last")
    mean, std = (HALF, HALF) if kind == "siglip" else (CLIP_MEAN, CLIP_STD)
    return {
        "fit": fit, "interpolation": FILTERS[resample], "mean": _three(found, "image_mean", mean),
        "std": _three(found, "image_std", std),
    }  # fmt: skip


def _sizes(found: Mapping[str, Any], side: int, kind: str) -> None:
    for name in ("size", "crop_size"):
        value = found.get(name)
        if value is None:
            continue
        sides = set(value.values()) if isinstance(value, Mapping) else {value}
        shape = set(value) if isinstance(value, Mapping) else {"shortest_edge"}
        known = [{"height", "width"}] if kind == "siglip" or name == "crop_size" else [{"shortest_edge"}]
        if kind == "next":
            known = [{"height", "width"}, {"shortest_edge"}]
        square = not isinstance(value, Mapping) or shape in known
        if kind == "siglip" and name == "crop_size" and not found.get("do_center_crop"):
            continue
        if sides != {side} or not square:
            raise ConfigError(
                f"image processor: {name} {value!r}: the encoder sees {side} x {side} pixels, made in one step; {OUT}"
            )


def _three(found: Mapping[str, Any], name: str, default: tuple[float, float, float]) -> list[float]:
    value = found.get(name)
    if value is None:
        return list(default)
    return [float(value)] * 3 if isinstance(value, int | float) else [float(one) for one in value]
