"""HallusionBench: the same question on changed figures (Guan et al. 2023)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import abilities
from ommatidia.eval.benchmarks.rows import Rows

_PLACE = ("category", "subcategory", "set_id", "figure_id", "question_id")


class HallusionBench(Published):
    """HallusionBench, the questions with an image, scored by yes and no without a judge."""

    kind: Literal["hallusion"] = "hallusion"
    group: Group = "general"

    facts = Facts(
        title="HallusionBench",
        repository="lmms-lab/HallusionBench",
        splits={"image": 951},
        metric="aAcc; fAcc, qAcc and their average beside it",
        traps="lmms-eval asks a judge and treats figure 0 apart: not comparable with this number",
    )
    release = abilities.HALLUSION
    versions: ClassVar[Versions] = {"official": {"max_new_tokens": 128, "scorer": "hallusion"}}
    columns = (*_PLACE, "question", "gt_answer", "image")

    def together(self, rows: Rows) -> Sequence[Hashable]:
        return list(zip(*(rows.column(name) for name in _PLACE[:3])))

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        target = {"1": "yes", "0": "no"}.get(str(row["gt_answer"]))
        if target is None:
            raise DataError(f"gt_answer is {row['gt_answer']!r}, expected 0 or 1")
        place = {name: str(row[name]) for name in _PLACE}
        name = "/".join(place.values())
        cluster = "/".join(place[part] for part in _PLACE[:3])
        images = [row["image"]]
        return at.sample(name, str(row["question"]), images, [target], task=row["category"], cluster=cluster, **place)
