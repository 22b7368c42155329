"""What the recipes of published studies have in common: catalog encoders fitted to them, and data below one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.lab.search import Search
from ommatidia.models.language import CHAT_FORMATS
from ommatidia.models.vision.catalog import lookup


def encoder(name: str, **changes: Any) -> dict[str, Any]:
    """The catalog's encoder with some fields changed, such as its ``fit``."""
    return {**lookup(name), **changes}


def sources(data: str, **files: tuple[str, int | None] | tuple[str, int | None, str]) -> dict[str, Any]:
    """A mixture of LLaVA-format files below the folder ``data``: by name their path, about how many records were
    published (None: nobody says), and the folder of their images where that is not the file's own. Every record
    counts alike: an epoch shows each once."""
    return {"sources": {name: {"source": _source(data, *file)} for name, file in files.items()}}


def shares(data: str, **files: tuple[str, float]) -> dict[str, Any]:
    """A mixture of LLaVA-format files by fixed shares of the stream: by name their path and their weight."""
    return {
        "sources": {name: {"source": _source(data, path), "weight": weight} for name, (path, weight) in files.items()}
    }


def _source(data: str, path: str, about: int | None = None, images: str | None = None) -> dict[str, Any]:
    root = None if images is None else str(PurePath(data, images))
    return {"kind": "llava_json", "path": str(PurePath(data, path)), "image_root": root, "about": about}


def llava_captions(data: str) -> dict[str, Any]:
    """The 558 thousand captions of LLaVA-1.5's first stage, which several studies share."""
    file = "LLaVA-Pretrain/blip_laion_cc_sbu_558k.json"
    return sources(data, captions=(file, 558_000, "LLaVA-Pretrain/images"))


def llava_dialogues(data: str) -> dict[str, Any]:
    """The 665 thousand dialogues of LLaVA-1.5's second stage, laid out as there: beside the folders of images."""
    return sources(data, sft=("llava_v1_5_mix665k.json", 665_000))


def plain(start: str = "<s>") -> dict[str, Any]:
    """LLaVA's form of a stage of captions: the mark that the tokenizer sets before a text, image, caption, newline.
    What was asked is left out."""
    return {**CHAT_FORMATS["plain"], "start": start}


def listed(name: str, designs: Mapping[str, Mapping[str, Any]], *, benchmarks: Sequence[str] = ()) -> Search:
    """A search over designs that are written out, by what each is called, all asked the same benchmarks."""
    asked = [BENCHMARKS[one] for one in benchmarks]
    recipes = [{**design, "name": title, "benchmarks": asked} for title, design in designs.items()]
    return Search.parse({"name": name, "strategy": {"kind": "listed", "recipes": recipes}})
