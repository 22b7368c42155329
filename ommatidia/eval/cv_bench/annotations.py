"""Annotated images in three published formats, read into one shape.

Coordinates in pixels, x to the right and y down; points in space in metres, seen from the camera at the origin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ommatidia.core.errors import DataError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of an image."""

    name: str
    box: Box
    crowd: bool = False
    """Several objects under one mark, which cannot be counted."""
    corners: tuple[tuple[float, float, float], ...] = ()
    """The eight corners of its box in space, where it has one."""
    seen: bool = True
    """Whether the annotation is good enough to ask about: valid, in front of the camera, hardly hidden or cut."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One image with all its objects."""

    file: Path
    size: tuple[int, int]
    """Height and width."""
    things: tuple[Thing, ...]
    source: str
    """COCO, ADE20K or Omni3D, which decides how CV-Bench weighs a question."""
    dataset: str
    """The part of the source it comes from, in words."""


def read_coco(annotations: Path, pictures: Path, *, dataset: str = "COCO 2017 Validation Set") -> list[Scene]:
    """COCO's instances_*.json: images, categories, and annotations with bbox (left, top, width, height) and iscrowd.

    Raises DataError where a field is missing.
    """
    data = _json(annotations)
    try:
        names = {category["id"]: str(category["name"]) for category in data["categories"]}
        found: dict[int, list[Thing]] = {}
        for one in data["annotations"]:
            left, top, width, height = (float(v) for v in one["bbox"])
            thing = Thing(names[one["category_id"]], (left, top, left + width, top + height), bool(one.get("iscrowd")))
            found.setdefault(one["image_id"], []).append(thing)
        return [
            Scene(
                pictures / image["file_name"],
                (int(image["height"]), int(image["width"])),
                tuple(found.get(image["id"], ())),
                "COCO",
                dataset,
            )
            for image in data["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _unlike(annotations, "COCO instances", error) from None


def read_ade20k(folder: Path, *, dataset: str = "ADE20K Validation Set") -> list[Scene]:
    """ADE20K's full release: NAME.jpg with NAME_seg.png and NAME.json, anywhere below ``folder``.

    In the mask a pixel's class is red // 10 * 256 + green and its object blue; the JSON's objects name the classes.
    Several synonyms count as the first. Objects that are parts of others are left out. Raises DataError.
    """
    from PIL import Image

    scenes = []
    for mask in sorted(folder.rglob("*_seg.png")):
        stem = mask.name.removesuffix("_seg.png")
        described = mask.with_name(f"{stem}.json")
        try:
            objects = _json(described)["annotation"]["object"]
            whole = [one for one in objects if int(one.get("parts", {}).get("part_level") or 0) == 0]
            names = {int(one["name_ndx"]): str(one["name"]).split(",")[0].strip() for one in whole}
        except (KeyError, TypeError, ValueError) as error:
            raise _unlike(described, "ADE20K objects", error) from None
        try:
            with Image.open(mask, formats=["PNG"]) as image:
                rgb_HW3 = np.asarray(image.convert("RGB")).astype(np.int64)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{mask}: no readable PNG ({' '.join(str(error).split())})") from None
        things = tuple(_masked(rgb_HW3, names))
        scenes.append(Scene(mask.with_name(f"{stem}.jpg"), rgb_HW3.shape[:2], things, "ADE20K", dataset))
    if not scenes:
        raise DataError(f"{folder}: no *_seg.png below this folder")
    return scenes


def _masked(rgb_HW3: NDArray[np.int64], names: Mapping[int, str]) -> list[Thing]:
    """The objects of a mask, by class and number."""
    class_HW = rgb_HW3[..., 0] // 10 * 256 + rgb_HW3[..., 1]
    label_HW = class_HW * 256 + rgb_HW3[..., 2]
    things = []
    for label in np.unique(label_HW):
        name = names.get(int(label) // 256)
        if name is None:
            continue
        rows, columns = np.nonzero(label_HW == label)
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        things.append(Thing(name, box))
    return things


def read_omni3d(annotations: Path, pictures: Path, *, hidden: float = 0.33) -> list[Scene]:
    """Omni3D's JSON: images with file_path, annotations with bbox3D_cam (8 corners) and 2D boxes (left, top, right,
    bottom).

    An object is not asked about when valid3D is false, it lies behind the camera, or more than ``hidden`` of it is cut
    off or covered. Raises DataError where a field is missing.
    """
    data = _json(annotations)
    try:
        found: dict[int, list[Thing]] = {}
        for one in data["annotations"]:
            corners = tuple((float(x), float(y), float(z)) for x, y, z in one["bbox3D_cam"])
            box = _flat(one)
            shown = float(one.get("visibility", 1.0)) if float(one.get("visibility", 1.0)) >= 0 else 1.0
            cut = max(float(one.get("truncation", 0.0)), 0.0)
            seen = bool(one["valid3D"]) and not one.get("behind_camera") and box is not None
            seen = seen and cut <= hidden and 1.0 - shown <= hidden
            thing = Thing(str(one["category_name"]), box or (0.0, 0.0, 0.0, 0.0), corners=corners, seen=seen)
            found.setdefault(one["image_id"], []).append(thing)
        name = str(data.get("info", {}).get("name", "Omni3D"))
        return [
            Scene(
                pictures / image["file_path"],
                (int(image["height"]), int(image["width"])),
                tuple(found.get(image["id"], ())),
                "Omni3D",
                name,
            )
            for image in data["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _unlike(annotations, "Omni3D", error) from None


def _flat(one: Mapping[str, Any]) -> Box | None:
    """The object's box in the image: the tight one where it is known, which is marked by -1 where it is not."""
    for key in ("bbox2D_tight", "bbox2D_trunc", "bbox2D_proj"):
        box: Sequence[Any] | None = one.get(key)
        if box is not None and len(box) == 4 and float(box[0]) != -1:
            return float(box[0]), float(box[1]), float(box[2]), float(box[3])
    return None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None


def _unlike(path: Path, form: str, error: Exception) -> DataError:
    return DataError(f"{path}: not in the form of {form} ({type(error).__name__}: {error})")
