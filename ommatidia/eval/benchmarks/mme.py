"""MME: fourteen abilities by pairs of yes-or-no questions (Fu et al. 2023)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import SHORT, Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import abilities
from ommatidia.eval.benchmarks.rows import Rows

_YES_OR_NO = " Please answer yes or no."


class Mme(Published):
    """MME: two yes-or-no questions an image; the headline is perception / 2000."""

    kind: Literal["mme"] = "mme"
    group: Group = "general"

    facts = Facts(
        title="MME",
        repository="lmms-lab/MME",
        splits={"test": 2374},
        metric="perception (of 2000) and cognition (of 800): accuracy plus the share of pictures with both right",
        traps="group averages take perception / 20; a limit that cuts pairs raises in other toolkits; the data's own "
        "suffix is dropped before the short-answer one",
    )
    release = abilities.MME
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16, "scorer": "mme"},
        "cambrian": {"max_new_tokens": 32, "scorer": {"kind": "mme", "variant": "cambrian_mme"}},
        "official": {"max_new_tokens": 16, "scorer": "mme"},
    }
    columns = ("image", "question", "question_id", "answer", "category")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        question = str(row["question"]).strip()
        text = question if self.prompt == "official" else question.replace(_YES_OR_NO, "") + SHORT
        place = f"{row['category']}/{row['question_id']}"
        # Two questions on one image differ in their words alone.
        return at.sample(
            f"{place}#{at.position}",
            text,
            [row["image"]],
            [row["answer"]],
            task=row["category"],
            pair=str(row["question_id"]),
            cluster=place,
        )

    def together(self, rows: Rows) -> Sequence[Hashable]:
        return list(zip(rows.column("category"), rows.column("question_id")))
