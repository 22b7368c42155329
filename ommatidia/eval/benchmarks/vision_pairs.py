"""Vision-centric sets: MMVP and CV-Bench."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar, Literal

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import LETTER, Facts, Place, Published, Versions, lettered_lines
from ommatidia.eval.benchmarks.releases import choices
from ommatidia.eval.benchmarks.rows import Rows, find_files

_OPTION = re.compile(r"\([a-z]\)\s*(.*?)(?=\s*\([a-z]\)|$)", re.IGNORECASE | re.DOTALL)


class Mmvp(Published):
    """MMVP (Tong et al. 2024): pairs of images that CLIP confuses; both must be right."""

    kind: Literal["mmvp"] = "mmvp"
    group: Group = "vision_centric"

    facts = Facts(
        title="MMVP",
        repository="lmms-lab-eval/MMVP",
        splits={"train": 300},
        metric="share of pairs with both right; item accuracy beside it",
        traps="pair and item accuracy differ widely; this copy has the answers of two pairs mended",
    )
    release = choices.MMVP
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": {"kind": "mmvp", "variant": "mmvp"}},
        "cambrian": {"max_new_tokens": 512, "scorer": {"kind": "mmvp", "variant": "cambrian_mmvp"}},
    }
    columns = ("Index", "Question", "Options", "Correct Answer", "image")

    def together(self, rows: Rows) -> Sequence[Hashable]:
        return [(int(index) - 1) // 2 for index in rows.column("Index")]

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        options = [option.strip() for option in _OPTION.findall(str(row["Options"]))]
        if len(options) != 2:
            raise DataError(f"{len(options)} options in {row['Options']!r}, expected (a) ... (b) ...")
        middle = " Options:\n" if self.prompt == "cambrian" else "\n"
        text = f"{row['Question']}{middle}{lettered_lines(options)}{LETTER}"
        target = str(row["Correct Answer"]).strip(" ()").upper()
        pair = (int(row["Index"]) - 1) // 2
        return at.sample(row["Index"], text, [row["image"]], [target], options=options, pair=pair, cluster=pair)


class CvBench(Published):
    """CV-Bench (Tong et al. 2024): relation and count in 2D, depth and distance in 3D."""

    kind: Literal["cv_bench"] = "cv_bench"
    group: Group = "vision_centric"
    part: Literal["2D", "3D"]

    facts = Facts(
        title="CV-Bench",
        repository="nyu-visionx/CV-Bench",
        splits={"test": 2638},
        metric="2D: mean of ADE20K and COCO accuracy; 3D: accuracy on Omni3D",
        traps="sources count alike in 2D, lmms-eval averages questions instead; its rule reads a word's first letter",
    )
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 1024, "scorer": {"kind": "cv_bench", "variant": "cv_bench"}},
        "cambrian": {"max_new_tokens": 512, "scorer": {"kind": "cv_bench", "variant": "cambrian"}},
    }
    columns = ("idx", "prompt", "choices", "answer", "type", "task", "source")

    def stem(self) -> str:
        return f"{self.split}_{self.part.lower()}"

    def _files(self) -> list[Path]:
        """The part's own file, or one of both parts."""
        try:
            return find_files(self.root(), config=None, split=self.stem())
        except DataError:
            return find_files(self.root(), config=None, split=self.split)

    def kept(self, rows: Rows) -> list[int]:
        return [n for n, kind in enumerate(rows.column("type")) if kind == self.part]

    def expected(self) -> int:
        return {"2D": 1438, "3D": 1200}[self.part]

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        letters = ", ".join(ascii_uppercase[: len(row["choices"])])
        note = f"Note: You only need to respond with {letters} without providing any additional information.\n\n"
        text = str(row["prompt"]) + LETTER if self.prompt == "cambrian" else note + str(row["prompt"])
        target = str(row["answer"]).strip("()")
        return at.sample(
            f"{self.part}/{row['idx']}",
            text,
            [row["filename"] if row.get("image") is None else row["image"]],
            [target],
            options=list(row["choices"]),
            task=row["task"],
            source=row["source"],
            cluster=row.get("source_filename") or row.get("filename"),
        )
