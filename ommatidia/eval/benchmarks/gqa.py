"""GQA: compositional questions on scenes (Hudson and Manning 2019)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from ommatidia.core.contents import Contents
from ommatidia.core.errors import DataError
from ommatidia.core.files import file_digest
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import SHORT, Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import choices
from ommatidia.eval.benchmarks.rows import Rows, find_files, open_rows

_IMAGES = "testdev_balanced_images"


class Gqa(Published):
    """GQA test-dev, balanced; questions and images are two tables."""

    kind: Literal["gqa"] = "gqa"
    group: Group = "general"

    facts = Facts(
        title="GQA",
        repository="lmms-lab/GQA",
        config="testdev_balanced_instructions",
        splits={"testdev": 12578},
        metric="exact match without case and punctuation",
        traps="toolkits differ in punctuation and spaces; a limit of 16 tokens cuts answers with reasoning",
    )
    release = choices.GQA
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": "gqa"},
        "cambrian": {"max_new_tokens": 128, "scorer": {"kind": "gqa", "variant": "cambrian"}},
    }
    columns = ("imageId", "question", "answer", "id")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        image, text = str(row["imageId"]), str(row["question"]) + SHORT
        if "image" in row:
            return at.sample(row["id"], text, [row["image"]], [row["answer"]], cluster=image)
        files = self._image_files()
        rows, places = _pictures(tuple(files), tuple(map(file_digest, files)))
        if image not in places:
            raise DataError(f"no picture {image!r} among the {len(places)} of {_IMAGES}", sample=str(row["id"]))
        return at.sample(row["id"], text, [rows[places[image]]["image"]], [row["answer"]], cluster=image)

    def parts(self) -> list[tuple[str | None, str]]:
        return [*super().parts(), (_IMAGES, self.split)]

    def _image_files(self) -> list[Path]:
        if self.released():
            return []
        return find_files(self.root(), config=_IMAGES, split=self.split)

    def tables(self) -> Contents:
        images = {os.path.relpath(file, self.root()): file for file in self._image_files()}
        return Contents.joined([super().tables(), Contents.of_needed(images)])


@lru_cache(maxsize=4)
def _pictures(files: tuple[Path, ...], digests: tuple[str, ...]) -> tuple[Rows, dict[str, int]]:
    rows = open_rows(files)
    return rows, {str(name): position for position, name in enumerate(rows.column("id"))}
