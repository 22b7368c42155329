"""MathVista: mathematics in images (Lu et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ommatidia.core.errors import DataError
from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import LETTER, SHORT, Answer, Facts, Place, Published, Versions, lettered_lines
from ommatidia.eval.benchmarks.releases import abilities
from ommatidia.eval.scoring.mathvista import mathvista_extract

_REASON = "\nFirst show your reasoning process and then give the final answer."
_FORMS = {
    "integer": "Answer the question using a single integer number.",
    "float": "Answer the question using a single floating-point number with {} decimal place{}.",
    "list": "Answer the question using a Python list.",
}


class MathVista(Published):
    """MathVista testmini; by rules alone a lower bound of the official number, which lets a judge extract answers."""

    kind: Literal["mathvista"] = "mathvista"
    group: Group = "knowledge"

    facts = Facts(
        title="MathVista",
        repository="AI4Math/MathVista",
        splits={"testmini": 1000, "test": 5141},
        metric="accuracy after extraction by rules",
        traps="the official number lets a language model extract answers: without a judge this one is lower, and our "
        "judge's prompt is not the official one; under Cambrian-1's rule a choice with its reasoning never counts",
    )
    release = abilities.MATHVISTA
    versions: ClassVar[Versions] = {
        "lmms-eval": {"max_new_tokens": 16384, "scorer": "mathvista"},
        "cambrian": {"max_new_tokens": 512, "scorer": {"kind": "mathvista", "variant": "cambrian"}},
        "official": {"max_new_tokens": 1200, "scorer": "mathvista"},
    }
    columns = (
        "pid",
        "decoded_image",
        "question",
        "question_type",
        "answer_type",
        "choices",
        "precision",
        "answer",
        "query",
    )
    served = frozenset({"test"})

    def submitted(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """What the official scripts keep of every problem: its row, the words sent, the reply, and the answer in it
        where rules find one; where they find none, the script asks its language model."""
        return {answer.sample.id: _kept(answer) for answer in answers}

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        choices = list(row["choices"] or []) or None
        if self.prompt == "official":
            text = str(row["query"])
        elif self.prompt == "cambrian":
            text = str(row["query"]) + (_REASON if row["question_type"] == "multi_choice" else SHORT)
        else:
            text = self._formatted(row, choices)
        metadata = row.get("metadata") or {}
        return at.sample(
            row["pid"],
            text,
            [row["decoded_image"]],
            [row["answer"]] if row["answer"] else [],
            options=choices,
            answer_type=row["answer_type"],
            precision=None if row["precision"] is None else int(row["precision"]),
            task=metadata.get("task"),
            row={name: row[name] for name in row if name != "decoded_image"} if self.split in self.served else None,
        )

    def _formatted(self, row: Mapping[str, Any], choices: list[str] | None) -> str:
        question = f"{row['question']} (Unit: {row['unit']})" if row.get("unit") else str(row["question"])
        if choices is not None:
            return f"{question}\n{lettered_lines(choices)}{LETTER}"
        form = _FORMS.get(str(row["answer_type"]))
        if form is None:
            raise DataError(f"an open question of answer type {row['answer_type']!r}", sample=str(row["pid"]))
        places = int(row["precision"] or 1)
        return f"{question}\n{form.format('one' if places == 1 else 'two', '' if places == 1 else 's')}"


def _kept(answer: Answer) -> dict[str, Any]:
    meta = answer.sample.meta
    found = mathvista_extract(answer.text, answer_type=meta["answer_type"], choices=meta.get("options"))
    return {**meta["row"], "query": answer.sample.question.strip(), "response": answer.text, "extraction": found}
