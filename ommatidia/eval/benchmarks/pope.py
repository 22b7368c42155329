"""POPE: is an object in the image? Random, popular and adversarial objects (Li et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import SHORT, Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import coco


class Pope(Published):
    """POPE: yes or no, is the object there; three kinds of objects."""

    kind: Literal["pope"] = "pope"
    group: Group = "general"

    facts = Facts(
        title="POPE",
        repository="lmms-lab/POPE",
        splits={"test": 9000},
        metric="accuracy; precision, recall, F1 pooled and averaged over kinds, share of yes",
        traps="tables print accuracy, pooled F1 or the mean of three F1s; the official parser reads all but no as yes; "
        "older random split has 2,910 questions",
    )
    release = coco.POPE
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 128, "scorer": {"kind": "pope", "variant": "exact"}},
        "cambrian": {"max_new_tokens": 128, "scorer": {"kind": "pope", "variant": "cambrian"}},
        "official": {"max_new_tokens": 128, "scorer": {"kind": "pope", "variant": "official"}},
    }
    columns = ("image", "question", "question_id", "answer", "category")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        question = str(row["question"]).strip()
        text = question if self.prompt == "official" else question + SHORT
        name = f"{row['category']}/{row['question_id']}"
        return at.sample(
            name, text, [row["image"]], [row["answer"]], task=row["category"], cluster=row.get("image_source")
        )
