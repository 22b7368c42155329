"""MMBench: every question asked with its options in each rotation (Liu et al. 2023)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import LETTER, Answer, Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import choices
from ommatidia.eval.benchmarks.rows import Rows
from ommatidia.eval.scoring.mmbench import ROTATION

_EMPTY = (None, "", "nan")


class MmBench(Published):
    """MMBench in English: right only if right in every rotation, or plain."""

    kind: Literal["mmbench"] = "mmbench"
    group: Group = "general"
    circular: bool = True
    """False asks every question once, unrotated."""

    facts = Facts(
        title="MMBench",
        repository="lmms-lab/MMBench",
        config="en",
        splits={"dev": 4329, "test": 6666},
        metric="share of questions right in all rotations; plain accuracy beside it",
        traps="circular and plain differ by ten points; versions 1.0 and 1.1 and the copy MMBench_EN have other rows; "
        "without a judge, answers that rules cannot read are wrong; test is scored by a server",
    )
    release = choices.MMBENCH
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 1024, "scorer": {"kind": "mmbench", "variant": "mmbench_static"}},
        "cambrian": {"max_new_tokens": 512, "scorer": {"kind": "mmbench", "variant": "cambrian"}},
    }
    columns = ("image", "index", "question", "hint", "A", "B", "C", "D", "answer", "category", "L2-category")

    served = frozenset({"test"})
    submission_format = "xlsx"

    def submitted(self, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        rows = []
        for answer in answers:
            meta = answer.sample.meta
            options = {letter: meta["options"].get(letter) for letter in "ABCD"}
            asked = {"index": meta["index"], "question": meta["question"], "hint": meta.get("hint"), **options}
            named = {"category": meta["task"], "L2-category": meta["l2_category"]}
            rows.append({**asked, **named, "prediction": answer.text})
        return rows

    def kept(self, rows: Rows) -> list[int]:
        indices = rows.column("index")
        return [n for n, index in enumerate(indices) if self.circular or int(index) < ROTATION]

    def expected(self) -> int:
        return super().expected() if self.circular else 0

    def together(self, rows: Rows) -> Sequence[Hashable]:
        return [int(index) % ROTATION for index in rows.column("index")]

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        letters = "ABCD" if self.prompt == "cambrian" else "ABCDE"
        options = {letter: str(row[letter]) for letter in letters if row.get(letter) not in _EMPTY}
        lines = "\n".join(f"{letter}. {option}" for letter, option in options.items())
        hint = "" if row["hint"] in _EMPTY else str(row["hint"])
        if self.prompt == "cambrian":
            text = f"{hint}\n{row['question']}" if hint else str(row["question"])
            text = f"{text} Options:\n{lines}{LETTER}"
        else:
            text = f"{hint} {row['question']}" if hint else str(row["question"])
            text = f"{text} There are several options:\n{lines}\n{LETTER}"
        return at.sample(
            row["index"],
            text,
            [row["image"]],
            [] if row["answer"] in _EMPTY else [row["answer"]],
            options=options,
            index=int(row["index"]),
            question=str(row["question"]),
            hint=hint or None,
            task=row["category"],
            l2_category=row["L2-category"],
            cluster=int(row["index"]) % ROTATION,
        )
